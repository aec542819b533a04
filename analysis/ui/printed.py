"""Published results beside one's own: what may be drawn, and what has to be said with it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.ui import pick, url
from analysis.ui.studies import Study

DENOMINATOR = "keep_prunable"  # the paper's keeps, converted to the encoder's linear weights


def overlay(study: Study, axis: str) -> tuple[pd.DataFrame | None, str]:
    """Lets the visitor draw published results, where they measure the same with the same denominator.

    Args:
        study: what the page draws.
        axis: the denominator of its horizontal axis.

    Returns:
        the points (None for none), and the caption that belongs to them.
    """
    metric = study.metric.removeprefix("test ")
    source = pick.short_name(str(study.results["task"].iloc[0])).lower() if len(study.results) else ""
    # F1 is another measure for answers, pairs and entities, so it is only compared on the task itself.
    fitting = [
        name
        for name, task in frames.TASKS.items()
        if metric in task.metrics and (metric == "accuracy" or source.startswith(name))
    ]
    if axis != DENOMINATOR or not fitting:
        return None, ""
    help_text = f"Every published point of the movement pruning paper whose metric is {metric}, hollow."
    if not url.value("Published results", key="published", default=False, widget=st.toggle, help=help_text):
        return None, ""
    names = {
        f"{task}-{word}": f"{frames.TASKS[task].title}, {word.replace('-', ' ')}"
        for task in fitting
        for word in ("no-teacher", "taught")
    }
    own = next((task for task in fitting if source.startswith(task)), "")
    chosen = url.select(
        "Published for",
        list(names),
        key="published.of",
        default=f"{own or fitting[0]}-no-teacher",
        name=names.__getitem__,
    )
    task, _, word = chosen.partition("-")
    return frames.published(task, metric, word == "taught"), caption(
        task, word == "taught", bool(own == task)
    )


def caption(task: str, taught: bool, same: bool) -> str:
    """What has to be known of the published points of a task before they are compared with one's own.

    Args:
        task: a key of ``frames.TASKS``.
        taught: whether they were trained with a teacher.
        same: whether one's own runs are on that task.
    """
    about = frames.TASKS[task]
    teacher = (
        "taught by the dense BERT-base fine-tuned for 3 epochs (0.9 teacher at temperature 2, 0.1 labels)"
        if taught
        else "without a teacher"
    )
    other = "another model" if same else "another model and another task"
    return (
        f"Hollow marks: {about.title}, development set, BERT-base, {about.epochs}, {teacher}; kept of the "
        "84.9 million linear weights of its encoder, which are the prunable ones; a dot in a mark is a "
        "global ranking of magnitude or movement. Source: the sheet behind Sanh, Wolf and Rush 2020, "
        f"arXiv:2005.07683. This is {other}: compare the order and the shape of the lines, not their height."
    )
