"""Reading two tensors in lock-step, a bounded piece of each at a time, and sharing that work out.

Plain reads, because a mapped file that shrinks while it is read kills the process.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.engine.inspect.contrast import FLOATS, MASKS, Contrast, Values, values, widen
from analysis.engine.inspect.header import Entry, clean, open_regular
from analysis.engine.inspect.match import Tensor
from analysis.errors import ModelError

CHUNK = 1 << 18  # elements of each side in memory at a time
SPAN = 1 << 22  # elements that one process takes on at a time
PROCESSES = 2
KEPT_FREE = 1 << 28  # bytes
ALONE = 1 << 26  # bytes below which starting other processes takes longer than the work

Found = list[tuple[int, dict[str, Any]]]


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
    a: Tensor
    b: Tensor
    how: str
    start: int
    count: int


def tasks(
    pairs: Iterable[tuple[int, Tensor, Tensor, str]],
) -> Iterator[list[Span]]:
    """Cuts large pairs into spans of whole rows and ties small ones together, in the order given."""
    task: list[Span] = []
    for pair, a, b, how in pairs:
        length = a.entry.size if how == "bytes" else a.entry.numel
        row = 1 if how == "bytes" else math.prod(a.shape[1:])
        most = SPAN // row * row if 0 < row <= SPAN else SPAN
        for start in range(0, max(1, length), most):
            task.append(Span(pair, a, b, how, start, min(most, length - start) if how else 0))
            if sum(span.count for span in task) >= SPAN:
                yield task
                task = []
    if task:
        yield task


def share(todo: Sequence[list[Span]], size: int) -> Generator[tuple[list[Span], Found]]:
    """Works through tasks in several processes, and yields what was found in the order of the tasks.

    Args:
        todo: the tasks.
        size: bytes to be read in all.

    Yields:
        a task, and what ``work`` returned for it.

    Raises:
        ModelError: a file ended early, or a process was killed.
    """
    if size < ALONE:
        yield from ((task, work(task)) for task in todo)
        return
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(PROCESSES, fork, initializer=_settle, initargs=(os.getpid(),))
    try:
        yield from zip(todo, pool.map(work, todo), strict=True)
    except BrokenProcessPool:
        raise ModelError(
            "A process that compared was killed, probably for want of memory; close other programs and "
            "compare again, which goes on from where it was."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _settle(parent: int) -> None:
    """Prepares a process of the pool.

    The kernel is to end it with its parent, because it inherited the lock that is the sign of life. And its
    allocator is to keep what is freed: given back after every array, pages come again zeroed by the kernel,
    which took half the time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        system.prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if hasattr(system, "mallopt"):
            for threshold in (-3, -1):  # beyond which blocks are mapped, and beyond which they are given back
                system.mallopt(threshold, KEPT_FREE)


def work(task: list[Span]) -> Found:
    """Reads the spans of a task; returns the place of each one's pair, and what was counted or "equal".

    Raises:
        ModelError: a file ended early.
    """
    return [(span.pair, _read(span)) for span in task]


def _read(span: Span) -> dict[str, Any]:
    if span.how == "bytes":
        return {"equal": _equal(span)}
    found = Contrast(span.a.shape)
    if span.how == "values" and span.count:
        row = math.prod(span.a.shape[1:])
        most = CHUNK // row * row if row <= CHUNK else CHUNK
        with Side(span.a, most) as a, Side(span.b, most) as b:
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


class Side:
    """One tensor of a pair as values: its elements, times its mask where it has one."""

    def __init__(self, tensor: Tensor, most: int) -> None:
        self.raw = Stretch(tensor.entry, most, FLOATS[tensor.entry.dtype])
        self.mask = Stretch(tensor.mask, most, MASKS[tensor.mask.dtype]) if tensor.mask else None

    def values(self, start: int, count: int) -> Values:
        """Reads some elements; they are valid until the next call."""
        mask = self.mask
        scale = None if mask is None else widen(mask.read(start, count), mask.entry.dtype)
        return values(self.raw.read(start, count), self.raw.entry.dtype, scale)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()
        if self.mask is not None:
            self.mask.close()
