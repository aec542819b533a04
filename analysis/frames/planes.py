"""The weight × score plane from the exact bins that the run counted over all of its weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.folders import planes, points_of, sites_of
from analysis.frames.tables import table

PLANE = {
    "x": "float64",
    "y": "float64",
    "dx": "float64",
    "dy": "float64",
    "kept": "int64",
    "pruned": "int64",
}
BOX = {"site": "str", "role": "str", "layer": "int64", "weights": "int64", "kept": "int64"}
POINTS = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "index": "int32",
    "w0": "float32",
    "w": "float32",
    "score": "float32",
    "kept": "bool",
}
THRESHOLDS = {"site": "str", "role": "str", "layer": "int64", "threshold": "float64"}
QUADRANTS = {"size": "str", "score": "str", "weights": "int64", "kept": "int64"}

EDGES = {"score": ("weight_edges", "score_edges"), "start": ("start_edges", "weight_edges")}


def plane(
    run_path: Path, kind: str = "score", number: int | None = None, sites: Collection[str] | None = None
) -> pd.DataFrame:
    """Lists the non-empty bins of a plane, summed over the chosen sites.

    Args:
        run_path: folder of the run.
        kind: "score" (x = weight, y = score) or "start" (x = pre-trained weight, y = weight).
        number: snapshot number, None for the latest.
        sites: names of the sites to sum over, None for all.

    Returns:
        centre and width of each bin, and how many kept and pruned weights lie in it. The outermost bins hold
        everything beyond; they get the width of the others, so that extreme weights do not shrink the rest.
    """
    found = _load(run_path, kind, number)
    if found is None:
        return table(PLANE)
    x, y, kept, pruned, names = found
    chosen = _chosen(names, sites)
    kept, pruned = _total(kept, chosen), _total(pruned, chosen)
    i, j = np.nonzero(kept + pruned)
    x, y = drawn_edges(x), drawn_edges(y)
    return table(
        PLANE,
        {
            "x": (x[i] + x[i + 1]) / 2,
            "y": (y[j] + y[j + 1]) / 2,
            "dx": x[i + 1] - x[i],
            "dy": y[j + 1] - y[j],
            "kept": kept[i, j],
            "pruned": pruned[i, j],
        },
    )


def box(
    run_path: Path,
    kind: str,
    x0: float,
    x1: float,
    y0: float,
    y1: float,
    number: int | None = None,
    sites: Collection[str] | None = None,
) -> pd.DataFrame:
    """Counts, site by site and exactly, the weights in the bins whose centre lies in a box of a plane.

    Args:
        run_path: folder of the run.
        kind: "score" or "start", as for ``plane``.
        x0: one side of the box, in weight units; the two sides may come in either order.
        x1: the other side.
        y0: lower or upper end, in score units ("start": weight units).
        y1: the other end.
        number: snapshot number, None for the latest.
        sites: names of the sites to count, None for all.

    Returns:
        one row a site; ``attrs["box"]`` holds the box snapped to the edges of its bins, or None when it
        holds no bin.
    """
    found = _load(run_path, kind, number)
    if found is None:
        out = table(BOX)
        out.attrs["box"] = None
        return out
    x, y, kept, pruned, names = found
    i, j = _inside(drawn_edges(x), x0, x1), _inside(drawn_edges(y), y0, y1)
    chosen = _chosen(names, sites)
    inside_kept = kept[chosen, i, j].sum(axis=(1, 2), dtype=np.int64)
    inside_pruned = pruned[chosen, i, j].sum(axis=(1, 2), dtype=np.int64)
    picked = [names[s] for s in chosen]
    out = table(
        BOX, {**_labels(run_path, picked), "weights": inside_kept + inside_pruned, "kept": inside_kept}
    )
    empty = i.start == i.stop or j.start == j.stop
    snapped = None if empty else [float(e) for e in (x[i.start], x[i.stop], y[j.start], y[j.stop])]
    out.attrs["box"] = snapped
    return out


def thresholds(
    run_path: Path, number: int | None = None, sites: Collection[str] | None = None
) -> pd.DataFrame:
    """Lists the score threshold of every site, NaN where the run had none: scores above it were kept."""
    found = planes(run_path, number, "threshold", "sites")
    if "threshold" not in found or "sites" not in found:
        return table(THRESHOLDS)
    names = [str(n) for n in found["sites"]]
    values = np.asarray(found["threshold"], dtype=np.float64).reshape(-1)
    if len(values) != len(names):
        return table(THRESHOLDS)
    chosen = _chosen(names, sites)
    return table(THRESHOLDS, {**_labels(run_path, [names[s] for s in chosen]), "threshold": values[chosen]})


def points(run_path: Path, number: int | None = None, sites: Collection[str] | None = None) -> pd.DataFrame:
    """Lists the fixed random sample of weights of a snapshot.

    Args:
        run_path: folder of the run.
        number: snapshot number, None for the latest.
        sites: names of the sites wanted, None for all.

    Returns:
        pre-trained weight w0, weight w before masking, score, and whether it was kept.
    """
    found = points_of(run_path, number)
    if not found or not {"site", "index", "w0", "w", "score", "kept"} <= set(found):
        return table(POINTS)
    names = np.asarray(found["site"]).astype(str)
    if sites is not None:
        chosen = np.isin(names, list(sites))
        found = {k: np.asarray(v)[chosen] for k, v in found.items()}
        names = names[chosen]
    kept = np.asarray(found["kept"]).astype(bool)
    return table(POINTS, {**found, "kept": kept, **_labels(run_path, names)})


def large(plane: pd.DataFrame) -> float:
    """Finds the size |w| above which magnitude pruning would have kept as many weights, to within one bin."""
    if plane.empty:
        return float("nan")
    sizes = plane["x"].abs().to_numpy()
    order = np.argsort(-sizes, kind="stable")
    total = (plane["kept"] + plane["pruned"]).to_numpy()[order].cumsum()
    at = int(np.searchsorted(total, int(plane["kept"].sum())))
    return float(sizes[order][min(at, len(order) - 1)])


def quadrants(plane: pd.DataFrame, split: float | None = None, level: float = 0.0) -> pd.DataFrame:
    """Counts the quarters of the weight × score plane: large or small weights, score above or below a level.

    Args:
        plane: a frame of ``plane``.
        split: size |w| from which a weight is large; None for the one of ``large``.
        level: score that divides rising (above) from falling; 0 for scores that accumulate movement away
            from zero.

    Returns:
        four rows: size "large" or "small", score "rising" or "falling", all weights and kept weights in it.
    """
    if plane.empty:
        return table(QUADRANTS)
    big = plane["x"].abs() >= (large(plane) if split is None else split)
    up = plane["y"] > level
    rows = []
    for size, of_size in (("large", big), ("small", ~big)):
        for score, of_score in (("rising", up), ("falling", ~up)):
            part = plane[of_size & of_score]
            kept = int(part["kept"].sum())
            rows.append(
                {"size": size, "score": score, "weights": kept + int(part["pruned"].sum()), "kept": kept}
            )
    return table(QUADRANTS, rows)


def _load(run_path: Path, kind: str, number: int | None) -> tuple[Any, Any, Any, Any, list[str]] | None:
    first, second = EDGES[kind]
    wanted = ("sites", first, second, f"{kind}_kept", f"{kind}_pruned")
    found = planes(run_path, number, *wanted)
    if not all(name in found for name in wanted):
        return None
    x, y, names = np.asarray(found[first]), np.asarray(found[second]), [str(n) for n in found["sites"]]
    kept, pruned = found[f"{kind}_kept"], found[f"{kind}_pruned"]
    shape = (len(names), len(x) - 1, len(y) - 1)
    return (x, y, kept, pruned, names) if kept.shape == shape and pruned.shape == shape else None


def drawn_edges(edges: np.ndarray) -> np.ndarray:
    """Returns bin edges as float64 in which an outermost bin is no wider than the bin beside it."""
    out = np.asarray(edges, dtype=np.float64).copy()
    if len(out) > 3:
        out[0] = max(out[0], out[1] - (out[2] - out[1]))
        out[-1] = min(out[-1], out[-2] + (out[-2] - out[-3]))
    return out


def _chosen(names: list[str], sites: Collection[str] | None) -> np.ndarray:
    wanted = None if sites is None else set(sites)
    return np.array([i for i, n in enumerate(names) if wanted is None or n in wanted], dtype=np.int64)


def _total(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    whole = counts if len(chosen) == len(counts) else counts[chosen]
    return np.asarray(whole.sum(axis=0, dtype=np.int64))


def _inside(edges: np.ndarray, a: float, b: float) -> slice:
    centres = (edges[:-1] + edges[1:]) / 2
    low, high = min(a, b), max(a, b)
    return slice(int(np.searchsorted(centres, low, "left")), int(np.searchsorted(centres, high, "right")))


def _labels(run_path: Path, names: Any) -> dict[str, Any]:
    known = {s.name: s for s in sites_of(run_path)}
    unique, back = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    roles = np.array([known[n].role if n in known else "" for n in unique], dtype=object)
    layers = np.array([known[n].layer if n in known else -1 for n in unique], dtype=np.int64)
    if not len(unique):
        return {"site": [], "role": [], "layer": []}
    return {"site": unique.astype(object)[back], "role": roles[back], "layer": layers[back]}
