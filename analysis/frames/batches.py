"""Batch sizes compared: what a run had reached after how many gradients."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import SpecError
from analysis.frames.progress import evals, losses
from analysis.frames.runs import digest, learning_rate
from analysis.frames.tables import number, read_json, table
from analysis.spec.codec import part_from_dict

BATCHES = {
    "line": "str",
    "batch": "int64",
    "step": "int64",
    "evaluations": "float64",
    "mean": "float64",
    "low": "float64",
    "high": "float64",
    "runs": "int64",
    "metric": "str",
}
LOSS = "training loss"


def batches(paths: Iterable[Path], quantity: str = "metric") -> pd.DataFrame:
    """Gathers runs of different batch size and optimizer over the gradients they spent.

    evaluations = steps * examples per step * gradients per example and step (2 where a look-ahead needs one
    of its own): optimizers that spend unlike amounts per step meet at equal numbers, not at equal steps.

    Args:
        paths: folders of runs on one model and task.
        quantity: "metric" for the metric on the validation split, with the mask of the moment, or "loss" for
            the training loss, which is taken at the look-ahead where there is one.

    Returns:
        line (optimizer and look-ahead, and what else tells runs apart), batch (examples per step), step,
        evaluations (examples), mean, low and high over the seeds, runs (number of seeds), metric; sorted by
        batch, line and step.
    """
    rows = [row for path in paths for row in _rows(Path(path), quantity)]
    rows = [row for row in rows if np.isfinite(row["value"]) and np.isfinite(row["evaluations"])]
    if not rows:
        return table(BATCHES)
    frame = pd.DataFrame(rows)
    frame["line"] = _names(frame)
    points = frame.groupby(["batch", "line", "step", "evaluations", "metric"], sort=True).agg(
        mean=("value", "mean"), low=("value", "min"), high=("value", "max"), runs=("seed", "nunique")
    )
    points = points.reset_index()
    return table(BATCHES, {name: points[name].to_numpy() for name in BATCHES})


def _rows(path: Path, quantity: str) -> list[dict[str, Any]]:
    spec = read_json(path / "spec.json")
    parts, training = _inner(spec, "parts"), _inner(spec, "training")
    batch = number(training.get("batch"))
    if not batch >= 1:
        return []
    line, cost = optimizer_line(parts)
    fixed = {
        "line": line,
        "batch": int(batch),
        "recipe": str(spec.get("recipe", "")),
        "keep": number(spec.get("keep")),
        "lr": learning_rate(spec),
        "settings": digest(spec),
        "seed": spec.get("seed"),
    }
    if quantity == "loss":
        found = losses(path)
        found = found[found["term"] == "loss"].assign(metric=LOSS)
    else:
        found = evals(path)
        # At the end only the final mask is left, which by then is the mask of the moment.
        now = (found["cut"] == "current") | (found["progress"] >= 1)
        found = found[(found["split"] == "validation") & now].drop_duplicates("step", keep="last")
    points = zip(found["step"], found["value"], found["metric"], strict=True)
    return [
        {**fixed, "step": step, "value": value, "metric": metric, "evaluations": step * batch * cost}
        for step, value, metric in points
    ]


def _inner(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, dict) else {}


def optimizer_line(parts: dict[str, Any]) -> tuple[str, float]:
    """Names an optimizer with its look-ahead, and counts its gradients per example and step.

    Args:
        parts: the parts of a spec written as a dictionary.

    Returns:
        words such as "SGD, past look-ahead of 0.25 by 4 workers", and 1 or 2; NaN when the look-ahead cannot
        be read.
    """
    optimizer = parts.get("optimizer")
    name = str(optimizer.get("type", "")) if isinstance(optimizer, dict) else ""
    if parts.get("lookahead") is None:
        return name, 1.0
    try:
        ahead: Any = part_from_dict("lookahead", parts["lookahead"])
    except SpecError:
        return name, float("nan")
    if not ahead.ratio:
        return name, 1.0
    workers = f" by {ahead.workers} workers" if ahead.workers > 1 else ""
    words = f"{name}, {ahead.source.replace('_', ' ')} look-ahead"
    # Nesterov's is as long as the momentum makes it.
    length = "" if ahead.source == "nesterov" else f" of {ahead.ratio:.3g}"
    return f"{words}{length}{workers}", float(ahead.evaluations)


def _names(frame: pd.DataFrame) -> pd.Series:
    """Adds to a line what else sets its runs apart, so that only seeds are averaged."""
    names = frame["line"].copy()
    if frame["recipe"].nunique() > 1:
        names = frame["recipe"].str.replace("_", " ") + ": " + names
    for column, words in (("keep", "{:.3g} kept"), ("lr", "learning rate {:g}"), ("settings", "settings {}")):
        for _, same in frame.assign(name=names).groupby("name"):
            # Unlike rates at unlike batch sizes are one line: rates are scaled with the batch.
            if same.groupby("batch")[column].nunique(dropna=False).max() > 1:
                names[same.index] += ", " + same[column].map(words.format)
    return names
