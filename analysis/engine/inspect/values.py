"""Statistics of one tensor in one pass and bounded memory: counts of bit patterns give the rest (``kinds``).

A tensor is read in spans of whole rows, so that two processes can share it; what they found is added up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.engine.inspect.header import Entry, open_regular
from analysis.engine.inspect.kinds import (
    KINDS,
    RELATIVE_WIDTH,
    Kind,
    codes,
    edges,
    nonzero,
    zero_codes,
)
from analysis.engine.inspect.reading import CHUNK, as_matrix, by_rows, pieces, read
from analysis.engine.inspect.structure import Structure

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


MANY = 2 / 3  # share of zeros so far above which leaving them out is faster than counting them
# ``bincount`` takes machine words: one place for them saves a copy of its own and the faults of new memory.
# One thread of a process uses it at a time.
_PLACES = np.empty(CHUNK, dtype=np.intp)
_NONE = np.zeros(0, dtype=np.int64)


@dataclass
class Tally:
    """What has been counted of one tensor so far.

    Attributes:
        dtype: number type, a key of ``KINDS``.
        count: values seen.
        zeros: exact zeros among them.
        bad: values that are no finite number.
        low: smallest finite value.
        high: largest.
        total: sum of the finite values.
        squares: sum of their squares.
        seen: codes that occurred, rising, and how often, int64 [n]; there once ``close`` was called.
    """

    dtype: str
    count: int = 0
    zeros: int = 0
    bad: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    seen: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (_NONE, _NONE))
    _buckets: np.ndarray | None = None

    @property
    def kind(self) -> Kind:
        """The number type."""
        return KINDS[self.dtype]

    def add(self, raw: np.ndarray) -> int:
        """Counts some values, one item each; returns how many are zero."""
        self.count += raw.size
        sparse = not self.kind.codes or self.zeros > MANY * self.count
        zeros = self._sparse(raw) if sparse else self._dense(raw)
        self.zeros += zeros
        return zeros

    def _sparse(self, raw: np.ndarray) -> int:
        """Counts what is not zero: one and the same bucket over and over would stall the processor."""
        rest = raw
        if raw.nbytes % 8 == 0:  # whole machine words of zeros go first: there are fewer words to look at
            words = raw.view(np.uint64)
            rest = words.take(np.flatnonzero(words != 0)).view(raw.dtype)
        rest = rest.take(np.flatnonzero(nonzero(self.kind, rest)))
        if self.kind.codes:
            self._note(rest, self._codes(rest))
        else:
            self._extremes(rest)
            self.total += float(rest.sum(dtype=np.float64))
        return raw.size - rest.size

    def _dense(self, raw: np.ndarray) -> int:
        """Counts everything, and takes the few zeros out again."""
        seen = self._codes(raw)
        zeros = int(seen[zero_codes(self.dtype)].sum())
        if zeros and not self.kind.exact:  # some may only be very small
            gone = raw.take(np.flatnonzero(~nonzero(self.kind, raw)))
            np.subtract.at(seen, codes(self.dtype, gone), 1)
            zeros = gone.size
        elif zeros:
            seen[zero_codes(self.dtype)] = 0
        self._note(raw, seen)
        return zeros

    def _codes(self, raw: np.ndarray) -> np.ndarray:
        places = _PLACES[: raw.size]
        np.copyto(places, codes(self.dtype, raw), casting="unsafe")
        return np.bincount(places, minlength=self.kind.codes)

    def _note(self, raw: np.ndarray, seen: np.ndarray) -> None:
        if self._buckets is None:
            self._buckets = seen
        else:
            self._buckets += seen
        if not self.kind.exact:
            self._wide(raw, seen)

    def _extremes(self, values: np.ndarray) -> None:
        if values.size:
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def _wide(self, raw: np.ndarray, seen: np.ndarray) -> None:
        values = np.abs(raw) if self.dtype == "C64" else raw
        if seen[np.isnan(edges(self.dtype))].any():  # in single precision; a large double is finite
            finite = np.isfinite(values)
            self.bad += raw.size - int(np.count_nonzero(finite))
            values = values[finite]
        self._extremes(values)
        double = values.astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            self.total += float(double.sum())
            self.squares += float(np.einsum("i,i->", double, double))  # not BLAS, which starts threads

    def close(self) -> None:
        """Keeps only the codes that occurred: at a megabyte of buckets each, many tensors fill the memory."""
        if self._buckets is not None:
            self.seen = _union(self.seen, (found := np.flatnonzero(self._buckets), self._buckets[found]))
            self._buckets = None

    def join(self, other: Tally) -> None:
        """Adds what was counted elsewhere; both are closed."""
        self.count += other.count
        self.zeros += other.zeros
        self.bad += other.bad
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares
        self.seen = _union(self.seen, other.seen)

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values that occur, float32 [n] rising, and how often, int64 [n]; exact zeros left out.

        Of a wide type a value stands for those up to 1/256 larger in size; doubles that single precision
        cannot hold are not in it.
        """
        found, counts = self.seen
        values = edges(self.dtype)[found] if self.kind.codes else np.zeros(0)
        finite = np.isfinite(values)
        values, counts = values[finite], counts[finite]
        order = np.argsort(values, kind="stable")
        return values[order].astype(np.float32), counts[order]

    def summary(self) -> dict[str, Any]:
        """Returns the statistics over finite values; None where there is nothing to say."""
        if self.kind.exact:
            self._exact()
        good = self.count - self.bad
        if self.zeros:
            self._extremes(np.zeros(1))
        out: dict[str, Any] = {"zeros": self.zeros, "nonfinite": self.bad}
        empty = {"min": None, "max": None, "mean": None, "std": None, "quantiles": None}
        if not good:
            return out | empty
        mean = self.total / good
        out |= empty | {"min": self.low, "max": self.high, "mean": mean if math.isfinite(mean) else None}
        if not self.kind.codes:
            return out
        if math.isfinite(self.squares) and math.isfinite(mean * mean):
            out["std"] = math.sqrt(max(0.0, self.squares / good - mean * mean))
        return out | {"quantiles": self._quantiles(good)}

    def _exact(self) -> None:
        found, counts = self.seen
        values = edges(self.dtype)[found]
        finite = np.isfinite(values)
        self.bad = int(counts[~finite].sum())
        counts, values = counts[finite], values[finite]
        self._extremes(values)
        self.total, self.squares = float(counts @ values), float(counts @ (values * values))

    def _quantiles(self, good: int) -> list[float | None]:
        values, counts = self.histogram()
        sizes = np.abs(values.astype(np.float64))
        order = np.argsort(sizes, kind="stable")
        sizes, cumulative = sizes[order], self.zeros + counts[order].cumsum()
        if not self.kind.exact:  # the middle of a code's range, which may lie beyond the largest value
            sizes = np.minimum(sizes * (1 + RELATIVE_WIDTH / 2), max(-self.low, self.high))
        found: list[float | None] = []
        for q in QUANTILES:
            rank = min(max(math.ceil(q * good), 1), good)
            at = int(np.searchsorted(cumulative, rank))
            known = float(sizes[at]) if at < len(sizes) else None  # a double beyond single precision
            found.append(0.0 if rank <= self.zeros else known)
        return found


