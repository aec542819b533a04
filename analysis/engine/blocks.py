"""Blocks: the numbered parts a network repeats, told from dotted paths alone, so that a model in memory and a
checkpoint on disk are counted by one rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_STAGE = re.compile(r"(?:^|\.)(?:layer|stage|block)?\d+(?=\.|$)")  # layer2.0 of residual networks


def block_of(path: str, conv: bool) -> str | None:
    """Finds the repeated block that a module or tensor lives in.

    Args:
        path: dotted path, such as "bert.encoder.layer.3.output.dense".
        conv: whether it is a convolution: those repeat inside numbered stages, so the second number counts.

    Returns:
        the path up to that number ("bert.encoder.layer.3"), None where the path has no number.
    """
    ends = [m.end() for m in (_STAGE if conv else _NUMBER).finditer(path)]
    return path[: ends[min(1, len(ends) - 1)] if conv else ends[0]] if ends else None


def inside(path: str, blocks: Collection[str]) -> bool:
    """Whether a tensor lies in one of the blocks that ``block_of`` found; every tensor in them is encoder."""
    return block_of(path, False) in blocks or block_of(path, True) in blocks
