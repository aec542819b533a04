"""Heads and neurons that one checkpoint has and another has lost, from the empty rows and columns of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from analysis.engine.inspect.contrast import Contrast
from analysis.engine.inspect.header import clean
from analysis.engine.inspect.layouts import Tensor

HEADS, NEURONS = "heads", "neurons"
_CROSS = re.compile(r"cross|encoder_attn|EncDec|enc_dec")
_BLOCK = re.compile(r"(.*\.\d+|\d+)\.")


def emptied(name: str, what: Tensor, contrast: Contrast) -> dict[str, Any] | None:
    """Finds the empty heads or neurons of one matrix on both sides.

    Args:
        name: name of the matrix.
        what: what it is.
        contrast: what was counted of the pair.

    Returns:
        ``kind``, ``block`` (what it shares with the other matrices of the same heads or neurons), ``role``,
        and ``a`` and ``b``: lists of the numbers of empty ones, with their ``total``; None where there are
        none or they cannot be told apart.
    """
    one, other = contrast.seen
    if what.heads:
        kind, axis, total = HEADS, what.head_axis, what.heads
    elif what.role in ("ffn in", "ffn out") and not one.flat:
        kind, axis = NEURONS, int((what.role == "ffn out") != what.transposed)
        total = (one.rows, one.cols)[axis].size
    else:
        return None
    used = [(side.rows, side.cols)[axis] for side in (one, other)]
    if one.flat or not total or used[0].size % total:
        return None
    a, b = (np.flatnonzero(~side.reshape(total, -1).any(axis=1)).tolist() for side in used)
    return {"kind": kind, "block": _block(name), "role": what.role, "total": total, "a": a, "b": b}


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    return clean(found[1] if found else "") + (" cross" if _CROSS.search(name) else "")


def lost(found: Iterable[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Joins the matrices of a block and counts what it lost.

    A neuron is empty when its row in any matrix into the middle or its column in the matrix out of it is. A
    head is empty when its columns in the attention output are, or, where there are as many value heads, its
    rows in the value: either way nothing that depends on the input leaves it.

    Args:
        found: number of the layer, and what ``emptied`` returned, of every matrix.

    Returns:
        one row a block and kind: layer, block, kind, total, empty_a, empty_b, lost (empty in b alone) and
        regained (empty in a alone).
    """
    blocks: dict[tuple[int, str, str], dict[str, Any]] = {}  # names of different layers may look alike
    for layer, one in found:
        if one["role"] in ("query", "key"):
            continue
        joined = blocks.setdefault((layer, one["block"], one["kind"]), {"total": 0, "parts": []})
        joined["total"] = max(joined["total"], one["total"])
        joined["parts"].append(one)
    out = []
    for (layer, block, kind), joined in blocks.items():
        total = joined["total"]
        parts = [p for p in joined["parts"] if total % p["total"] == 0]
        a, b = ({i for part in parts for i in _spread(part, side, total)} for side in ("a", "b"))
        row = {"layer": layer, "block": block, "kind": kind, "total": joined["total"]}
        out.append(row | {"empty_a": len(a), "empty_b": len(b), "lost": len(b - a), "regained": len(a - b)})
    return out


def _spread(part: Mapping[str, Any], side: str, total: int) -> Iterator[int]:
    """The numbers of the empty ones among ``total``: a value head serves as many queries as share it."""
    share = total // part["total"]
    for one in part[side]:
        yield from range(one * share, (one + 1) * share)