def _union(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    if not a[0].size:
        return b
    found, place = np.unique(np.concatenate([a[0], b[0]]), return_inverse=True)
    counts = np.zeros(found.size, dtype=np.int64)
    np.add.at(counts, place, np.concatenate([a[1], b[1]]))
    return found, counts


@dataclass
class Found:
    """What one span of a tensor holds: the counts, and the structure where the tensor has one."""

    tally: Tally
    structure: Structure | None

    def join(self, other: Found) -> None:
        """Takes in the span that follows."""
        self.tally.join(other.tally)
        if self.structure and other.structure:
            self.structure.join(other.structure)


def analyse(entry: Entry, begin: int, end: int, mask: Entry | None = None) -> Found:
    """Measures the rows [begin, end) of a tensor.

    Args:
        entry: the tensor; of a type in ``KINDS``.
        begin: first row, a multiple of 32.
        end: the row after the last.
        mask: tensor of the same shape that is zero where a weight is pruned; it is applied before anything
            is counted.

    Returns:
        counts and structure of these rows.

    Raises:
        ModelError: the file ended before the tensor did.
    """
    _, width, matrix = as_matrix(entry)
    tally = Tally(entry.dtype)
    structure = Structure.of(entry.shape, begin, end) if matrix else None
    with open_regular(entry.file) as file, open_regular((mask or entry).file) as other:
        for row, offset, count in pieces(width, begin, end):
            raw = read(file, entry, row * width + offset, count)
            if mask is not None:
                kept = nonzero(KINDS[mask.dtype], read(other, mask, row * width + offset, count))
                raw = np.where(kept, raw, raw.dtype.type(0))
            _take(tally, structure, raw, row, offset, width)
    tally.close()
    return Found(tally, structure)


def _take(
    tally: Tally, structure: Structure | None, raw: np.ndarray, row: int, offset: int, width: int
) -> None:
    zeros = sum(tally.add(raw[start : start + CHUNK]) for start in range(0, raw.size, CHUNK))
    if structure is None:
        return
    whole = by_rows(width)
    if whole and not zeros:
        structure.full(row, raw.size // width)
    elif whole:
        structure.add(row, nonzero(tally.kind, raw))
    else:
        structure.add_part(row, offset, nonzero(tally.kind, raw))
