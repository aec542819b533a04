"""How a tensor is read: in spans of whole rows that processes share, in pieces that bound the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from analysis.engine.inspect.header import Entry, clean
from analysis.engine.inspect.kinds import KINDS, unpack
from analysis.engine.inspect.structure import BLOCK
from analysis.errors import ModelError

CHUNK = 1 << 18  # values counted at a time
LONGEST = 1 << 21  # values of 32 rows above which a matrix is read in stretches of one row
SPAN = 1 << 25  # values one process takes at a time


def as_matrix(entry: Entry) -> tuple[int, int, bool]:
    """Gives rows, values per row, and whether the rows mean anything: not of a vector, nor of a view."""
    width = math.prod(entry.shape[1:])
    packed = KINDS[entry.dtype].packed if entry.dtype in KINDS else 1
    if len(entry.shape) < 2 or not width or width % packed or not entry.ordered:
        return (1 if entry.numel else 0), entry.numel, False
    return entry.shape[0], width, True


def spans(entry: Entry) -> list[tuple[int, int]]:
    """Cuts a tensor into stretches of whole rows that one process takes at a time; each starts at 32 k."""
    rows, width, _ = as_matrix(entry)
    step = max(BLOCK, SPAN // max(width, 1) // BLOCK * BLOCK)
    return [(begin, min(begin + step, rows)) for begin in range(0, rows, step)] or [(0, 0)]


def by_rows(width: int) -> bool:
    """Whether rows of this many values are read whole, 32 or more at a time."""
    return width * BLOCK <= LONGEST


def pieces(width: int, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields row, offset in the row and number of values of what is read at a time: rows if they fit."""
    if not by_rows(width):
        for row in range(begin, end):
            for offset in range(0, width, CHUNK):
                yield row, offset, min(CHUNK, width - offset)
        return
    step = max(BLOCK, CHUNK // max(width, 1) // BLOCK * BLOCK)
    for row in range(begin, end, step):
        yield row, 0, (min(row + step, end) - row) * width


def read(file: BinaryIO, entry: Entry, at: int, count: int) -> np.ndarray:
    """Reads values of a tensor; plain reads, because a mapped file that shrinks kills the process.

    Args:
        file: the entry's file.
        entry: of a type in ``KINDS``.
        at: number of the first value.
        count: how many.

    Returns:
        one item per value [count], of the type's storage.

    Raises:
        ModelError: the file ended before.
    """
    kind = KINDS[entry.dtype]
    storage = np.dtype(kind.storage)
    items = -(-count // kind.packed)
    file.seek(entry.start + at // kind.packed * storage.itemsize)
    data = file.read(items * storage.itemsize)
    if len(data) != items * storage.itemsize:
        raise ModelError(f"{clean(entry.file.name)!r} became shorter while it was read; inspect it again.")
    return unpack(kind, np.frombuffer(data, dtype=storage))[:count]
