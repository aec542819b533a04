"""Narrowing results to one model and task, and to the learning rates that are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.ui import pick, story, url

AXES = {"keep_prunable": "prunable weights", "keep_encoder": "encoder", "keep_model": "whole model"}
RATES = {"best": "Each at its best", "all": "All"}


@dataclass(frozen=True)
class Study:
    """Results of one model on one task, in its main metric."""

    results: pd.DataFrame
    metric: str
    floor: float | None
    dense: float | None


@dataclass(frozen=True)
class Found:
    """What the page draws: curves, single runs, and what they say."""

    curves: pd.DataFrame
    points: pd.DataFrame
    sentences: list[str]


def _mean(values: pd.Series) -> float | None:
    mean = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(mean) else mean


def choose(results: pd.DataFrame) -> Study:
    """Lets the visitor choose model and task, own or recorded runs, and the recipes; ends the page without results."""
    if results.empty:
        story.stop_empty("No run has been evaluated yet: start one, and its point appears here.")
    pairs = list(dict.fromkeys(zip(results["model"], results["task"], strict=True)))
    names = {f"{m}|{t}": f"{pick.short_name(m)} on {pick.short_name(t)}" for m, t in sorted(pairs)}
    left, right = st.columns(2)
    with left:
        chosen = url.select("Model and task", list(names), key="study", name=names.__getitem__)
    rows = results[(results["model"] + "|" + results["task"]) == chosen]
    with right:
        recipes = sorted(set(rows["recipe"]) - {"dense"})
        wanted = url.many("Recipes", recipes, key="recipe", placeholder="all recipes", name=pick.recipe_title)
    tests = rows[rows["split"] == "test"]
    metric = str(tests["metric"].mode().iloc[0]) if len(tests) else "metric"
    rows = rows[rows["metric"] == metric]
    dense = rows[(rows["recipe"] == "dense") & (rows["split"] == "test")]
    kept = rows[rows["recipe"].isin(wanted or recipes)]
    return Study(kept, f"test {metric}", _mean(tests["floor"]), _mean(frames.best_lr(dense_all(rows))["value"]) or _mean(dense["value"]))


def dense_all(rows: pd.DataFrame) -> pd.DataFrame:
    """Both splits of the dense runs, from which the best learning rate is chosen."""
    return rows[rows["recipe"] == "dense"]


def curves(study: Study, axis: str, rates: str, facet: str) -> Found:
    """The lines of a study.

    Args:
        study: from `choose`.
        axis: a key of `AXES`, the denominator.
        rates: a key of `RATES`, which learning rates are shown.
        facet: column that splits the figure, "" for none.

    Returns:
        the curves, the test results behind them, and the verdict when there is a single panel.
    """
    rows = frames.best_lr(study.results) if rates == "best" and facet != "lr" else study.results
    by = list(dict.fromkeys(["recipe", *([facet] if facet else []), *(["lr"] if rates == "all" and not facet else [])]))
    found = frames.curves(rows, by=by, x=axis)
    sentences = frames.verdict(found, by=by) if len(found) and not facet else []
    tests = rows[rows["split"] == "test"]
    return Found(found, tests.assign(keep=tests[axis]), sentences)


def title(axis: str) -> str:
    """The title of the horizontal axis, its denominator named."""
    return f"kept, share of {'the ' if axis != 'keep_prunable' else ''}{AXES[axis]} (%)"
