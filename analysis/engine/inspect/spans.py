"""Reading two tensors in lock-step, a bounded piece of each at a time.

Plain reads, because a mapped file that shrinks while it is read kills the process.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.engine.inspect.contrast import FLOATS, MASKS, Contrast, Values, values, widen
from analysis.engine.inspect.header import Entry, clean, open_regular
from analysis.engine.inspect.layouts import Tensor
from analysis.engine.inspect.match import Side
from analysis.errors import ModelError

CHUNK = 1 << 17  # elements of each side in memory at a time
SPAN = 1 << 22  # elements that one process takes on at a time


@dataclass(frozen=True)
class Span:
    """A stretch of one pair.

    Attributes:
        pair: place of the pair in the list of all.
        a: the first tensor.
        b: the second, of the same shape.
        how: "values", "bytes" (only whether they are equal), or "" to leave them alone.
        start: first element, or byte.
        count: number of elements, or bytes.
    """

    pair: int
    a: Side
    b: Side
    how: str
    start: int
    count: int


def cut(pairs: Iterable[tuple[int, Side, Side, str]]) -> Iterator[tuple[int, Span]]:
    """Cuts large pairs into spans of whole rows, in the order given; yields bytes to read, and the span."""
    for pair, a, b, how in pairs:
        length = a.entry.size if how == "bytes" else a.entry.numel
        row = 1 if how == "bytes" else math.prod(a.shape[1:])
        most = SPAN // row * row if 0 < row <= SPAN else SPAN
        for start in range(0, max(1, length), most):
            count = min(most, length - start) if how else 0
            yield (a.size + b.size) * count // max(1, length), Span(pair, a, b, how, start, count)


def work(spans: list[Span]) -> list[dict[str, Any]]:
    """Reads spans; returns for each what was counted, or whether its bytes are "equal".

    Raises:
        ModelError: a file ended early.
    """
    return [_read(span) for span in spans]


def _read(span: Span) -> dict[str, Any]:
    if span.how == "bytes":
        return {"equal": _equal(span)}
    found = Contrast(span.a.shape)
    if span.how == "values" and span.count:
        row = math.prod(span.a.shape[1:])
        most = CHUNK // row * row if row <= CHUNK else CHUNK
        with Read(span.a.what, most) as a, Read(span.b.what, most) as b:
            for at in range(span.start, span.start + span.count, most):
                count = min(most, span.start + span.count - at)
                found.add(a.values(at, count), b.values(at, count), at)
    return found.pack()


def _equal(span: Span) -> bool:
    a, b = Stretch(span.a.entry, CHUNK), Stretch(span.b.entry, CHUNK)
    try:
        for at in range(span.start, span.start + span.count, CHUNK):
            count = min(CHUNK, span.start + span.count - at)
            if not np.array_equal(a.read(at, count), b.read(at, count)):
                return False
    finally:
        a.close()
        b.close()
    return True


class Stretch:
    """The raw elements of one stored tensor, read into one buffer again and again."""

    def __init__(self, entry: Entry, most: int, kind: str = "|u1") -> None:
        self.entry, self.kind = entry, np.dtype(kind)
        self.buffer = np.empty(min(most * self.kind.itemsize, entry.size), dtype=np.uint8)
        self.file = open_regular(entry.file)

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns elements that are valid until the next call.

        Raises:
            ModelError: the file ended before they did.
        """
        size = count * self.kind.itemsize
        view, at = memoryview(self.buffer.data)[:size], self.entry.start + start * self.kind.itemsize
        while len(view):
            got = os.preadv(self.file.fileno(), [view], at)
            if got <= 0:
                name = clean(self.entry.file.name)
                raise ModelError(f"{name!r} became shorter while it was read; compare again.")
            view, at = view[got:], at + got
        return self.buffer[:size].view(self.kind)

    def close(self) -> None:
        """Closes its file."""
        self.file.close()


class Read:
    """One tensor of a pair as values: its elements, times its mask where it has one."""

    def __init__(self, tensor: Tensor, most: int) -> None:
        self.raw = Stretch(tensor.entry, most, FLOATS[tensor.entry.dtype])
        self.mask = Stretch(tensor.mask, most, MASKS[tensor.mask.dtype]) if tensor.mask else None

    def values(self, start: int, count: int) -> Values:
        """Reads some elements; they are valid until the next call."""
        mask = self.mask
        scale = None if mask is None else widen(mask.read(start, count), mask.entry.dtype)
        return values(self.raw.read(start, count), self.raw.entry.dtype, scale)

    def __enter__(self) -> Read:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()
        if self.mask is not None:
            self.mask.close()
