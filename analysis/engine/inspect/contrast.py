"""Two tensors of one shape against each other, in one pass and bounded memory.

Every number comes from four sums (squares of a, b and b − a, and a·b), the largest difference, and two exact
tables of counts that add up over pieces, tensors and layers:

plane: counts [256 × 256] of a code of a and a code of b. A code is one byte: the sign, and below it 0 for an
    exact zero or 1 … 127 for the size, four bins to a factor of two, the outer ones holding all beyond.
sizes: counts [65536] by the upper 16 bits of |a| as float32 without its sign, plus 32,768 where b is zero.
    For bfloat16 that is the exact size of a, for others its size to within 1/128.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
MASKS = {**FLOATS, "BOOL": "|u1", "U8": "|u1", "I8": "|i1"}
BINS = 127
LAST = (127 + 6) * 4 - 1  # the bin that ends at 2^6
FIRST = LAST - BINS + 1
MOST_ROWS = 1 << 22  # a tensor of more rows or columns is not looked at by row and column
_MAGNITUDE, _INFINITE = np.uint16(0x7FFF), np.uint16(0x7F80)
# Upper 16 bits of 2^50 and 2^-50: squares of what lies between them neither overflow nor vanish in float32.
_LARGE, _SMALL = (127 + 50) << 7, (127 - 50) << 7


def edges() -> np.ndarray:
    """Gives the sizes between the bins of the plane: float64 [BINS + 1], rising from about 2⁻²⁶ to 64."""
    codes = np.arange(FIRST, LAST + 2)
    return 2.0 ** (codes // 4 - 127) * (1 + codes % 4 / 4)


@dataclass(frozen=True)
class Values:
    """Some values of one side: as numbers, by the upper 16 bits of their float32, and which are zero."""

    wide: np.ndarray
    top: np.ndarray
    zero: np.ndarray

    def only(self, chosen: np.ndarray) -> Values:
        """Returns those at which ``chosen`` is true."""
        return Values(self.wide[chosen], self.top[chosen], self.zero[chosen])


def widen(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Turns stored elements into float32, or float64 where they are that."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw if dtype == "F64" else raw.astype(np.float32, copy=False)


def values(raw: np.ndarray, dtype: str, mask: np.ndarray | None = None) -> Values:
    """Takes stored elements apart, multiplied by a mask of as many numbers where there is one."""
    wide = widen(raw, dtype)
    if mask is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            wide = wide * mask.astype(wide.dtype, copy=False)
    elif dtype == "BF16":
        return Values(wide, raw, (raw & _MAGNITUDE) == 0)
    narrow = wide
    if wide.dtype == np.float64:
        with np.errstate(under="ignore"):
            narrow = np.where(np.isfinite(wide), wide.clip(-3e38, 3e38), wide).astype(np.float32)
    return Values(wide, (narrow.view(np.uint32) >> 16).astype(np.uint16), wide == 0)


def code(top: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Gives the code of each value for the plane, uint16 below 256; a negative zero is 128."""
    out = (top & _MAGNITUDE) >> 5
    np.clip(out, FIRST, LAST, out=out)
    out -= np.uint16(FIRST - 1)
    np.subtract(
        out, zero.view(np.uint8), out=out
    )  # a zero lies in the lowest bin, one above where it belongs
    out |= (top >> 8) & np.uint16(0x80)
    return out


