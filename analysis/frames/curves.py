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
TEXTS = ("recipe", "model", "task", "teacher", "run", "name", "metric", "split", "state", "settings")


def curves(
    results: pd.DataFrame,
    by: Sequence[str] = ("recipe", "lr"),
    x: str = "keep_prunable",
    split: str = "test",
) -> pd.DataFrame:
    """Gathers runs that differ in nothing but the seed into one point: mean, lowest and highest value.

    Args:
        results: a frame of ``frames.results``, already narrowed to one model, task and metric.
        by: columns that name a line; runs of a line that differ in more than seed, keep and learning rate
            become lines of their own.
        x: column of the horizontal axis, such as "keep_prunable", "keep_encoder" or "seconds".
        split: split of the data that is shown; settings are chosen on "validation" and read on "test".

    Returns:
        the columns of ``by``, variant ("" for the settings that most runs of the line share, else what sets
        them apart), settings (``RESULTS``), keep (mean of ``x`` over the seeds), mean, low, high (unit of
        the metric), runs (number of seeds), floor, recorded (True when every run of the point is), sorted by
        line and keep.
    """
    columns = {name: "str" if name in TEXTS else "float64" for name in by}
    columns |= {"variant": "str", "settings": "str"} | NUMBERS
    rows = results[results["split"] == split] if len(results) else results
    rows = rows[np.isfinite(rows["value"]) & np.isfinite(rows[x])] if len(rows) else rows
    if rows.empty:
        return table(columns)
    rows = rows.reset_index(drop=True).assign(target=target_of)
    rows["variant"] = _variants(rows, by)
    cell = [*by, "variant", "settings", "target"]
    # One seed is one vote, however often it was run; a visitor's repetition does not move a recorded point.
    rows = rows.sort_values("recorded", ascending=False, kind="stable")
    first = rows.groupby([*cell, "seed"], dropna=False)["recorded"].transform("first")
    seeds = rows[rows["recorded"] == first].groupby([*cell, "seed"], sort=True, dropna=False)
    rows = seeds.agg({x: "mean", "value": "mean", "floor": "mean", "recorded": "all", "metric": "first"})
    rows = rows.reset_index()
    grouped = rows.groupby(cell, sort=True, dropna=False)
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
    points = points.sort_values([*by, "variant", "keep"], kind="stable", na_position="last")
    return table(columns, {name: points[name].to_numpy() for name in columns})


def best_lr(
    results: pd.DataFrame, by: Sequence[str] = ("recipe", "model", "task", "teacher")
) -> pd.DataFrame:
    """Keeps, for every line, settings and keep, the runs at the learning rate best on validation.

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
    rows = results.assign(target=target_of(results))
    cell = [*by, "settings", "metric", "target"]
    seen = rows[(rows["split"] == "validation") & np.isfinite(rows["value"]) & np.isfinite(rows["lr"])]
    means = seen.groupby([*cell, "lr"], sort=True)["value"].mean().reset_index()
    best = means.sort_values("value", kind="stable", ascending=False).drop_duplicates(cell)
    chosen = rows.merge(best[[*cell, "lr"]], on=[*cell, "lr"], how="inner")
    return chosen.drop(columns="target")


def few_rates(results: pd.DataFrame, by: Sequence[str] = ("recipe",)) -> list[tuple[str, list[float]]]:
    """Finds where a best learning rate is the best of one: keeps tried at a single rate.

    Args:
        results: a frame of ``frames.results``, narrowed to one model, task and metric.
        by: columns that name a line; the first is what the line is called.

    Returns:
        name and keeps of every line that has such keeps, none of a frame in which nobody tried two rates.
    """
    seen = results[results["split"] == "validation"] if len(results) else results
    seen = seen[np.isfinite(seen["lr"])] if len(seen) else seen
    if seen.empty or seen["lr"].nunique() < 2:
        return []
    seen = seen.assign(target=target_of(seen))
    rates = seen.groupby([*by, "target"])["lr"].nunique()
    single = rates[rates == 1].reset_index()
    return [(str(name), sorted(part["target"])) for name, part in single.groupby(by[0])]


def usual(points: pd.DataFrame) -> pd.DataFrame:
    """Narrows points to the settings that most runs of a line share; all of them where only others are left.

    Args:
        points: a frame of ``curves``.

    Returns:
        the rows whose ``variant`` is "", or ``points`` when there is none.
    """
    rows = points[points["variant"] == ""]
    return rows if len(rows) else points


def _apart(settings: object, same: pd.DataFrame, usual: pd.DataFrame) -> str:
    """What sets runs with other settings apart: another number of steps where there is one."""
    steps = [set(rows["steps"]) if "steps" in rows else set() for rows in (same, usual)]
    if len(steps[0]) == 1 and steps[0] != steps[1]:
        return f"{int(next(iter(steps[0]))):,} steps ({settings})"
    return f"other settings ({settings})"


def _variants(rows: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Says of each run what sets it apart from most runs of its line; the index of ``rows`` is unique."""
    found = pd.Series("", index=rows.index, dtype="str")
    for _, line in rows.groupby(list(by), dropna=False):
        usual_settings = _most(line, "settings")
        usual = line[line["settings"] == usual_settings]
        for settings, same in line.groupby("settings"):
            words = [] if settings == usual_settings else [_apart(settings, same, usual)]
            found[same.index] = ", ".join(words)
            if same.groupby("target", dropna=False)["lr"].nunique(dropna=False).max() > 1:
                # one rate a keep is a line of best rates; two at the same keep are two lines
                usual_rate = _most(same, "lr")
                for rate, part in same[same["lr"] != usual_rate].groupby("lr", dropna=False):
                    found[part.index] = ", ".join([*words, f"learning rate {rate:g}"])
    return found


def _most(line: pd.DataFrame, column: str) -> object:
    """The value that most runs have; of equally many the one recorded runs have, then the smallest."""
    found = line.groupby(column, dropna=False).agg(runs=("seed", "size"), recorded=("recorded", "any"))
    return found.sort_values(["runs", "recorded"], ascending=False, kind="stable").index[0]


def target_of(rows: pd.DataFrame) -> pd.Series:
    """The nominal keep of a run; where it has none (a learned keep), the measured one to two digits."""
    measured = rows["keep_prunable"].map(lambda v: float(f"{v:.2g}") if np.isfinite(v) else np.nan)
    return rows["keep_target"].round(6).fillna(measured)
