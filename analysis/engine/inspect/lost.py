"""Heads and neurons that one checkpoint has and another has lost, from the empty rows and columns of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from analysis.engine.inspect.contrast import Contrast, Seen

HEADS, NEURONS = "heads", "neurons"
_CROSS = re.compile(r"cross|encoder_attn|EncDec|enc_dec")
_BLOCK = re.compile(r"(.*\.\d+|\d+)\.")
_TURNED = re.compile(r"(^|\.)(c_proj|c_fc)\.weight$")  # GPT-2 stores [inputs, outputs]
HEAD_NAMES = ("num_attention_heads", "n_heads", "n_head")
KV_NAMES = ("num_key_value_heads",)


def heads_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Reads how many attention heads a model has, and how many of keys and values; 0 where it is not said."""
    return _first(config, HEAD_NAMES), _first(config, KV_NAMES) or _first(config, HEAD_NAMES)


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 100_000:
            return value
    return 0


def emptied(name: str, role: str, contrast: Contrast, heads: tuple[int, int]) -> dict[str, Any] | None:
    """Finds the empty heads or neurons of one matrix on both sides.

    Args:
        name: name of the matrix.
        role: its role.
        contrast: what was counted of the pair.
        heads: heads of the model, and heads of its keys and values; 0 for unknown.

    Returns:
        ``kind``, ``block`` (what it shares with the other matrices of the same heads or neurons), ``role``,
        and ``a`` and ``b``: lists of the numbers of empty ones, with their ``total``; None where there are
        none or they cannot be told apart.
    """
    if role in ("query", "key", "value", "attention output"):
        kind, wanted = HEADS, heads[1] if role in ("key", "value") else heads[0]
    elif role in ("ffn in", "ffn out"):
        kind, wanted = NEURONS, 0
    else:
        return None
    used = [side.cols if _along_columns(name, role, side) else side.rows for side in contrast.seen]
    total = wanted if kind == HEADS else used[0].size
    if contrast.seen[0].flat or not total or used[0].size % total:
        return None
    a, b = (np.flatnonzero(~side.reshape(total, -1).any(axis=1)).tolist() for side in used)
    return {"kind": kind, "block": _block(name), "role": role, "total": total, "a": a, "b": b}


def _along_columns(name: str, role: str, side: Seen) -> bool:
    if not _TURNED.search(name):
        return role in ("attention output", "ffn out")
    # Later models kept the name and store it as everybody does; there are more neurons than anything else.
    return role.startswith("ffn") and side.cols.size > side.rows.size


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    return (found[1] if found else "") + (" cross" if _CROSS.search(name) else "")


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
    blocks: dict[tuple[str, str], dict[str, Any]] = {}
    for layer, one in found:
        if one["role"] in ("query", "key"):
            continue
        joined = blocks.setdefault((one["block"], one["kind"]), {"layer": layer, "total": 0, "parts": []})
        joined["total"] = max(joined["total"], one["total"])
        joined["parts"].append(one)
    out = []
    for (block, kind), joined in blocks.items():
        parts = [p for p in joined["parts"] if p["total"] == joined["total"]]
        a, b = ({i for part in parts for i in part[side]} for side in ("a", "b"))
        row = {"layer": joined["layer"], "block": block, "kind": kind, "total": joined["total"]}
        out.append(row | {"empty_a": len(a), "empty_b": len(b), "lost": len(b - a), "regained": len(a - b)})
    return out
