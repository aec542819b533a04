"""The values of a checkpoint from its histograms: distributions, and what a cut would remove."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.checkpoint import arrays_of, labels, sites, tensors
from analysis.frames.tables import UNREADABLE, log, number, read_json, table
from analysis.store import arrays

BINS = {"low": "float64", "high": "float64", "count": "int64"}
SIZES = {"role": "str", "low": "float64", "high": "float64", "count": "int64", "share": "float64"}
CUT = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "label": "str",
    "weights": "int64",
    "zeros": "int64",
    "below": "int64",
    "at": "int64",
    "removed": "float64",
    "kept": "float64",
    "sparsity": "float64",
}
WINDOW = {"row": "int64", "col": "int64", "keep": "float32", "size": "float32"}
INNER = 64
PER_DECADE = 8
REST = 15  # bits of a 32-bit float that its histogram leaves out

Histogram = tuple[np.ndarray, np.ndarray]


def histograms(folder: Path, numbers: Iterable[int]) -> dict[int, Histogram]:
    """Reads histograms without exact zeros: row of ``tensors`` → values float64 rising, counts int64."""
    wanted = set(numbers)
    found = arrays_of(folder, "value", "count")
    return {i: (values.astype(np.float64), counts) for i, values, counts in found if i in wanted}


def tensor_histogram(folder: Path, tensor: str) -> pd.DataFrame:
    """Lists the value histogram of one tensor without its exact zeros; the outer bins reach to infinity.

    Args:
        folder: folder into which the inspection was written.
        tensor: its name.

    Returns:
        64 bins of equal width over the values of all but the largest 0.1 %, and one at either end.
    """
    found = tensors(folder)
    numbers = found.index[found["tensor"] == tensor]
    values, counts = next(iter(histograms(folder, numbers).values()), (np.zeros(0), np.zeros(0, np.int64)))
    if not counts.sum():
        return table(BINS)
    sizes = np.abs(values)
    order = np.argsort(sizes, kind="stable")
    at = np.searchsorted(counts[order].cumsum(), np.ceil(0.999 * counts.sum()))
    limit = float(sizes[order][at]) * 1.05
    inner = np.linspace(-limit, limit, INNER + 1)
    place = np.searchsorted(inner, values, side="right")
    total = np.bincount(place, weights=counts, minlength=INNER + 2).astype(np.int64)
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    return table(BINS, {"low": edges[:-1], "high": edges[1:], "count": total})


def sizes(folder: Path) -> pd.DataFrame:
    """Counts the weights of every role by their size, in eight bins a decade; exact zeros left out.

    Args:
        folder: folder into which the inspection was written.

    Returns:
        one row a role and bin; share = count / weights of the role, zeros among them.
    """
    found = sites(tensors(folder))
    known = histograms(folder, found.index)
    rows = []
    for role, part in found.groupby("role", sort=False):
        pairs = [known[i] for i in part.index if i in known]
        if not pairs:
            continue
        values = np.abs(np.concatenate([v for v, _ in pairs]))
        counts = np.concatenate([c for _, c in pairs])
        place = np.floor(np.log10(values, where=values > 0, out=np.full(values.shape, -45.0)) * PER_DECADE)
        low, inverse = np.unique(place, return_inverse=True)
        total = np.bincount(inverse, weights=counts)
        weights = int(part["numel"].sum())
        rows += [
            {"role": role, "low": 10 ** (p / PER_DECADE), "high": 10 ** ((p + 1) / PER_DECADE)}
            | {"count": int(n), "share": n / weights}
            for p, n in zip(low, total, strict=True)
        ]
    return table(SIZES, rows)


def scored(folder: Path) -> pd.DataFrame:
    """Lists the score tensors that are stored for prunable weights: the rows of ``tensors``, with the role,
    layer and block of the weight they belong to.
    """
    found = tensors(folder)
    weights = found[found["prunable"]]
    weights = weights.set_index(weights["weight"].where(weights["weight"] != "", weights["tensor"]))
    weights = weights[~weights.index.duplicated()]
    out = found[(found["role"] == "scores") & found["weight"].isin(weights.index) & found["zeros"].notna()]
    owners = weights.reindex(out["weight"])
    return out.assign(**{c: owners[c].to_numpy() for c in ("role", "layer", "block")})


def cut(folder: Path, sparsity: float, by: str = "magnitude", scope: str = "global") -> pd.DataFrame:
    """Says what a cut to a sparsity would remove, matrix by matrix, from the histograms alone.

    The k units that rank lowest are removed, k = ⌈sparsity × units⌉; exact zeros rank lowest of all, and what
    is not finite stays. In
    16-bit types everything strictly below the threshold is known exactly, and ``at`` units have the very
    value of the threshold; in 32-bit types ``at`` have a value between the two ends of the threshold. Of
    those some go and some stay; ``removed`` shares them out in proportion.

    Args:
        folder: folder into which the inspection was written.
        sparsity: fraction to be zero, in [0, 1].
        by: "magnitude" of the weights, or the stored "scores" (signed; low goes first).
        scope: "global" ranks all matrices together, "matrix" each on its own.

    Returns:
        one row a matrix: weights (scores where those are cut), zeros now, below, at, removed, sparsity
        afterwards. ``attrs["threshold"]`` holds the ends (low, high) of the threshold, or None without one;
        equal ends are exact. ``attrs["rank"]`` is how many of the units at the threshold go,
        ``attrs["single"]`` whether a second look at 32-bit weights would tell it exactly.
    """
    found = sites(tensors(folder)) if by == "magnitude" else scored(folder)
    known = histograms(folder, found.index)
    found = found.loc[[i for i in found.index if i in known]]
    ranked = {i: _ranked(found.loc[i], known[i], by) for i in found.index}
    groups = [list(found.index)] if scope == "global" else [[i] for i in found.index]
    rows: dict[Any, tuple[int, int, float]] = {}
    threshold: tuple[float, float] | None = None
    rank = 0
    for group in groups:
        units = int(found.loc[group, "numel"].sum())
        ends, rank, counts = _cut([ranked[i] for i in group], sparsity, units)
        threshold = ends if scope == "global" else None
        rows |= dict(zip(group, counts, strict=True))
    found = found.assign(label=labels(found["block"]))
    out = table(
        CUT,
        [
            {"site": r["tensor"], "role": r["role"], "layer": r["layer"], "label": r["label"]}
            | {"weights": r["numel"], "zeros": r["zeros"]}
            | dict(zip(("below", "at", "removed"), rows[i], strict=True))
            | {"kept": r["numel"] - rows[i][2]}
            | {"sparsity": rows[i][2] / r["numel"] if r["numel"] else None}
            for i, r in found.iterrows()
        ],
    )
    if threshold is not None and not _exact(found):
        low, high = sorted((threshold[1], _next(threshold[1])))
        threshold = (low, low if low == 0 and rank <= out["zeros"].sum() else high)
    if by == "magnitude":  # what is zero already stays zero, however little was asked for
        out["removed"] = np.maximum(out["removed"], out["zeros"])
        out["kept"] = out["weights"] - out["removed"]
        out["sparsity"] = out["removed"] / out["weights"].where(out["weights"] > 0)
    wide = threshold is not None and 0 < threshold[0] < threshold[1]
    single = wide and bool((found["dtype"] == "F32").all())
    out.attrs |= {"threshold": threshold, "rank": rank, "single": single}
    return out


def _next(edge: float) -> float:
    """Where the step of a 32-bit histogram that begins at a value ends, away from zero."""
    bits = int(np.float32(edge).view(np.uint32))
    return float(np.uint32(((bits >> REST) + 1) << REST).view(np.float32))


def _exact(found: pd.DataFrame) -> bool:
    return not found["dtype"].isin(["F32", "F64", "C64"]).any()


def _ranked(row: pd.Series, histogram: Histogram, by: str) -> Histogram:
    """Values by which the units of a matrix rank, rising, and their counts; zeros where they belong."""
    values, counts = histogram
    if by == "magnitude":
        values = np.abs(values)
    zeros = int(row["zeros"])
    values, counts = np.append(values, 0.0), np.append(counts, zeros)
    order = np.argsort(values, kind="stable")
    return values[order], counts[order]


def _cut(
    ranked: list[Histogram], sparsity: float, units: int
) -> tuple[tuple[float, float] | None, int, list[tuple[int, int, float]]]:
    """The threshold over some matrices, how many at it go, and of each: below it, at it, removed."""
    values = np.concatenate([v for v, _ in ranked]) if ranked else np.zeros(0)
    counts = np.concatenate([c for _, c in ranked]) if ranked else np.zeros(0, dtype=np.int64)
    wanted = int(np.ceil(min(max(sparsity, 0.0), 1.0) * units - 1e-9))
    wanted = min(wanted, int(counts.sum()))  # what is not finite has no rank and stays
    if wanted <= 0:
        return None, 0, [(0, 0, 0.0) for _ in ranked]
    order = np.argsort(values, kind="stable")
    cumulative = counts[order].cumsum()
    edge = float(values[order][np.searchsorted(cumulative, wanted)])
    parts = [(int(c[v < edge].sum()), int(c[v == edge].sum())) for v, c in ranked]
    below, at = sum(b for b, _ in parts), sum(a for _, a in parts)
    share = (wanted - below) / at if at else 0.0
    return (edge, edge), wanted - below, [(b, a, b + share * a) for b, a in parts]


def window(folder: Path) -> pd.DataFrame:
    """Lists the tiles of a picture of one matrix, as ``frames.mask_picture`` lists those of a mask.

    Args:
        folder: folder of the picture (``engine.inspect.window``).

    Returns:
        first row and column of each tile, the fraction kept, the mean size; ``attrs`` holds ``tile`` (weights
        along a side) and ``shape`` of the matrix.
    """
    try:
        found = arrays.load_arrays(Path(folder) / "window.npz")
        tile, shape = found["tile"].item(), tuple(int(n) for n in found["shape"])
        kept, size = found["kept"], found["size"]
        grid = np.meshgrid(np.arange(kept.shape[0]), np.arange(kept.shape[1]), indexing="ij")
        out = table(
            WINDOW,
            {
                "row": grid[0].ravel() * tile + found["top"].item(),
                "col": grid[1].ravel() * tile + found["left"].item(),
                "keep": kept.ravel() / 100,
                "size": size.ravel(),
            },
        )
    except (*UNREADABLE, IndexError) as error:
        log.info("no picture in %s: %s", folder, error)
        out, tile, shape = table(WINDOW), 1, (0, 0)
    out.attrs |= {"tile": tile, "shape": shape}
    return out


def cut_sentence(frame: pd.DataFrame, sparsity: float, by: str = "magnitude") -> str:
    """Says in words what ``cut`` found.

    Args:
        frame: its result.
        sparsity: what was asked for, in [0, 1].
        by: "magnitude" or "scores".
    """
    what = "weights" if by == "magnitude" else "scores"
    total, zeros, removed = (float(frame[c].sum()) for c in ("weights", "zeros", "removed"))
    if not total:
        return f"There are no {what} to cut."
    new = max(0.0, removed - zeros) if by == "magnitude" else removed
    least, most = frame["sparsity"].min(), frame["sparsity"].max()
    words = f"To {100 * sparsity:g} %: {new:,.0f} more of {total:,.0f} {what} would go"
    if by == "magnitude" and removed <= zeros:
        return f"At {100 * sparsity:g} % nothing more would go: {100 * zeros / total:.1f} % are zero already."
    ends = frame.attrs.get("threshold")
    if ends is None:
        return f"{words}; every matrix has a threshold of its own."
    size = "|w|" if by == "magnitude" else "the score"
    if ends[0] == ends[1]:
        words += f"; {size} up to {ends[1]:.6g} exactly"
    else:
        words += f"; the threshold of {size} lies between {ends[0]:.5g} and {ends[1]:.5g}"
    ties = float(frame["at"].sum())
    if ties > 1:
        words += f", where {ties:,.0f} {what} lie, of which some stay"
    return f"{words}. Matrices would be {100 * least:.1f} to {100 * most:.1f} % sparse."


def exact_threshold(folder: Path) -> dict[str, float]:
    """Reads an exact threshold (``engine.inspect.exact``): threshold, below, at; empty when there is none."""
    found = read_json(Path(folder) / "exact.json")
    numbers = {name: number(found.get(name)) for name in ("threshold", "below", "at")}
    return numbers if all(np.isfinite(v) for v in numbers.values()) else {}
