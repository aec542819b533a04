"""The work of a probe: load, look quickly, verify on all rows, time; ``probe`` names the files it writes."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.engine import columns as cols
from analysis.engine import latency, models
from analysis.engine.data import TaskData, load_task
from analysis.engine.evaluate import TARGETS, evaluate
from analysis.engine.hardware import device_of
from analysis.engine.model_files import read_config, resolve
from analysis.engine.oneshot import OneShot, stored_scores
from analysis.engine.probe import (
    ABOUT,
    LATENCY,
    LATENCY_FILE,
    POINTS,
    POINTS_FILE,
    Point,
    load,
    timed,
    wanted,
)
from analysis.engine.splits import Split
from analysis.errors import ModelError
from analysis.spec import ProbeSpec, Training
from analysis.store import arrays, layout
from analysis.store.jobs import Job

EXAMPLES = 32  # of a timed forward pass
ESTIMATED, VERIFIED = "estimated", "verified"


@dataclass
class Subject:
    """What is measured, and on what.

    Attributes:
        spec: the wish.
        data: the task.
        few: the rows of the quick look, spread evenly over the test split; None where that has no more.
        model: the model, on its device.
        cut: its prunable weights.
        scores: what they are ranked by, None for their magnitudes.
        device: where it computes.
    """

    spec: ProbeSpec
    data: TaskData
    few: Split | None
    model: nn.Module
    cut: OneShot
    scores: list[torch.Tensor] | None
    device: torch.device

    def prune(self, keep: float) -> None:
        """Cuts the model, or puts it back where everything is kept."""
        if keep == 1:
            self.cut.restore()
        else:
            self.cut.cut(keep, self.spec.scope, self.scores)


@dataclass
class Pace:
    """Counts rows for a job."""

    job: Job
    total: float
    done: float = field(default=0.0)

    def tell(self, rows: int) -> None:
        """Notes that some more rows are done."""
        self.done += rows
        self.job.tell(self.done, max(self.total, self.done))


def prepare(spec: ProbeSpec, runs: Path) -> Subject:
    """Loads model and data, and refuses what has no worth to measure.

    Raises:
        LabError: a model or data that is missing or does not fit, a head that was never trained, no scores.
    """
    tokenizer = models.load_tokenizer(spec.model, runs=runs)
    data = load_task(spec.task, tokenizer)
    model = models.load_model(spec.model, data, 0, runs=runs, trained=True)
    folder = resolve(spec.model, runs)
    _check_labels(folder, spec.model, data)
    device = device_of(Training())
    model.to(device).requires_grad_(False)
    cut = OneShot(model)
    scores = None
    if spec.by == "scores":
        prefix = str(getattr(model, "base_model_prefix", ""))
        scores = [s.to(device) for s in stored_scores(folder, cut.sites, prefix, spec.model)]
    some = dataclasses.replace(spec.task, eval_rows=min(spec.rows, spec.task.eval_rows or spec.rows))
    few = load_task(some, tokenizer).test if len(data.test) > spec.rows else None
    return Subject(spec, data, few, model, cut, scores, device)


def _check_labels(folder: Path, name: str, data: TaskData) -> None:
    """Refuses a model that gives the task's labels other numbers: its accuracy would be that of a mix-up."""
    own = read_config(folder, name).get("id2label")
    if not isinstance(own, dict) or not data.label_names:
        return
    theirs = [str(own.get(str(i), "")).casefold() for i in range(len(own))]
    ours = [label.casefold() for label in data.label_names]
    if sorted(theirs) == sorted(ours) and theirs != ours:
        i = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise ModelError(
            f"{name} numbers its labels otherwise than the data: its label {i} is {theirs[i][:40]!r}, the "
            f"data's is {ours[i][:40]!r}; renumber the labels of the data as config.json of the model does."
        )


