"""Reads the values of a whole checkpoint on two cores: spans of a few megabytes, in the order of the file."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from analysis.engine.memory import reuse_memory
from analysis.errors import ModelError
from analysis.store import jobs

PROCESSES = 2
TOGETHER = 1 << 25  # bytes of small pieces that travel as one
MANY = 64  # pieces of a group: what is found in each is held until the group is done
SMALL = 1 << 25  # bytes below which a second process costs more than it saves
AHEAD = 2 * PROCESSES

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def grouped(pieces: Sequence[tuple[int, Piece]]) -> list[list[Piece]]:
    """Puts neighbouring small pieces together.

    Args:
        pieces: bytes to read and the piece itself, in order.

    Returns:
        lists of pieces in the same order, of about 32 MB and at most 64 pieces, or of one larger piece.
    """
    out: list[list[Piece]] = []
    held = 0
    for size, piece in pieces:
        if not out or held + size > TOGETHER or len(out[-1]) >= MANY:
            out.append([])
            held = 0
        out[-1].append(piece)
        held += size
    return out


def mapped(
    work: Callable[[list[Piece]], list[Result]], groups: Sequence[list[Piece]], size: int
) -> Generator[tuple[list[Piece], list[Result]]]:
    """Applies a function to groups of pieces on two processes, results in order.

    Plain threads would share one interpreter, whose lock ``numpy.bincount`` holds: two of them are hardly
    faster than one. Call it before anything starts a thread, because the processes are forked.

    Args:
        work: a function at the top of a module.
        groups: from ``grouped``.
        size: bytes in all; few are not worth a process.

    Yields:
        each group and its results.

    Raises:
        ModelError: from ``work``, or when a process was killed.
    """
    if size < SMALL or len(groups) < 2:
        for group in groups:
            yield group, work(group)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(PROCESSES, context, initializer=_follow, initargs=(os.getpid(),)) as pool:
        try:
            waiting: deque[tuple[list[Piece], Future[list[Result]]]] = deque()
            for group in groups:
                waiting.append((group, pool.submit(work, group)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        except BrokenProcessPool:
            raise ModelError(
                "A process that reads the file was killed, perhaps for want of memory; close other programs "
                "and inspect it again: it goes on where it stopped."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _follow(parent: int) -> None:
    """Ends this process when its parent has died: nobody else would."""
    jobs.forget()
    reuse_memory()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
