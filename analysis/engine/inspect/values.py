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
from analysis.engine.inspect.reading import CHUNK, as_matrix, pieces, read
from analysis.engine.inspect.structure import Structure

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


MANY = 2 / 3  # share of zeros so far above which leaving them out is faster than counting them
# ``bincount`` takes machine words: one place for them saves a copy of its own and the faults of new memory.
_PLACES = np.empty(CHUNK, dtype=np.intp)


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
        buckets: int64 [codes], how often each code was seen.
    """

    dtype: str
    count: int = 0
    zeros: int = 0
    bad: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    buckets: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.kind: Kind = KINDS[self.dtype]
        if self.kind.codes and not self.buckets.size:
            self.buckets = np.zeros(self.kind.codes, dtype=np.int64)

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
        self.buckets += seen
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
        self.total += float(double.sum())
        with np.errstate(over="ignore"):
            self.squares += float(np.einsum("i,i->", double, double))  # not BLAS, which starts threads

    def join(self, other: Tally) -> None:
        """Adds what was counted elsewhere."""
        self.count += other.count
        self.zeros += other.zeros
        self.bad += other.bad
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares
        if self.kind.codes:
            self.buckets += other.buckets

    def __getstate__(self) -> dict[str, Any]:
        """Only the codes that were seen travel between processes: most patterns never occur."""
        seen = np.flatnonzero(self.buckets)
        return {**self.__dict__, "buckets": (seen.astype(np.uint32), self.buckets[seen])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        seen, counts = state["buckets"]
        buckets = np.zeros(state["kind"].codes, dtype=np.int64)
        buckets[seen] = counts
        self.__dict__.update(state, buckets=buckets)

    def histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values that occur, float32 [n] rising, and how often, int64 [n]; exact zeros left out.

        Of a wide type a value stands for those up to 1/256 larger in size.
        """
        values = edges(self.dtype) if self.kind.codes else np.zeros(0)
        seen = np.flatnonzero(self.buckets)
        seen = seen[np.isfinite(values[seen])]
        order = seen[np.argsort(values[seen], kind="stable")]
        return values[order].astype(np.float32), self.buckets[order]

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
        out |= empty | {"min": self.low, "max": self.high, "mean": mean}
        if not self.kind.codes:
            return out
        out["std"] = math.sqrt(max(0.0, self.squares / good - mean * mean))
        return out | {"quantiles": self._quantiles(good)}

    def _exact(self) -> None:
        values = edges(self.dtype)
        seen = np.flatnonzero(self.buckets)
        counts, values = self.buckets[seen], values[seen]
        finite = np.isfinite(values)
        self.bad = int(counts[~finite].sum())
        counts, values = counts[finite], values[finite]
        self._extremes(values)
        self.total, self.squares = float(counts @ values), float(counts @ (values * values))

    def _quantiles(self, good: int) -> list[float]:
        values, counts = self.histogram()
        sizes = np.abs(values.astype(np.float64))
        order = np.argsort(sizes, kind="stable")
        sizes, cumulative = sizes[order], self.zeros + counts[order].cumsum()
        if not self.kind.exact:
            sizes = sizes * (1 + RELATIVE_WIDTH / 2)  # the middle of a code's range
        found = []
        for q in QUANTILES:
            rank = min(max(math.ceil(q * good), 1), good)
            at = int(np.searchsorted(cumulative, rank))
            found.append(0.0 if rank <= self.zeros else float(sizes[min(at, len(sizes) - 1)]))
        return found


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
    return Found(tally, structure)


def _take(
    tally: Tally, structure: Structure | None, raw: np.ndarray, row: int, offset: int, width: int
) -> None:
    zeros = sum(tally.add(raw[start : start + CHUNK]) for start in range(0, raw.size, CHUNK))
    if structure is None:
        return
    whole = offset == 0 and raw.size % width == 0
    if whole and not zeros:
        structure.full(row, raw.size // width)
    elif whole:
        structure.add(row, nonzero(tally.kind, raw))
    else:
        structure.add_part(row, offset, nonzero(tally.kind, raw))
