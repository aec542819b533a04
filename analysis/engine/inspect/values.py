"""Statistics of one tensor in one pass and bounded memory: counts of bit patterns give the rest.

A finite float's upper 16 bits (sign, exponent, leading mantissa) sort like its value and fall into 65,536
buckets.
For bfloat16 and float16 a bucket is one value, so every number below is exact. For float32 and float64 a
bucket spans
1/128 of its value: zeros, extremes, mean and spread are counted beside it exactly, quantiles and the
histogram come from the buckets.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO

import numpy as np

from analysis.engine.inspect.header import Entry
from analysis.errors import ModelError

log = logging.getLogger(__name__)

CHUNK = 1 << 20
BINS = 64
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
ANALYSED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@cache
def bucket_values(dtype: str) -> np.ndarray:
    """Gives the value in the middle of each of the 65,536 buckets as float64, NaN where it is not finite."""
    codes = np.arange(65536, dtype=np.uint32)
    if dtype == "F16":
        finite = (codes & 0x7C00) != 0x7C00
        values = np.where(finite, codes, 0).astype(np.uint16).view(np.float16).astype(np.float64)
        return np.where(finite, values, np.nan)
    middle = np.uint32(0 if dtype == "BF16" else 0x8000)
    exponent = (codes >> 7) & 0xFF
    values = np.where(exponent == 255, 0, (codes << 16) | middle).astype(np.uint32).view(np.float32)
    return np.where(exponent == 255, np.nan, values.astype(np.float64))


@dataclass
class Tally:
    """What has been counted of one tensor so far."""

    dtype: str
    count: int = 0
    zeros: int = 0
    bad: int = 0
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    buckets: np.ndarray = field(default_factory=lambda: np.zeros(65536, dtype=np.int64))

    def add(self, raw: np.ndarray) -> np.ndarray:
        """Counts one chunk; returns which of its elements are not zero, bool of the same length."""
        if self.dtype == "BF16":
            codes, nonzero = raw, (raw & 0x7FFF) != 0
        elif self.dtype == "F16":
            codes, nonzero = raw.view(np.uint16), (raw.view(np.uint16) & 0x7FFF) != 0
        else:
            codes, nonzero = self._wide(raw)
        self.count += raw.size
        self.zeros += raw.size - int(np.count_nonzero(nonzero))
        self.buckets += np.bincount(codes, minlength=65536)
        return nonzero

    def _wide(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        finite = np.isfinite(raw)
        good = raw if finite.all() else raw[finite]
        self.bad += raw.size - good.size
        if good.size:
            self.low, self.high = min(self.low, float(good.min())), max(self.high, float(good.max()))
            self.total += float(good.sum(dtype=np.float64))
            self.squares += float(np.einsum("i,i->", good, good, dtype=np.float64))
        with np.errstate(over="ignore", under="ignore"):
            narrow = raw.astype(np.float32, copy=False)
        return (narrow.view(np.uint32) >> 16).astype(np.uint16), raw != 0

    def summary(self) -> dict[str, Any]:
        """Returns the statistics over finite values; None where there is no finite value."""
        values = bucket_values(self.dtype)
        seen = np.flatnonzero(self.buckets)
        seen = seen[np.isfinite(values[seen])]
        counts, values = self.buckets[seen], values[seen]
        if self.dtype in ("BF16", "F16"):
            self._exact(counts, values)
        good = self.count - self.bad
        out: dict[str, Any] = {"zeros": self.zeros, "non_finite": self.bad}
        if not good:
            return out | {"min": None, "max": None, "mean": None, "std": None, "quantiles": None}
        mean = self.total / good
        spread = math.sqrt(max(0.0, self.squares / good - mean * mean))
        out |= {"min": self.low, "max": self.high, "mean": mean, "std": spread}
        return out | {"quantiles": self._quantiles(counts, np.abs(values), good)}

    def _exact(self, counts: np.ndarray, values: np.ndarray) -> None:
        self.bad = self.count - int(counts.sum())
        if counts.size:
            self.low, self.high = float(values.min()), float(values.max())
            self.total, self.squares = float(counts @ values), float(counts @ (values * values))

    def _quantiles(self, counts: np.ndarray, sizes: np.ndarray, good: int) -> list[float]:
        order = np.argsort(sizes, kind="stable")
        cumulative = counts[order].cumsum()
        ranks = np.ceil(np.array(QUANTILES) * good).clip(1, good)
        ordinary = self.zeros / good  # the middle of the lowest bucket is not 0, but a zero is
        found = sizes[order][np.searchsorted(cumulative, ranks).clip(0, len(order) - 1)]
        return [0.0 if q <= ordinary else float(v) for q, v in zip(QUANTILES, found, strict=True)]

    def histogram(self) -> tuple[float, np.ndarray]:
        """Returns the half-width L and counts [BINS + 2]: below −L, bins over [−L, L], above L; no zeros."""
        values = bucket_values(self.dtype)
        seen = np.flatnonzero(self.buckets)
        seen = seen[np.isfinite(values[seen])]
        counts, values = self.buckets[seen], values[seen]
        smallest = np.abs(values) <= (0.0 if self.dtype in ("BF16", "F16") else 1e-38)
        counts[smallest] = 0  # zeros and what is as good as zero
        out = np.zeros(BINS + 2, dtype=np.int64)
        if not counts.sum():
            return 1.0, out
        order = np.argsort(np.abs(values), kind="stable")
        cumulative = counts[order].cumsum()
        edge = float(np.abs(values)[order][np.searchsorted(cumulative, math.ceil(0.999 * cumulative[-1]))])
        limit = edge * 1.05
        if not math.isfinite(limit):
            limit = edge
        place = np.floor((values / limit + 1) / 2 * BINS).clip(-1, BINS).astype(np.int64) + 1
        np.add.at(out, place, counts)
        return limit, out


class Used:
    """Which slices of the first two dimensions hold anything but zeros, seen chunk by chunk."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.flat = len(shape) < 2
        self.inner, self.width = math.prod(shape[2:]), 1 if self.flat else shape[1]
        self.rows = np.zeros(0 if self.flat else shape[0], dtype=bool)
        self.cols = np.zeros(0 if self.flat else shape[1], dtype=bool)
        self.at = 0

    def add(self, nonzero: np.ndarray) -> None:
        """Takes which elements of the next chunk are not zero."""
        row = self.inner * self.width
        begin, self.at = self.at, self.at + nonzero.size
        if self.flat or not row:
            return
        if begin % row == 0 and nonzero.size % row == 0:  # whole rows, as ``chunks`` reads them where it can
            block = nonzero.reshape(-1, self.width, self.inner)
            self.rows[begin // row : self.at // row] = block.any(axis=(1, 2))
            self.cols |= block.any(axis=(0, 2))
            return
        places = np.flatnonzero(nonzero) + begin
        self.rows[places // row] = True
        self.cols[places // self.inner % self.width] = True

    def empty(self) -> tuple[int | None, int | None]:
        """Returns how many rows and columns are zero throughout; None below two dimensions."""
        return (None, None) if self.flat else (int((~self.rows).sum()), int((~self.cols).sum()))


def chunks(file: BinaryIO, entry: Entry) -> Iterator[np.ndarray]:
    """Reads raw elements piece by piece; plain reads, because a mapped file that shrinks kills the process.

    Raises:
        ModelError: the file ended before the tensor did.
    """
    kind = np.dtype(ANALYSED[entry.dtype])
    file.seek(entry.start)
    left, row = entry.numel, math.prod(entry.shape[1:])
    most = CHUNK // row * row if 0 < row <= CHUNK else CHUNK
    while left:
        wanted = min(left, most)
        data = file.read(wanted * kind.itemsize)
        if len(data) != wanted * kind.itemsize:
            raise ModelError(f"{entry.file.name!r} became shorter while it was read; inspect it again.")
        yield np.frombuffer(data, dtype=kind)
        left -= wanted


def analyse(file: BinaryIO, entry: Entry) -> tuple[dict[str, Any], float, np.ndarray]:
    """Measures one tensor of an analysed type.

    Returns:
        its statistics with ``rows_empty`` and ``cols_empty`` (slices of the first and second dimension that
        are zero throughout, None below two dimensions), and the histogram of ``Tally.histogram``.
    """
    tally = Tally(entry.dtype)
    used = Used(entry.shape if entry.ordered else ())
    for raw in chunks(file, entry):
        used.add(tally.add(raw))
    found = tally.summary()
    found["rows_empty"], found["cols_empty"] = used.empty()
    limit, counts = tally.histogram()
    return found, limit, counts