class Seen:
    """Which rows and columns of one side hold anything but zeros.

    Rows are slices of the first dimension, columns of the second; below two dimensions there are none.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.flat = len(shape) < 2 or max(shape[:2]) > MOST_ROWS or not math.prod(shape)
        self.width, self.inner = (1, 1) if self.flat else (shape[1], math.prod(shape[2:]))
        self.rows = np.zeros(0 if self.flat else shape[0], dtype=bool)
        self.cols = np.zeros(0 if self.flat else shape[1], dtype=bool)

    def add(self, zero: np.ndarray, start: int) -> None:
        """Takes which elements are zero, from the element ``start`` on."""
        if self.flat:
            return
        row, end, zeros = self.width * self.inner, start + zero.size, int(np.count_nonzero(zero))
        if start % row or end % row:
            places = np.flatnonzero(~zero) + start
            self.rows[places // row] = True
            self.cols[places // self.inner % self.width] = True
            return
        used = ~zero.reshape(-1, row)
        self.rows[start // row : end // row] = used.any(axis=1) if zeros >= row else True
        if zeros < len(used) * self.inner:  # too few to fill a column
            self.cols[:] = True
        elif not self.cols.all():
            self.cols |= used.any(axis=0).reshape(self.width, self.inner).any(axis=1)


@dataclass
class Contrast:
    """What has been counted of one pair, or of a part of it."""

    shape: tuple[int, ...]
    count: int = 0
    bad: int = 0
    largest: float = 0.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(4))
    plane: np.ndarray = field(default_factory=lambda: np.zeros(65536, dtype=np.int64))
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(65536, dtype=np.int64))

    def __post_init__(self) -> None:
        self.seen = Seen(self.shape), Seen(self.shape)

    def add(self, a: Values, b: Values, start: int) -> None:
        """Counts a piece of both sides, from the element ``start`` on."""
        for seen, side in zip(self.seen, (a, b), strict=True):
            seen.add(side.zero, start)
        peaks = [int((side.top & _MAGNITUDE).max(initial=0)) for side in (a, b)]
        if max(peaks) >= _INFINITE:
            good = ((a.top & _MAGNITUDE) < _INFINITE) & ((b.top & _MAGNITUDE) < _INFINITE)
            self.bad += good.size - int(np.count_nonzero(good))
            a, b = a.only(good), b.only(good)
            peaks = [int((side.top & _MAGNITUDE).max(initial=0)) for side in (a, b)]
        self.count += a.top.size
        self._measure(a.wide, b.wide, peaks)
        joint = code(a.top, a.zero) << 8
        joint |= code(b.top, b.zero)
        self.plane += np.bincount(joint, minlength=65536)
        self.sizes += np.bincount((a.top & _MAGNITUDE) | (b.zero.astype(np.uint16) << 15), minlength=65536)

    def _measure(self, a: np.ndarray, b: np.ndarray, peaks: list[int]) -> None:
        if any(peak < _SMALL or peak > _LARGE for peak in peaks):
            a, b = a.astype(np.float64), b.astype(np.float64)
        d = b - a
        largest = float(np.abs(d).max(initial=0.0))
        if 0 < largest < 2.0**-50:
            d = d.astype(np.float64)
        self.largest = max(self.largest, largest)
        self.sums += [float(np.dot(a, a)), float(np.dot(b, b)), float(np.dot(d, d)), float(np.dot(a, b))]

    def pack(self) -> dict[str, Any]:
        """Makes it small enough to be sent between processes: full cells only, eight flags to a byte."""
        return {
            "numbers": (self.count, self.bad, self.largest),
            "sums": self.sums,
            "plane": full(self.plane),
            "sizes": full(self.sizes),
            "seen": [(np.packbits(s.rows), np.packbits(s.cols)) for s in self.seen],
        }

    def merge(self, packed: dict[str, Any]) -> None:
        """Adds what was counted of another part of the same pair."""
        count, bad, largest = packed["numbers"]
        self.count, self.bad, self.largest = self.count + count, self.bad + bad, max(self.largest, largest)
        self.sums += packed["sums"]
        for table, (cells, counts) in ((self.plane, packed["plane"]), (self.sizes, packed["sizes"])):
            table[cells] += counts
        for seen, (rows, cols) in zip(self.seen, packed["seen"], strict=True):
            seen.rows |= np.unpackbits(rows, count=seen.rows.size).astype(bool)
            seen.cols |= np.unpackbits(cols, count=seen.cols.size).astype(bool)

    def row(self) -> dict[str, Any]:
        """Returns the numbers of the pair; None for what it has not."""
        cells, counts = full(self.plane)
        a, b = cells >> 8, cells & 255
        no_a, no_b = a & 127 == 0, b & 127 == 0
        flipped = ~no_a & ~no_b & ((a ^ b) & 128 != 0)
        aa, bb, dd, ab = (float(s) for s in self.sums)
        size = math.sqrt(aa) * math.sqrt(bb)
        out = {
            "compared": self.count,
            "non_finite": self.bad,
            "l2": math.sqrt(dd),
            "norm_a": math.sqrt(aa),
            "norm_b": math.sqrt(bb),
            "cosine": max(-1.0, min(1.0, ab / size)) if size else None,
            "largest": self.largest,
            "sign_flips": int(counts[flipped].sum()),
            "zeros_a": int(counts[no_a].sum()),
            "zeros_b": int(counts[no_b].sum()),
            "zeros_gained": int(counts[no_b & ~no_a].sum()),
            "zeros_lost": int(counts[no_a & ~no_b].sum()),
            "both": int(counts[~no_a & ~no_b].sum()),
        }
        first, second = self.seen
        for name, of_a, of_b in (("rows", first.rows, second.rows), ("cols", first.cols, second.cols)):
            gone, back = int((of_a & ~of_b).sum()), int((of_b & ~of_a).sum())
            out |= (
                {f"{name}_emptied": None, f"{name}_filled": None}
                if first.flat
                else {f"{name}_emptied": gone, f"{name}_filled": back}
            )
        return out


def full(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists the cells of a table of counts that are not empty, and their counts."""
    cells = np.flatnonzero(table)
    return cells.astype(np.uint16), table[cells]
