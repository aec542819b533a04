"""How far each sampled weight has grown in size, beside its score: what movement scores are made of."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.frames.overlap import spearman
from analysis.frames.planes import points
from analysis.frames.tables import table

GROWTH = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "index": "int32",
    "growth": "float64",
    "score": "float64",
    "kept": "bool",
}
AGREEMENT = {"points": "int64", "pearson": "float64", "spearman": "float64"}


def growth(run_path: Path, number: int | None = None, sites: Collection[str] | None = None) -> pd.DataFrame:
    """Lists the growth (w**2 - w0**2) / 2 of the sampled weights and their scores.

    Under plain gradient descent with step a and no mask, a movement score -sum of w g is this growth divided
    by a, up to a term in a.

    Args:
        run_path: folder of the run.
        number: snapshot number, None for the latest.
        sites: names of the sites wanted, None for all.

    Returns:
        one row per sampled weight.
    """
    found = points(run_path, number, sites)
    if found.empty:
        return table(GROWTH)
    w0, w = found["w0"].to_numpy(dtype=np.float64), found["w"].to_numpy(dtype=np.float64)
    return table(GROWTH, {**{c: found[c] for c in found.columns}, "growth": (w**2 - w0**2) / 2})


def growth_agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """Correlates growth and score.

    Args:
        frame: a frame of ``growth``.

    Returns:
        one row: weights with both numbers, correlation of the values (pearson) and of their ranks (spearman),
        NaN where either has a single value.
    """
    x, y = frame["growth"].to_numpy(dtype=np.float64), frame["score"].to_numpy(dtype=np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    a, b = (v - v.mean() if len(v) else v for v in (x, y))
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    pearson = float((a * b).sum()) / scale if scale > 0 else float("nan")
    row = {"points": len(x), "pearson": pearson, "spearman": spearman(x, y)}
    return table(AGREEMENT, [row])