def work(out: Path, spec: ProbeSpec, runs: Path, job: Job) -> None:
    """Measures what is missing: first every point on a few rows, then on all, then the times.

    Args:
        out: folder of the results.
        spec: the wish.
        runs: folder of runs that "run:ID" refers to.
        job: told after every batch, and asked whether to stop.
    """
    subject = prepare(spec, runs)
    layout.write_json(out / ABOUT, _about(subject), durable=False)
    known = load(out / POINTS_FILE)
    todo = _todo(subject, known)
    last = wanted(spec)[-1]
    timing = timed(out) != last
    total = sum(len(split) for *_, split in todo)
    pace = Pace(job, total + (4 * latency.ROUNDS * EXAMPLES if timing else 0))
    for point, state, split in todo:
        known.append(_measure(subject, point, state, split, pace))
        arrays.save_table(out / POINTS_FILE, {name: [row[name] for row in known] for name in POINTS})
    if timing:
        rows = _time(subject, last, pace)
        arrays.save_table(out / LATENCY_FILE, {name: [row.get(name) for row in rows] for name in LATENCY})


def _todo(s: Subject, known: list[dict[str, Any]]) -> list[tuple[Point, str, Split]]:
    have = {(row["keep"], row["by"], row["scope"], row["state"]) for row in known}
    open_ = [point for point in wanted(s.spec) if (*point, VERIFIED) not in have]
    quick = [(p, ESTIMATED, s.few) for p in open_ if s.few is not None and (*p, ESTIMATED) not in have]
    return [*quick, *((point, VERIFIED, s.data.test) for point in open_)]


def _about(s: Subject) -> dict[str, Any]:
    return {
        "model": s.spec.model,
        "task": s.spec.task.source,
        "kind": s.data.kind,
        "metric": s.data.metric,
        "split": "test",
        "rows": len(s.data.test),
        "few": len(s.few) if s.few is not None else 0,
        "floor": s.data.floor,
        "floor_note": s.data.floor_note,
        "prunable": s.cut.counts.prunable,
        "encoder": s.cut.counts.encoder,
        "whole": s.cut.counts.model,
        "zeros": s.cut.zeros,
        "device": str(s.device),
        "threads": torch.get_num_threads(),
    }


def _measure(s: Subject, point: Point, state: str, split: Split, pace: Pace) -> dict[str, Any]:
    keep, by, scope = point
    begun = time.perf_counter()
    s.prune(keep)
    zeros = s.cut.zeros
    try:
        found = evaluate(
            s.model, split, s.data, batch=s.spec.batch, device=str(s.device), tell=pace.tell
        ).value
    finally:
        s.cut.restore()
    row = {"keep": keep, "by": by, "scope": scope, "state": state, "value": found, "rows": len(split)}
    seconds = time.perf_counter() - begun
    return {**row, "error": standard_error(s.data, found, len(split)), "zeros": zeros, "seconds": seconds}


def standard_error(data: TaskData, value: float, rows: int) -> float:
    """The standard error of an accuracy a over n rows; NaN for metrics that are no share of rows.

    sqrt(p (1 - p) / n) with p = (n a + 1) / (n + 2): all rows right does not mean that no row can be wrong.
    """
    if data.metric != "accuracy" or data.kind not in (cols.CLASSIFICATION, cols.IMAGES):
        return float("nan")
    share = (rows * value + 1) / (rows + 2)
    return float(np.sqrt(share * (1 - share) / rows))


def _time(s: Subject, point: Point, pace: Pace) -> list[dict[str, Any]]:
    keep, by, scope = point
    split = s.few if s.few is not None else s.data.test
    batch = split.batch(np.arange(min(EXAMPLES, len(split))))
    inputs = {k: v.to(s.device) for k, v in batch.items() if k not in TARGETS}
    shape = " × ".join(map(str, next(iter(inputs.values())).shape))
    examples = len(next(iter(inputs.values())))
    forms = list(latency.variants(s.model, s.cut, partial(s.prune, keep) if keep < 1 else None))
    alive = sum(form.model is not None for form in forms)
    pace.total = pace.done + alive * latency.ROUNDS * examples
    rows = latency.measure(forms, inputs, examples, pace.tell)
    common = {"keep": keep, "by": by, "scope": scope, "examples": examples, "shape": shape}
    return [{**common, **row} for row in rows]
