"""How a run went: losses, keeps and evaluations against progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.frames.tables import read_events, table

LOSSES = {"step": "int64", "progress": "float64", "time": "float64", "term": "str", "value": "float64"}
KEEPS = {
    "step": "int64",
    "progress": "float64",
    "keep": "float64",
    "kept": "float64",
    "flips": "float64",
    "penalty_weight": "float64",
    "lr": "float64",
}
EVALS = {
    "step": "int64",
    "progress": "float64",
    "split": "str",
    "cut": "str",
    "metric": "str",
    "value": "float64",
    "keep_prunable": "float64",
    "floor": "float64",
    "examples": "int64",
}


def losses(run_path: Path) -> pd.DataFrame:
    """Lists the loss over a run: the total under the term "loss", then every term under its own name."""
    rows = []
    for event in read_events(run_path, "loss"):
        terms = event.get("terms")
        named: dict[str, Any] = {"loss": event.get("loss"), **(terms if isinstance(terms, dict) else {})}
        at = {"step": event.get("step"), "progress": event.get("progress"), "time": event.get("time")}
        rows += [{**at, "term": term, "value": value} for term, value in named.items()]
    return table(LOSSES, rows)


def keeps(run_path: Path) -> pd.DataFrame:
    """Lists scheduled keep, measured kept fraction, flips (fraction of mask bits), penalty weight and lr."""
    return table(KEEPS, read_events(run_path, "loss"))


def evals(run_path: Path) -> pd.DataFrame:
    """Lists the evaluations of a run; ``cut`` says whether the mask was the current or the final one."""
    return table(EVALS, read_events(run_path, "eval"))


def many(paths: dict[str, Path], kind: str) -> pd.DataFrame:
    """Stacks one kind of frame over several runs, with the label of the run in the column "run".

    Args:
        paths: label to run folder.
        kind: "losses", "keeps" or "evals".

    Returns:
        the columns of that kind and "run" first.
    """
    reader, columns = {"losses": (losses, LOSSES), "keeps": (keeps, KEEPS), "evals": (evals, EVALS)}[kind]
    frames = [reader(path).assign(run=label).astype({"run": "str"}) for label, path in paths.items()]
    frames = [f for f in frames if len(f)]
    if not frames:
        return table({"run": "str", **columns})
    return pd.concat(frames, ignore_index=True)[["run", *columns]]
