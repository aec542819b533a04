"""Where the sparsity went: kept weights per site, structures emptied, and one mask as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.folders import Site, fits, matrix, ones, packed, sites_of
from analysis.frames.tables import table

SITES = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "rows": "int64",
    "cols": "int64",
    "weights": "int64",
    "kept": "float64",
    "keep": "float64",
    "sparsity": "float64",
}
STRUCTURE = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "rows": "int64",
    "rows_empty": "float64",
    "cols": "int64",
    "cols_empty": "float64",
    "heads": "int64",
    "heads_empty": "float64",
}
PICTURE = {"row": "int64", "col": "int64", "keep": "float32"}

COLUMN_HEADS = "attention output"  # the role that reads heads from its columns


def sites(run_path: Path, number: int | None = None) -> pd.DataFrame:
    """Counts the kept weights of every site; where two factors are stored for it, their parameters.

    Args:
        run_path: folder of the run.
        number: snapshot number, None for the latest.

    Returns:
        one row a site in the model's order; keep = kept / weights; NaN where no mask was saved.
    """
    bits = packed(run_path, number)
    rows: list[dict[str, Any]] = []
    for s in sites_of(run_path):
        kept = float(ones(bits[s.name])) if fits(s, bits.get(s.name)) else float("nan")
        if s.rank:  # its mask is all ones and says nothing
            kept = float(s.rank * (s.rows + s.cols))
        row = {
            "site": s.name,
            "role": s.role,
            "layer": s.layer,
            "rows": s.rows,
            "cols": s.cols,
            "weights": s.weights,
        }
        rows.append({**row, "kept": kept, "keep": kept / s.weights, "sparsity": 1 - kept / s.weights})
    return table(SITES, rows)


def factors_sentence(run_path: Path) -> str:
    """Says what "kept" means where matrices are stored as two factors; "" where none is."""
    every = sites_of(run_path)
    thin = [s for s in every if s.rank]
    if not thin:
        return ""
    left, of = sum(s.rank * (s.rows + s.cols) for s in thin), sum(s.weights for s in thin)
    low, high = min(s.rank for s in thin), max(s.rank for s in thin)
    ranks = f"rank {low}" if low == high else f"ranks {low} to {high}"
    return (
        f"{len(thin)} of {len(every)} matrices are products of two factors of {ranks}: {left:,} parameters "
        f"of factors stand for {of:,} weights. That is compression, not zeros: no weight is masked, and what "
        "is called kept or sparsity here counts parameters of factors."
    )


def structure(run_path: Path, number: int | None = None) -> pd.DataFrame:
    """Counts the rows, columns and attention heads in which nothing is kept: those can be removed whole."""
    bits = packed(run_path, number)
    rows: list[dict[str, Any]] = []
    for s in sites_of(run_path):
        row: dict[str, Any] = {
            "site": s.name,
            "role": s.role,
            "layer": s.layer,
            "rows": s.rows,
            "cols": s.cols,
        }
        row |= {"heads": s.heads, "rows_empty": None, "cols_empty": None, "heads_empty": None}
        if fits(s, bits.get(s.name)):
            mask = matrix(s, bits[s.name])
            row |= {
                "rows_empty": int((~mask.any(axis=1)).sum()),
                "cols_empty": int((~mask.any(axis=0)).sum()),
            }
            parts = by_head(s, mask)
            row["heads_empty"] = None if parts is None else int((~parts.any(axis=1)).sum())
        rows.append(row)
    return table(STRUCTURE, rows)


def by_head(site: Site, mask: np.ndarray) -> np.ndarray | None:
    """Cuts a mask [rows, cols] into heads [heads, weights of a head]; None when it has none.

    Query, key and value produce a head in consecutive rows; the attention output reads it from consecutive
    columns.
    """
    if site.heads <= 0:
        return None
    across = mask.T if site.role == COLUMN_HEADS else mask
    if across.shape[0] % site.heads:
        return None
    return np.ascontiguousarray(across).reshape(site.heads, -1)


def mask_picture(run_path: Path, site: str, number: int | None = None, pixels: int = 192) -> pd.DataFrame:
    """Shrinks the mask of one site to block means.

    Args:
        run_path: folder of the run.
        site: name of the site.
        number: snapshot number, None for the latest.
        pixels: largest number of blocks on a side, at least 1.

    Returns:
        one row a block: its first row and first column in the matrix, and the fraction kept in it.
    """
    found = next((s for s in sites_of(run_path) if s.name == site), None)
    bits = packed(run_path, number, [site]) if found is not None else {}
    if found is None or not fits(found, bits.get(site)):
        return table(PICTURE)
    mask = matrix(found, bits[site])
    rows, cols = _starts(found.rows, pixels), _starts(found.cols, pixels)
    sums = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int32), cols, axis=1)
    areas = np.diff(np.append(rows, found.rows))[:, None] * np.diff(np.append(cols, found.cols))[None, :]
    grid = np.meshgrid(rows, cols, indexing="ij")
    return table(PICTURE, {"row": grid[0].ravel(), "col": grid[1].ravel(), "keep": (sums / areas).ravel()})


def _starts(length: int, pixels: int) -> np.ndarray:
    count = min(length, max(1, pixels))
    return np.arange(count) * length // count
