"""Results as published: every point behind the curves of the movement pruning paper, in our units.

The numbers are those of the authors' own sheet, from which every cell of the paper's Tables 2 and 3 can be
interpolated except those in ``ERRATA``, where the tables are wrong.
Source: Sanh, Wolf and Rush 2020, arXiv:2005.07683, and the sheet in the repository of nn_pruning, which is
Apache-2.0.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.frames.tables import table

FILE = Path(__file__).with_name("published.csv")
COLUMNS = {
    "task": "str",
    "recipe": "str",
    "scope": "str",
    "taught": "bool",
    "metric": "str",
    "keep": "float64",
    "value": "float64",
    "source": "str",
}
PAPER = "Sanh, Wolf, Rush 2020"


@dataclass(frozen=True)
class Task:
    """A published task: its title, what its two columns measure, the length of training, and the dense model.

    Attributes:
        title: as people write it.
        metrics: names of the two metrics, both in [0, 1].
        epochs: of the pruned models.
        dense: values of the unpruned model after three epochs.
    """

    title: str
    metrics: tuple[str, str]
    epochs: str
    dense: tuple[float, float]


TASKS = {
    "squad": Task("SQuAD 1.1", ("exact_match", "f1"), "10 epochs", (0.804, 0.881)),
    "mnli": Task("MNLI", ("accuracy", "accuracy (mismatched)"), "6 epochs", (0.845, 0.849)),
    "qqp": Task("QQP", ("accuracy", "f1"), "10 epochs (L0: 6)", (0.914, 0.884)),
}
# Task, recipe, taught, metric: the kept percentages whose cell is wrong (none for all of the line), and what
# the paper prints there.
ERRATA: dict[tuple[str, str, bool, str], tuple[float | None, str]] = {
    ("qqp", "magnitude", True, "f1"): (10, "Table 3 prints 0.650, the value of 6 %"),
    ("qqp", "soft_movement", False, "accuracy"): (
        None,
        "Table 2 prints 0.905 at 10 % and 0.893 at 3 %, which belong into Table 3",
    ),
    ("qqp", "soft_movement", False, "f1"): (
        None,
        "Table 2 prints 0.871 at 10 % and 0.856 at 3 %, which belong into Table 3",
    ),
    ("qqp", "soft_movement", True, "accuracy"): (
        None,
        "Table 3 prints 0.902 at 10 % and 0.891 at 3 %, which belong into Table 2",
    ),
    ("qqp", "soft_movement", True, "f1"): (
        None,
        "Table 3 prints 0.868 at 10 % and 0.855 at 3 %, which belong into Table 2",
    ),
}


def published(task: str = "", metric: str = "", taught: bool | None = None) -> pd.DataFrame:
    """The published points.

    Args:
        task: a key of ``TASKS``, "" for all.
        metric: name of a metric, "" for all.
        taught: with distillation or without it, None for both.

    Returns:
        columns task, recipe, scope ("local" or "global"), taught, metric, keep (fraction of the encoder's
        linear weights, the prunable ones), value in [0, 1], and source, which says where the paper's tables
        print something else.
    """
    rows = []
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for name, value in zip(TASKS[row["task"]].metrics, (row["first"], row["second"]), strict=True):
                line = (row["task"], row["recipe"], row["taught"] == "1", name)
                if (task or line[0]) != line[0] or (metric or name) != name or taught not in (None, line[2]):
                    continue
                kept = float(row["kept"])
                rows.append(
                    dict(zip(("task", "recipe", "taught", "metric"), line, strict=True))
                    | {"scope": row["scope"], "keep": kept / 100, "value": float(value)}
                    | {"source": _source(line, kept)}
                )
    return table(COLUMNS, rows)


def _source(line: tuple[str, str, bool, str], kept: float) -> str:
    where, note = ERRATA.get(line, (-1.0, ""))
    return f"{PAPER}; {note}" if note and where in (None, kept) else PAPER
