"""What compute buys: runs against the multiply-adds of their training, and the front of those that pay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.frames.curves import target_of
from analysis.frames.tables import table

TRIALS = {
    "macs": "float64",
    "validation": "float64",
    "test": "float64",
    "low": "float64",
    "high": "float64",
    "runs": "int64",
    "keep": "float64",
    "lr": "float64",
    "settings": "str",
    "front": "bool",
}
AREAS = {"area": "float64", "low": "float64", "high": "float64", "trials": "int64", "spent": "float64"}
PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def on_front(macs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which trials are worth their compute: those better than every trial that cost no more.

    Args:
        macs: compute of each trial, shape [n].
        values: what it is chosen by, higher is better, shape [n].

    Returns:
        bool, shape [n]; of equal trials the first.
    """
    order = np.lexsort((-values, macs))
    chosen = np.zeros(len(macs), dtype=bool)
    best = -np.inf
    for i in order:
        if values[i] > best:
            best, chosen[i] = values[i], True
    return chosen


def best_at(macs: np.ndarray, values: np.ndarray, budget: float) -> float:
    """The value of the dearest point of a front that a budget pays for; NaN where it pays for none.

    Args:
        macs: compute of the points of one front, shape [n].
        values: their values, shape [n].
        budget: compute, in multiply-adds.
    """
    paid = macs <= budget
    return float(values[paid][np.argmax(macs[paid])]) if paid.any() else float("nan")


def log_area(macs: np.ndarray, values: np.ndarray, low: float, high: float) -> float:
    """The mean height of a front over the logarithm of compute.

    area = 1 / ln(high / low) * integral of best(C) d ln C from low to high, with best(C) the value of
    ``best_at``: every doubling of compute counts alike. It has the unit of the values.

    Args:
        macs: compute of the points of one front, shape [n].
        values: their values, shape [n].
        low: start of the interval, above 0; NaN is returned where the front begins later.
        high: its end, above ``low``.
    """
    order = np.argsort(macs)
    macs, values = macs[order], values[order]
    if not len(macs) or not 0 < low < high or macs[0] > low:
        return float("nan")
    steps = np.diff(np.log(np.clip(np.append(macs, high), low, high)))
    return float((steps * values).sum() / np.log(high / low))


def trials(results: pd.DataFrame, by: Sequence[str] = ("recipe",)) -> pd.DataFrame:
    """Gathers runs that differ in nothing but the seed into one trial, and marks those on the front.

    The front is found on the validation split, so that the test values of its points are not chosen by
    themselves. Every learning rate and every setting is a trial; none is added to another's compute.

    Args:
        results: a frame of ``frames.results`` of one model, task and metric, with both splits.
        by: columns that name a line.

    Returns:
        the columns of ``by``, macs (training compute of a run, mean over the seeds), validation and test
        (means), low and high (of test), runs (number of seeds), keep (of the prunable weights), lr,
        settings, front; sorted by line and compute. Runs that do not say their compute are left out.
    """
    columns = dict.fromkeys(by, "str") | TRIALS
    known = np.isfinite(results["value"]) & np.isfinite(results["macs"]) & (results["macs"] > 0)
    rows = results[known].reset_index(drop=True)
    if rows.empty:
        return table(columns)
    cell = [*by, "settings", "lr", "target"]
    rows = rows.assign(target=target_of)
    seeds = rows.groupby([*cell, "seed", "split"], dropna=False)[["value", "macs", "keep_prunable"]].mean()
    splits = dict(list(seeds.reset_index().groupby("split")))
    if not {"validation", "test"} <= set(splits):
        return table(columns)
    chosen = splits["validation"].groupby(cell, dropna=False)["value"].mean().rename("validation")
    shown = splits["test"].groupby(cell, dropna=False)
    points = shown.agg(
        macs=("macs", "mean"),
        test=("value", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        runs=("seed", "nunique"),
        keep=("keep_prunable", "mean"),
    )
    points = points.reset_index().merge(chosen.reset_index(), on=cell)
    points["front"] = False
    for _, line in points.groupby(list(by), dropna=False):
        marks = on_front(line["macs"].to_numpy(), line["validation"].to_numpy())
        points.loc[line.index, "front"] = marks
    points = points.sort_values([*by, "macs", "validation"], kind="stable")
    return table(columns, {name: points[name].to_numpy() for name in columns})


def areas(trials: pd.DataFrame, by: Sequence[str] = ("recipe",)) -> pd.DataFrame:
    """One number per line: the mean test value of its front over the logarithm of compute.

    Args:
        trials: a frame of ``trials``.
        by: columns that name a line.

    Returns:
        the columns of ``by``, area (``log_area`` of the test values), low and high (the interval that all
        lines share: from where the last of them begins to the dearest trial of all), trials (how many were
        tried), spent (multiply-adds of all of its runs together).
    """
    columns = dict.fromkeys(by, "str") | AREAS
    if trials.empty:
        return table(columns)
    low, high = float(trials.groupby(list(by))["macs"].min().max()), float(trials["macs"].max())
    found = []
    for key, line in trials.groupby(list(by), sort=True):
        front = line[line["front"]]
        area = log_area(front["macs"].to_numpy(), front["test"].to_numpy(), low, high)
        spent = float((line["macs"] * line["runs"]).sum())
        names = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        found.append({**names, "area": area, "low": low, "high": high, "trials": len(line), "spent": spent})
    return table(columns, found)


def front_sentences(areas: pd.DataFrame) -> list[str]:
    """Says what a frame of ``areas`` holds; one sentence a line, best first."""
    ranked = areas[np.isfinite(areas["area"])].sort_values("area", ascending=False, kind="stable")
    return [
        f"{str(row['recipe']).replace('_', ' ')}: {row['area']:.3f} on average between {amount(row['low'])} "
        f"and {amount(row['high'])} multiply-adds, every doubling counted alike; finding its front took "
        f"{row['trials']} settings and {amount(row['spent'])} in all."
        for row in ranked.to_dict("records")
    ]


def amount(value: float) -> str:
    """Writes a large number with three digits and a prefix: 1.82 G."""
    for size, prefix in PREFIXES:
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"
