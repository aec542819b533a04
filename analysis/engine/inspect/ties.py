"""Tensors that are one and the same: stored under two names, or stored twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.inspect.header import Entry, open_regular
from analysis.engine.inspect.layouts import NO_PARAMETER, Tensor
from analysis.engine.inspect.reading import CHUNK, read
from analysis.store import arrays

LEAST = 2  # dimensions: norms and biases are often equal without being shared


def tied(tensors: Sequence[Tensor], parts: Path) -> dict[str, str]:
    """Finds weights that repeat another one, so that they are counted once.

    Two names for the same bytes are tied; so are two matrices with the same bytes, unless they are one value
    throughout. Only matrices with equal histograms are compared byte by byte.

    Args:
        tensors: all tensors of a checkpoint.
        parts: folder of the parts of its inspection.

    Returns:
        name of the tensor that repeats → name of the first one.
    """
    first: dict[Any, Tensor] = {}
    out: dict[str, str] = {}
    prints = dict(_prints(parts))
    for number, tensor in enumerate(tensors):
        entry = tensor.entry
        if tensor.role in NO_PARAMETER or not entry.numel:
            continue
        place = (entry.file, entry.start, entry.size, entry.shape)
        if place in first:
            out[tensor.name] = first[place].name
            continue
        first[place] = tensor
        if len(entry.shape) < LEAST or prints.get(number) is None or tensor.mask is not None:
            continue
        content = (entry.dtype, entry.shape, prints[number])
        other = first.setdefault(content, tensor)
        if other is not tensor and _equal(entry, other.entry):
            out[tensor.name] = other.name
    return out


def _prints(parts: Path) -> Iterator[tuple[int, bytes]]:
    """A fingerprint of every histogram that has more than one value."""
    for file in sorted(parts.glob("*.npz")):
        found = arrays.load_arrays(file)
        for number in found["number"].tolist():
            values, counts = found[f"{number}.value"], found[f"{number}.count"]
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
