"""Do two masks keep the same weights? Measured overlap beside the overlap that chance alone would give."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.folders import Site, fits, ones, packed, sites_of
from analysis.frames.planes import points
from analysis.frames.tables import table

OVERLAP = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "weights": "int64",
    "kept_a": "int64",
    "kept_b": "int64",
    "both": "int64",
    "jaccard": "float64",
    "expected": "float64",
}
MATRIX = {"a": "str", "b": "str", "jaccard": "float64", "expected": "float64", "weights": "int64"}
RANKS = {"site": "str", "role": "str", "layer": "int64", "points": "int64", "spearman": "float64"}

Masks = dict[str, tuple[Site, np.ndarray]]


def expected_jaccard(weights: float, kept_a: float, kept_b: float) -> float:
    """Gives the overlap of two independent random masks: r_a r_b / (r_a + r_b − r_a r_b), r = kept / weights.

    Args:
        weights: number of weights under both masks.
        kept_a: number kept by the first.
        kept_b: number kept by the second.

    Returns:
        a fraction in [0, 1]; NaN when neither keeps anything.
    """
    both = kept_a * kept_b / weights if weights else 0.0
    either = kept_a + kept_b - both
    return both / either if either else float("nan")


def overlap(
    path_a: Path, path_b: Path, number_a: int | None = None, number_b: int | None = None
) -> pd.DataFrame:
    """Compares the masks of two snapshots, site by site: Jaccard = kept by both / kept by either.

    Args:
        path_a: folder of the first run.
        path_b: folder of the second run; the same folder compares two snapshots of one run.
        number_a: snapshot of the first, None for its latest.
        number_b: snapshot of the second, None for its latest.

    Returns:
        one row for each site that both runs have in the same shape, and a last row with site "overall", in
        which ``expected`` is the overlap of masks that are random inside every site but keep as much of it as
        these do.
    """
    return _compare(_masks(path_a, number_a), _masks(path_b, number_b))


def overlap_matrix(masks: Mapping[str, tuple[Path, int | None]]) -> pd.DataFrame:
    """Compares every pair of several masks over all sites that both have.

    Args:
        masks: label to (run folder, snapshot number or None for the latest).

    Returns:
        one row for each ordered pair of labels, in the order given, a mask with itself included.
    """
    loaded = {label: _masks(path, number) for label, (path, number) in masks.items()}
    found = {}
    for a, b in [*combinations(loaded, 2), *((label, label) for label in loaded)]:
        found[a, b] = found[b, a] = _compare(loaded[a], loaded[b]).iloc[-1:]
    rows: list[dict[str, Any]] = []
    for a in loaded:
        for b in loaded:
            rows += [{**last, "a": a, "b": b} for last in _records(found[a, b])]
    return table(MATRIX, rows)


def rank_agreement(
    path_a: Path, path_b: Path, number_a: int | None = None, number_b: int | None = None
) -> pd.DataFrame:
    """Measures how alike two runs rank the weights: Spearman correlation of scores on weights both sampled.

    Returns:
        one row a site and a last row "overall" with the mean over sites weighted by points; NaN where ranks
        do not vary.
    """
    a, b = points(path_a, number_a), points(path_b, number_b)
    both = a.merge(b[["site", "index", "score"]], on=["site", "index"], suffixes=("", "_b"))
    rows: list[dict[str, Any]] = []
    for (site, role, layer), part in both.groupby(["site", "role", "layer"], sort=False):
        value = spearman(part["score"].to_numpy(), part["score_b"].to_numpy())
        rows.append({"site": site, "role": role, "layer": layer, "points": len(part), "spearman": value})
    known = [r for r in rows if np.isfinite(r["spearman"])]
    if rows:
        total = sum(r["points"] for r in known)
        mean = sum(r["spearman"] * r["points"] for r in known) / total if total else float("nan")
        rows.append({"site": "overall", "role": "", "layer": -1, "points": total, "spearman": mean})
    return table(RANKS, rows)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Correlates the ranks of two vectors, ties at their mean rank; NaN when either has a single value."""
    known = np.isfinite(a) & np.isfinite(b)
    first = pd.Series(a[known]).rank().to_numpy(dtype=np.float64)
    second = pd.Series(b[known]).rank().to_numpy(dtype=np.float64)
    first, second = (
        first - first.mean() if len(first) else first,
        second - second.mean() if len(second) else second,
    )
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 0 else float("nan")


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _masks(path: Path, number: int | None) -> Masks:
    bits = packed(path, number)
    # Two factors have no mask: the ones saved for them would agree with everything.
    return {s.name: (s, bits[s.name]) for s in sites_of(path) if fits(s, bits.get(s.name)) and not s.rank}


def _compare(a: Masks, b: Masks) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    chance = 0.0
    for name, (site, bits) in a.items():
        if name not in b or (b[name][0].rows, b[name][0].cols) != (site.rows, site.cols):
            continue
        row = _row(site, ones(bits), ones(b[name][1]), ones(bits & b[name][1]))
        chance += row["kept_a"] * row["kept_b"] / site.weights
        rows.append(row)
    if rows:
        sums = {k: sum(r[k] for r in rows) for k in ("weights", "kept_a", "kept_b", "both")}
        either = sums["kept_a"] + sums["kept_b"]
        share = sums["both"] / (either - sums["both"]) if either else float("nan")
        random = chance / (either - chance) if either else float("nan")
        rows.append(
            {"site": "overall", "role": "", "layer": -1, **sums, "jaccard": share, "expected": random}
        )
    return table(OVERLAP, rows)


def _row(site: Site, kept_a: int, kept_b: int, both: int) -> dict[str, Any]:
    either = kept_a + kept_b - both
    return {
        "site": site.name,
        "role": site.role,
        "layer": site.layer,
        "weights": site.weights,
        "kept_a": kept_a,
        "kept_b": kept_b,
        "both": both,
        "jaccard": both / either if either else float("nan"),
        "expected": expected_jaccard(site.weights, kept_a, kept_b),
    }
