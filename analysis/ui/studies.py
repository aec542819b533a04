"""Narrowing results to one model and task, and to the learning rates that are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.bundle import demo
from analysis.figures.theme import recipe_title
from analysis.ui import pick, story, url

AXES = {"keep_prunable": "prunable weights", "keep_encoder": "the encoder", "keep_model": "the whole model"}
BUNDLED = f"{demo.MODEL}|{demo.TASK}"
BEST = "each at its best"
VIEWS = {"keep": "weights kept", "compute": "training compute"}
PANELS = {"": "one", "lr": "per learning rate", "teacher": "per teacher"}


@dataclass(frozen=True)
class Study:
    """Results of one model on one task, in its main metric."""

    results: pd.DataFrame
    metric: str
    floor: float | None
    dense: pd.DataFrame


@dataclass(frozen=True)
class Found:
    """What the page draws: curves, the dense model's level, single runs, and what they say."""

    curves: pd.DataFrame
    dense: dict[object, float]
    points: pd.DataFrame
    sentences: list[str]


@dataclass(frozen=True)
class Front:
    """What the page draws against compute: all trials, one number per recipe, and what they say."""

    trials: pd.DataFrame
    areas: pd.DataFrame
    sentences: list[str]


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def choose(results: pd.DataFrame) -> Study:
    """Lets the visitor choose model, task and recipes; ends the page when nothing was measured."""
    if results.empty:
        story.stop_empty("No run has been evaluated yet: start one, and its point appears here.")
    pairs = sorted(set(zip(results["model"], results["task"], strict=True)))
    names = {
        f"{model}|{task}": f"{pick.short_name(model)} on {pick.short_name(task)}" for model, task in pairs
    }
    left, right = st.columns([2, 3])
    with left:
        chosen = url.select(
            "Model and task", list(names), key="study", default=BUNDLED, name=names.__getitem__
        )
    rows = results[(results["model"] + "|" + results["task"]) == chosen]
    with right:
        known = sorted(set(rows["recipe"]) - {"dense"})
        wanted = url.many("Recipes", known, key="recipe", placeholder="all recipes", name=recipe_title)
    tests = rows[rows["split"] == "test"]
    metric = str(tests["metric"].mode().iloc[0]) if len(tests) else "metric"
    rows = rows[rows["metric"] == metric]
    return Study(
        results=rows[rows["recipe"].isin(wanted or known)],
        metric=f"test {metric}",
        floor=_mean(tests["floor"]),
        dense=rows[rows["recipe"] == "dense"],
    )


def _chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs at the best learning rate, or all of them where none was evaluated on the validation split."""
    best = frames.best_lr(rows)
    return best if len(best) else rows


def rate(study: Study) -> str | float:
    """Lets the visitor choose each recipe's best learning rate or one for all."""
    options = [BEST, *sorted(set(study.results["lr"].dropna()))]
    name = lambda value: value if isinstance(value, str) else f"{value:g} for all"  # noqa: E731
    chosen: str | float = url.select("Weight learning rate", options, key="lr", name=name)
    return chosen


def curves(study: Study, axis: str, lr: str | float, facet: str) -> Found:
    """The lines of a study.

    Args:
        study: from `choose`.
        axis: a key of `AXES`, the denominator.
        lr: from `rate`; not used when the panels are learning rates.
        facet: column that splits the figure, "" for none.

    Returns:
        the curves, the level of the dense model in every panel (the key None is the only one), the test
        results behind them, and what they say.
    """
    rows, dense = study.results, study.dense
    if facet != "lr":
        rows, dense = (_chosen(r) if lr == BEST else r[r["lr"] == lr] for r in (rows, dense))
    by = ["recipe", facet] if facet else ["recipe"]
    found = frames.curves(rows, by=by, x=axis)
    sentences = _said(found, by, axis) if len(found) else []
    if facet:
        sentences = ["Sentences compare the lines of one panel: choose one panel to read them."]
    elif lr == BEST:
        sentences += [_one_rate(name, keeps) for name, keeps in frames.few_rates(study.results)]
    tests = rows[rows["split"] == "test"]
    return Found(found, _levels(dense, facet), tests.assign(keep=tests[axis]), sentences)


def _said(found: pd.DataFrame, by: list[str], axis: str) -> list[str]:
    titles = {name: recipe_title(name) for name in found["recipe"].unique()}
    return frames.verdict(found, by=by, of=AXES[axis], titles=titles)


def _one_rate(name: str, keeps: list[float]) -> str:
    return (
        f"{recipe_title(name)} was tried at one learning rate only with "
        f"{', '.join(map(pick.percent, keeps))} kept: there its best is that one, and others "
        "may have gained more from a choice."
    )


def _levels(dense: pd.DataFrame, facet: str) -> dict[object, float]:
    """The dense model's mean at the learning rate of each panel; at one rate where panels are something
    else.
    """
    panels = {None: dense} if facet != "lr" else dict(list(dense.groupby("lr")))
    means = {
        key: _mean(frames.usual(frames.curves(rows, by=("recipe",)))["mean"]) for key, rows in panels.items()
    }
    return {key: mean for key, mean in means.items() if mean is not None}


def front(study: Study) -> Front:
    """The trials of a study against their training compute; the dense model is one of the recipes."""
    trials = frames.trials(pd.concat([study.results, study.dense]))
    areas = frames.areas(trials)
    return Front(trials, areas, frames.front_sentences(areas))


def title(axis: str) -> str:
    """The title of the horizontal axis, its denominator named."""
    return f"weights kept (% of {AXES[axis]})"
