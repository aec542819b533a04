"""Tensors that are one and the same: stored under two names, or stored twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.inspect.header import Entry, open_regular
from analysis.engine.inspect.layouts import NO_PARAMETER, Tensor
from analysis.engine.inspect.parts import histograms
from analysis.engine.inspect.reading import CHUNK, read

LEAST = 2  # dimensions: norms and biases are often equal without being shared


def tied(tensors: Sequence[Tensor], parts: Path) -> dict[int, int]:
    """Finds weights that repeat another one, so that they are counted once.

    Two names for the same bytes are tied; so are two matrices with the same bytes, unless they are one value
    throughout. Only matrices with equal histograms are compared byte by byte.

    Args:
        tensors: all tensors of a checkpoint.
        parts: folder of the parts of its inspection.

    Returns:
        number of the tensor that repeats → number of the first one.
    """
    first: dict[Any, int] = {}
    out: dict[int, int] = {}
    prints = dict(_prints(parts))
    for number, tensor in enumerate(tensors):
        entry = tensor.entry
        if tensor.role in NO_PARAMETER or not entry.numel:
            continue
        place = (entry.file, entry.start, entry.size, entry.shape)
        if place in first:
            out[number] = first[place]
            continue
        first[place] = number
        if len(entry.shape) < LEAST or prints.get(number) is None or tensor.mask is not None:
            continue
        content = (entry.dtype, entry.shape, prints[number])
        other = first.setdefault(content, number)
        if other != number and _equal(entry, tensors[other].entry):
            out[number] = other
    return out


def _prints(folder: Path) -> Iterator[tuple[int, bytes]]:
    """A fingerprint of every histogram that has more than one value."""
    for number, values, counts in histograms(folder):
        if values.size > 1:
            yield number, hashlib.sha256(values.tobytes() + counts.tobytes()).digest()


def _equal(a: Entry, b: Entry) -> bool:
    """Whether two tensors of one type and shape have the same bytes."""
    with open_regular(a.file) as one, open_regular(b.file) as two:
        for at in range(0, a.numel, CHUNK):
            count = min(CHUNK, a.numel - at)
            x, y = read(one, a, at, count), read(two, b, at, count)
            if not np.array_equal(x.view(np.uint8), y.view(np.uint8)):
                return False
    return True
