"""What of a checkpoint is empty as a whole, so that it can be cut out: rows, columns, heads, neurons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.checkpoint import arrays_of, labels, sites, tensors
from analysis.frames.tables import table
from analysis.store import arrays

UNITS = {"layer": "int64", "label": "str", "kind": "str", "units": "int64", "empty": "int64"}

_PARTS = re.compile(r"(^|\.)(self|attention|intermediate|output)$")

Used = dict[int, tuple[np.ndarray, np.ndarray]]


def matrix_structure(folder: Path) -> pd.DataFrame:
    """Lists rows, columns and heads of the prunable matrices and how many are empty, as ``frames.structure``.

    Returns:
        the columns of ``frames.structure``, with blocks of 32 × 32 and how many of them are empty.
    """
    found = sites(tensors(folder))
    found = found[found["rows"].notna()]
    out = found[["tensor", "role", "layer", "rows", "rows_empty", "cols", "cols_empty", "heads"]]
    more = found[["heads_empty", "blocks32", "blocks32_empty"]]
    return pd.concat([out.rename(columns={"tensor": "site"}), more], axis=1).reset_index(drop=True)


def units(folder: Path) -> pd.DataFrame:
    """Counts, layer by layer, the attention heads and feed-forward neurons that can be cut out.

    A head is empty when nothing is left of its rows of the value matrix, or of its columns of the attention
    output; a neuron when nothing is left of its row in, or of its column out. In a gated layer an empty row
    counts only where no bias is stored beside it: then one factor is always zero. The heads of a layer's
    self- and cross-attention, and the neurons of its experts, are different ones and are added up.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        one row a layer and kind ("heads", "neurons"), where the checkpoint has any.
    """
    found = tensors(folder)
    names = found["weight"].where(found["weight"] != "", found["tensor"])
    biased = (names.str.removesuffix("weight") + "bias").isin(names)
    known = sites(found.assign(owner=names.map(_owner), biased=biased))
    known = known[known["rows"].notna()].assign(label=lambda f: labels(f["block"]))
    used = _used(folder, known)
    rows: list[dict[str, Any]] = []
    for layer, part in known[known["layer"] >= 0].groupby("layer"):
        label = part["label"].iloc[0]
        for kind, find in (("heads", _heads), ("neurons", _neurons)):
            each = [find(own, used) for _, own in part.groupby("owner")]
            empty = [e for e in each if e is not None]
            if empty:
                counts = {"units": sum(e.size for e in empty), "empty": sum(int(e.sum()) for e in empty)}
                rows.append({"layer": layer, "label": label, "kind": kind, **counts})
    return table(UNITS, rows)


def _owner(name: str) -> str:
    """The module that owns a matrix together with those it works with, such as "…layer.0.attention".

    BERT and its kin put what goes in and what comes out into modules of their own: these are left out.
    """
    return _PARTS.sub("", ".".join(name.split(".")[:-2]))


def _used(folder: Path, known: pd.DataFrame) -> Used:
    """Which rows and columns hold something: row of the frame → bool [rows], bool [columns]."""
    sizes = dict(zip(known.index, zip(known["rows"], known["cols"], strict=True), strict=True))
    return {
        i: (arrays.unpack(row, int(sizes[i][0])), arrays.unpack(col, int(sizes[i][1])))
        for i, row, col in arrays_of(folder, "row", "col")
        if i in sizes
    }


def _heads(part: pd.DataFrame, used: Used) -> np.ndarray | None:
    """Which heads of an attention are empty, bool [heads]; key and value heads where queries share them."""
    found = []
    for i, row in _records(part[part["role"].isin(["value", "attention output"])]):
        flags = used[i][row["head_axis"]] if i in used else np.zeros(0, dtype=bool)
        if row["heads"] and flags.size % row["heads"] == 0:
            found.append(~flags.reshape(row["heads"], -1).any(axis=1))
    most = max((e.size for e in found), default=0)
    if not most or any(most % e.size for e in found):
        return None
    return np.asarray(np.any([np.repeat(e, most // e.size) for e in found], axis=0))


def _neurons(part: pd.DataFrame, used: Used) -> np.ndarray | None:
    """Which neurons of a feed-forward part are empty, bool [neurons]."""
    inner, outer = part[part["role"] == "ffn in"], part[part["role"] == "ffn out"]
    both = _records(pd.concat([inner, outer]))
    if inner.empty or outer.empty or not all(i in used for i, _ in both):
        return None
    found = []
    for i, row in both:
        across = (row["role"] == "ffn out") != row["transposed"]
        empty = ~used[i][int(across)]
        stays = (
            row["role"] == "ffn in" and row["biased"] and len(inner) > 1
        )  # its bias goes on to be a factor
        found.append(empty & ~stays)
    if len({e.size for e in found}) > 1:
        return None
    return np.asarray(np.any(found, axis=0))


def _records(part: pd.DataFrame) -> list[tuple[int, dict[str, Any]]]:
    rows = part.to_dict("records")
    return [(int(i), {str(k): v for k, v in row.items()}) for i, row in zip(part.index, rows, strict=True)]
