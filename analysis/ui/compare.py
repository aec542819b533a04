"""What the start page compares: recorded curves of the bundled task, and the runs this visitor has
started.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.bundle import demo
from analysis.errors import LabError
from analysis.figures.theme import recipe_title
from analysis.frames.verdict import SAME
from analysis.recipes.build import COMMON
from analysis.store.launch import ensure_runner
from analysis.store.runs import RunInfo, find_run
from analysis.ui import guard, live, plans

log = logging.getLogger(__name__)
SHARED_LR = float(COMMON[demo.TASK]["optimizer.lr"])
EQUAL, BEST = "the same weight learning rate", "each at its best learning rate"
PANEL = "with"


@dataclass(frozen=True)
class Comparison:
    """Curves in two panels, what each panel shows in sentences, and the levels to compare with."""

    curves: pd.DataFrame
    points: pd.DataFrame
    headlines: dict[str, str]
    sentences: dict[str, list[str]]
    dense: float | None
    floor: float | None
    metric: str


def comparison(
    results: pd.DataFrame, own: Sequence[str] = (), model: str = demo.MODEL, task: str = demo.TASK
) -> Comparison:
    """Gathers the two sides: all runs at the learning rate that suits the dense model, and each recipe at its
    best.

    Args:
        results: a frame of ``frames.results``.
        own: ids of the visitor's runs, drawn as single points over the recorded curves.
        model: model compared on.
        task: task compared on.

    Returns:
        the comparison; its frames are empty when nothing was measured.
    """
    rows = results[(results["task"] == task) & (results["model"] == model)]
    rows = rows[rows["recipe"].isin([*demo.RECIPES, "dense"])]
    mine = rows[rows["run"].isin(list(own)) & (rows["split"] == "test") & (rows["recipe"] != "dense")]
    if rows[
        "recorded"
    ].any():  # a visitor's runs are points of their own, never mixed into a band of recorded seeds
        rows = rows[rows["recorded"]]
    pruned, dense = (
        rows[rows["recipe"] != "dense"],
        rows[(rows["recipe"] == "dense") & (rows["split"] == "test")],
    )
    sides = {EQUAL: pruned[pruned["lr"] == SHARED_LR], BEST: frames.best_lr(pruned)}
    titles = {name: recipe_title(name) for name in demo.RECIPES}
    curves = {name: frames.curves(side, by=("recipe",)) for name, side in sides.items()}
    tests = rows[rows["split"] == "test"]
    level = frames.usual(frames.curves(dense[dense["lr"] == SHARED_LR], by=("recipe",)))["mean"].mean()
    floor = tests["floor"].mean()
    return Comparison(
        curves=pd.concat(
            [frame.assign(**{PANEL: name}) for name, frame in curves.items()], ignore_index=True
        ),
        points=mine.assign(**{PANEL: EQUAL}),
        headlines={name: _headline(frame) for name, frame in curves.items() if len(frame)},
        sentences={
            name: frames.verdict(frame, titles=titles) for name, frame in curves.items() if len(frame)
        },
        dense=None if math.isnan(level) else float(level),
        floor=None if math.isnan(floor) else float(floor),
        metric=f"test {tests['metric'].iloc[0]}" if len(tests) else "test accuracy",
    )


def _headline(curves: pd.DataFrame) -> str:
    """What the curves say where least is kept by all, which is where recipes differ most."""
    curves = frames.usual(curves)
    least = curves.groupby("recipe")["keep"].min().max()
    return frames.verdict(curves[curves["keep"] <= least * (1 + SAME)])[0]


def start(runs: Path, further: bool, seed: int = 0) -> list[str]:
    """Starts the first pair and, when asked, the dense model and the pairs at the other keeps; returns the
    ids.
    """
    wanted = demo.comparison(seed=seed)
    return plans.launch(runs, wanted if further else wanted[: len(demo.RECIPES)])


def warm(runs: Path) -> None:
    """Has the runner import torch while the visitor still reads, so that a press begins to train at once.

    ``PRUNING_LAB_WARM=0`` leaves that to the press itself.
    """
    if os.environ.get("PRUNING_LAB_WARM", "1") == "0":
        return
    try:
        ensure_runner(runs)
    except LabError as error:  # said again, and on the page, when a button is pressed
        log.info("no runner is kept ready: %s", error)


def known(runs: Path, ids: Sequence[str]) -> list[RunInfo]:
    """The runs with these ids that still exist."""
    found = []
    for run_id in ids:
        try:
            found.append(find_run(runs, run_id))
        except LabError:
            continue
    return found


def values(results: pd.DataFrame, ids: Sequence[str]) -> dict[str, str]:
    """The test result of each of some runs, as a person reads it."""
    rows = results[results["run"].isin(list(ids)) & (results["split"] == "test")]
    return {
        run: f"test {metric} {value:.3f}"
        for run, metric, value in rows[["run", "metric", "value"]].itertuples(index=False)
    }


def outcome(results: pd.DataFrame, ids: Sequence[str]) -> list[str]:
    """What the finished ones of some runs say, in sentences; [] until two of them can be compared."""
    rows = results[results["run"].isin(list(ids)) & (results["recipe"] != "dense")]
    curves = frames.curves(rows, by=("recipe",))
    return frames.verdict(curves) if curves["recipe"].nunique() > 1 else []


def progress(mine: Sequence[RunInfo], results: pd.DataFrame) -> None:
    """A visitor's comparison as it lands: a column of bars per recipe, then what the pairs say."""
    done = values(results, [info.id for info in mine])
    recipes = list(dict.fromkeys(info.recipe for info in mine))
    with st.container(border=True):
        for column, recipe in zip(st.columns(len(recipes)), recipes, strict=True):
            with column:
                st.markdown(f"**{recipe_title(recipe).capitalize()}**")
                for info in sorted(mine, key=lambda run: run.keep):
                    if info.recipe == recipe:
                        live.bar(info, "", done.get(info.id, ""))
        said = outcome(results, list(done))
        if said:
            st.success("\n".join(f"- {guard.escape(text)}" for text in said), icon=":material/insights:")
