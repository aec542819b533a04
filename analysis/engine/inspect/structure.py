"""Which rows, columns and blocks of a matrix are empty, and which N:M patterns hold, seen piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

BLOCK = 32
GROUPS = (2, 4, 8, 16)
_LANES = {2: np.uint16, 4: np.uint32, 8: np.uint8, 16: np.uint16}  # of bytes below 8, of bits from 8 on


@dataclass
class Structure:
    """What is known of the rows [begin, end) of a matrix.

    Attributes:
        begin: first row, a multiple of 32.
        cols: slices of the second dimension.
        inner: values behind one row and column (the area of a convolution's kernel).
        square: whether blocks of 32 × 32 and groups along a row mean anything: two dimensions.
        row_used: bool [end − begin], whether a row holds anything but zeros.
        col_used: bool [cols].
        blocks_empty: blocks of 32 × 32 that are zero throughout; a smaller rest at an edge counts as one.
        most: size of a group of neighbours along the row → the most non-zeros seen in one.
    """

    begin: int
    cols: int
    inner: int
    square: bool
    row_used: np.ndarray
    col_used: np.ndarray
    blocks_empty: int = 0
    most: dict[int, int] = field(default_factory=dict)
    _band: np.ndarray | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...], begin: int, end: int) -> Structure:
        """Starts with nothing seen of the rows [begin, end) of a tensor of at least two dimensions."""
        cols, inner = shape[1], int(np.prod(shape[2:], dtype=np.int64))
        most = {m: 0 for m in GROUPS if cols and cols % m == 0} if len(shape) == 2 else {}
        used = (np.zeros(end - begin, dtype=bool), np.zeros(cols, dtype=bool))
        return cls(begin, cols, inner, len(shape) == 2, *used, most=most)

    def full(self, row: int, rows: int) -> None:
        """Takes whole rows that hold no zero at all."""
        self.row_used[row - self.begin : row - self.begin + rows] = True
        self.col_used[:] = True
        self.most = {m: m for m in self.most}

    def add(self, row: int, nonzero: np.ndarray) -> None:
        """Takes whole rows, from a multiple of 32 on.

        Args:
            row: number of the first.
            nonzero: bool [rows × cols × inner], flat.
        """
        width = self.cols * self.inner
        flags = nonzero.view(np.uint8).reshape(-1, width)
        rows = len(flags)
        self._groups(nonzero)
        at = row - self.begin
        if not self.square:
            self.row_used[at : at + rows] = flags.any(axis=1)
            self.col_used |= flags.reshape(rows, self.cols, self.inner).any(axis=(0, 2))
            return
        self.row_used[at : at + rows] = _any(flags, 1)
        for first in range(0, rows, BLOCK):
            self._close(_any(flags[first : first + BLOCK], 0))

    def add_part(self, row: int, offset: int, nonzero: np.ndarray) -> None:
        """Takes a stretch of one row that is too long to be held whole.

        Args:
            row: its number; rows come in order.
            offset: where in the row it begins, in values, a multiple of 16.
            nonzero: bool [n].
        """
        self._groups(nonzero)
        places = np.flatnonzero(nonzero) + offset
        self.row_used[row - self.begin] |= bool(places.size)
        self.col_used[places // self.inner] = True
        if not self.square:
            return
        if self._band is None:
            self._band = np.zeros(self.cols, dtype=bool)
        self._band[places] = True
        last = row + 1 == self.begin + len(self.row_used)
        if offset + nonzero.size == self.cols and (row % BLOCK == BLOCK - 1 or last):
            self._close(self._band)
            self._band = None

    def _close(self, band: np.ndarray) -> None:
        """Counts the empty blocks of 32 rows, given which of their columns are used."""
        self.col_used |= band.astype(bool, copy=False)
        whole = self.cols // BLOCK * BLOCK
        used = band[:whole].reshape(-1, BLOCK).any(axis=1)
        self.blocks_empty += int(used.size - np.count_nonzero(used))
        if whole < self.cols:
            self.blocks_empty += int(not band[whole:].any())

    def _groups(self, nonzero: np.ndarray) -> None:
        for size in [m for m, seen in self.most.items() if seen < m]:
            self.most[size] = max(self.most[size], _most(nonzero, size))

    def join(self, other: Structure) -> None:
        """Takes in the rows that follow."""
        self.row_used = np.concatenate([self.row_used, other.row_used])
        self.col_used |= other.col_used
        self.blocks_empty += other.blocks_empty
        self.most = {m: max(seen, other.most[m]) for m, seen in self.most.items()}


def _most(nonzero: np.ndarray, size: int) -> int:
    """The most True values in a group of neighbours."""
    if size >= 8:
        return int(np.bitwise_count(np.packbits(nonzero).view(_LANES[size])).max(initial=0))
    kind = _LANES[size]
    ones = kind(int("01" * size, 16))  # bytes of 0 and 1 add up in the upper byte of a product
    with np.errstate(over="ignore"):
        return int(((nonzero.view(kind) * ones) >> kind(8 * (size - 1))).max(initial=0))


def _any(flags: np.ndarray, axis: int) -> np.ndarray:
    """``flags.any(axis)`` of bytes of 0 and 1, in 64-bit lanes where the rows allow it."""
    if flags.shape[1] % 8 or not flags.flags.c_contiguous:
        return np.asarray(flags.any(axis=axis))
    lanes = np.bitwise_or.reduce(flags.view(np.uint64), axis=axis)
    return lanes != 0 if axis == 1 else lanes.view(bool)
