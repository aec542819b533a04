"""What sparsity costs: seeds gathered into points of a curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.frames.tables import table

NUMBERS = {
    "keep": "float64",
    "mean": "float64",
    "low": "float64",
    "high": "float64",
    "runs": "int64",
    "floor": "float64",
    "recorded": "bool",
    "metric": "str",
}
TEXTS = ("recipe", "model", "task", "teacher", "run", "name", "metric", "split", "state")


def curves(
    results: pd.DataFrame,
    by: Sequence[str] = ("recipe", "lr"),
    x: str = "keep_prunable",
    split: str = "test",
) -> pd.DataFrame:
    """Gathers runs that differ in nothing but the seed into one point: mean, lowest and highest value.

    Args:
        results: a frame of ``frames.results``, already narrowed to one model, task and metric.
        by: columns that name a line.
        x: column of the horizontal axis, such as "keep_prunable", "keep_encoder" or "seconds".
        split: split of the data that is shown; settings are chosen on "validation" and read on "test".

    Returns:
        the columns of ``by``, then keep (mean of ``x`` over the seeds), mean, low, high (unit of the
        metric), runs
        (number of seeds), floor, recorded (True when every run of the point is), sorted by line and keep.
    """
    columns = {name: "str" if name in TEXTS else "float64" for name in by} | NUMBERS
    rows = results[results["split"] == split] if len(results) else results
    rows = rows[np.isfinite(rows["value"]) & np.isfinite(rows[x])] if len(rows) else rows
    if rows.empty:
        return table(columns)
    rows = rows.assign(target=_target(rows))
    grouped = rows.groupby([*by, "target"], sort=True, dropna=False)
    points = grouped.agg(
        keep=(x, "mean"),
        mean=("value", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        runs=("seed", "nunique"),
        floor=("floor", "mean"),
        recorded=("recorded", "all"),
        metric=("metric", "first"),
    ).reset_index()
    points = points.sort_values([*by, "keep"], kind="stable", na_position="last")
    return table(columns, {name: points[name].to_numpy() for name in columns})


def best_lr(
    results: pd.DataFrame, by: Sequence[str] = ("recipe", "model", "task", "teacher")
) -> pd.DataFrame:
    """Keeps, for every line and keep, only the runs at the learning rate that was best on validation.

    The choice never looks at the test split. A cell without a validation value is left out rather than
    guessed.

    Args:
        results: a frame of ``frames.results`` that holds the rows of both splits.
        by: columns that name a line, without the learning rate.

    Returns:
        the rows of ``results`` (every split) at the chosen learning rates.
    """
    if results.empty:
        return results
    rows = results.assign(target=_target(results))
    cell = [*by, "metric", "target"]
    seen = rows[(rows["split"] == "validation") & np.isfinite(rows["value"]) & np.isfinite(rows["lr"])]
    means = seen.groupby([*cell, "lr"], sort=True)["value"].mean().reset_index()
    best = means.sort_values("value", kind="stable", ascending=False).drop_duplicates(cell)
    chosen = rows.merge(best[[*cell, "lr"]], on=[*cell, "lr"], how="inner")
    return chosen.drop(columns="target")


def _target(rows: pd.DataFrame) -> pd.Series:
    """The nominal keep of a run; where it has none (a learned keep), the measured one to two digits."""
    measured = rows["keep_prunable"].map(lambda v: float(f"{v:.2g}") if np.isfinite(v) else np.nan)
    return rows["keep_target"].round(6).fillna(measured)


def pareto(points: pd.DataFrame, x: str = "keep", y: str = "mean") -> pd.Series:
    """Says of each point whether no other one costs no more and scores no less (one of the two strictly)."""
    costs, gains = points[x].to_numpy(dtype=np.float64), points[y].to_numpy(dtype=np.float64)
    front = [
        bool(np.isfinite([c, g]).all())
        and not bool(((costs <= c) & (gains >= g) & ((costs < c) | (gains > g))).any())
        for c, g in zip(costs, gains, strict=True)
    ]
    return pd.Series(front, index=points.index, dtype=bool)
