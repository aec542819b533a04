"""What an inspection found, as one document for other programs, and the patterns its zeros keep to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.checkpoint import denominators, file_problems, inspection, sites, tensors
from analysis.frames.checkpoint_verdict import GROUPS, findings, full
from analysis.frames.tables import number, table

PATTERNS = {"pattern": "str", "matrices": "int64", "of": "int64", "share": "float64"}


def patterns(folder: Path) -> pd.DataFrame:
    """Lists the patterns that zeros of prunable matrices keep to, and in how many of them.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        pattern ("N:M": no more than N of M neighbours along a row are left, kept to on purpose;
        "rows", "columns", "heads", "blocks 32 × 32", "whole matrices"); in how many matrices, of how many
        it is asked; share of those weights that lie in it.
    """
    found = sites(tensors(folder))
    rows: list[dict[str, Any]] = []
    for kind, empty, total in (
        ("rows", "rows_empty", "rows"),
        ("columns", "cols_empty", "cols"),
        ("heads", "heads_empty", "heads"),
        ("blocks 32 × 32", "blocks32_empty", "blocks32"),
    ):
        asked = found[found[empty].notna() & (found[total] > 0)]
        hit = asked[asked[empty] > 0]
        if len(hit):
            weights = (hit["numel"] * hit[empty] / hit[total]).sum()
            rows.append(_pattern(kind, len(hit), len(asked), weights / max(1, asked["numel"].sum())))
    for size in GROUPS:
        asked = found[found[f"most{size:02d}"].notna() & (found["zeros"] < found["numel"])]
        kept = asked[full(asked, size)]
        for most, hit in kept.groupby(f"most{size:02d}"):
            share = hit["numel"].sum() / max(1, asked["numel"].sum())
            rows.append(_pattern(f"{most:.0f}:{size}", len(hit), len(asked), share))
    gone = found[(found["zeros"] == found["numel"]) & (found["numel"] > 0)]
    if len(gone):
        rows.append(
            _pattern("whole matrices", len(gone), len(found), gone["numel"].sum() / found["numel"].sum())
        )
    return table(PATTERNS, rows)


def _pattern(name: str, matrices: int, of: int, share: float) -> dict[str, Any]:
    return {"pattern": name, "matrices": matrices, "of": of, "share": share}


def document(folder: Path) -> dict[str, Any]:
    """Puts an inspection into one document; what is not known is None.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        path, format, bytes, tensors (name, role, shape, dtype, zeros, nonfinite, rows_empty, cols_empty,
        heads_empty, blocks32_empty, abs_quantiles), sparsity (prunable, encoder, model), patterns, verdict,
        problems, seconds, bytes_per_s.
    """
    said, found = inspection(folder), tensors(folder)
    source = said.get("source") or {}
    shares = denominators(folder).set_index("denominator")["sparsity"].to_dict()
    seconds = number(said.get("seconds"))
    read = number(said.get("read"))
    listed = []
    whole = ("zeros", "nonfinite", "rows_empty", "cols_empty", "heads_empty", "blocks32_empty")
    levels = ("q01", "q10", "q25", "q50", "q75", "q90", "q99")
    for row in found.to_dict("records"):
        shape = [] if row["shape"] == "scalar" else [int(n) for n in str(row["shape"]).split(" × ")]
        listed.append(
            {"name": row["tensor"], "role": row["role"], "layer": row["layer"], "shape": shape}
            | {"dtype": row["dtype"], "bytes": row["bytes"], "prunable": row["prunable"]}
            | {name: _whole(row[name]) for name in whole}
            | {"abs_quantiles": {f"0.{q[1:]}": _real(row[q]) for q in levels}}
            | {"tied_to": row["tied_to"] or None, "note": row["note"] or None}
        )
    return {
        "path": source.get("path"),
        "format": said.get("format"),
        "bytes": source.get("bytes"),
        "tensors": listed,
        "sparsity": {
            "prunable": _real(shares.get("prunable weights")),
            "encoder": _real(shares.get("encoder")),
            "model": _real(shares.get("whole model")),
        },
        "patterns": patterns(folder).to_dict("records"),
        "verdict": findings(folder)["sentence"].tolist(),
        "problems": file_problems(folder),
        "seconds": _real(seconds),
        "bytes_per_s": _real(read / seconds if seconds and read else None),
    }


def _whole(value: Any) -> int | None:
    found = number(value)
    return int(found) if np.isfinite(found) else None


def _real(value: Any) -> float | None:
    found = number(value)
    return found if np.isfinite(found) else None
