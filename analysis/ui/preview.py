"""What runs will cost and what their schedule will be, before a second is spent; every figure here is an
estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd

from analysis import frames
from analysis.errors import SpecError
from analysis.spec import RunSpec, from_dict, legs
from analysis.store.launch import queue_limit
from analysis.store.runs import RunInfo
from analysis.ui.plans import MODELS

STEP = 3  # a forward pass, and a backward pass twice as dear
OTHER_SECONDS = 0.02  # per example of a step, where no run of the model is known
BASE_MB = 450  # a worker with torch and transformers loaded, before any model
CURVE_POINTS = 120


@dataclass(frozen=True)
class Cost:
    """An estimate: wall-clock minutes, memory per run (MB), disk for all runs (MB), and where the speed is
    from.
    """

    runs: int
    at_once: int
    minutes: float
    memory: float
    disk: float
    source: str


def estimate(wanted: Sequence[RunSpec], known: Sequence[RunInfo], runs: Path) -> Cost:
    """Estimates what a set of runs costs on this machine.

    Time is seconds per example of a plain step, the median over finished runs of the same model, loading and
    evaluations included, times plain steps (``work``) and batch.

    Args:
        wanted: the runs to be started.
        known: runs that finished earlier, from which the speed is taken: the visitor's own first, since
            recorded ones were made on another machine.
        runs: the runs folder, for its limit of runs at a time.

    Returns:
        the estimate.
    """
    alike = [info for info in known if info.model == wanted[0].model and info.state == "done"]
    own, recorded = (
        [speed for info in alike if info.recorded is flag and (speed := _speed(info)) > 0]
        for flag in (False, True)
    )
    speed = median(own or recorded or [OTHER_SECONDS])
    source = f"an assumed {1000 * OTHER_SECONDS:g} ms per example"
    if own or recorded:
        source = (
            f"{len(own or recorded)} finished {'runs here' if own else 'recorded runs, of another machine'}"
        )
    at_once = max(1, min(queue_limit(runs), len(wanted)))
    seconds = sum(speed * work(spec) * spec.training.batch for spec in wanted) / at_once
    prunable, model = _size(wanted[0].model, known)
    memory = (
        BASE_MB + (16 * model + 16 * prunable) / 1e6
    )  # weights, gradient, two Adam moments; the same for scores
    if any(leg.spec.parts.followers() for spec in wanted for leg in legs(spec)):
        memory += 4 * model / 1e6  # a teacher as large as the student
    snapshots = max(spec.training.snapshots for spec in wanted)
    per_run = (4 * model + prunable / 8 * snapshots + 12 * model + 12 * prunable) / 1e6 + 1
    return Cost(len(wanted), at_once, seconds / 60, memory, per_run * len(wanted), source)


def work(spec: RunSpec) -> float:
    """How many plain steps take as long as all the steps of a run, stage by stage.

    A plain step is one forward and one backward pass, three forward passes in all. A look-ahead with a
    gradient of its own is a second one of each; a teacher, taken to be as large as the student, is a forward
    pass more.
    """
    total = 0.0
    for leg in legs(spec):
        parts = leg.spec.parts
        gradients = parts.lookahead.evaluations if parts.lookahead is not None else 1
        total += leg.spec.training.steps * (STEP * gradients + bool(parts.followers())) / STEP
    return total


def _speed(info: RunInfo) -> float:
    try:
        spec = from_dict(info.spec)
    except SpecError:  # written by another version
        return 0.0
    return info.seconds / (work(spec) * spec.training.batch)


def _size(model: str, known: Sequence[RunInfo]) -> tuple[float, float]:
    """Prunable weights and all weights of a model: from a run of it, else from its files, else of a small
    BERT.
    """
    for info in known:
        if info.model == model:
            counts = frames.counts(info.path)
            if counts["model"]:
                return counts["prunable"], counts["model"]
    if model in MODELS:
        return 6e5, 7e5
    try:
        size = sum(file.stat().st_size for file in Path(model).glob("*.safetensors")) / 4
    except OSError:
        size = 0
    return (0.8 * size, size) if size else (8.5e7, 1.1e8)


def schedule(spec: RunSpec) -> pd.DataFrame:
    """What the schedule, the learning rate and the penalty do over the run.

    Args:
        spec: the run.

    Returns:
        columns progress in [0, 1], curve, value in [0, 1]: keep is the scheduled fraction kept, the others
        are shares of their peak.
    """
    rows: list[tuple[float, str, float]] = []
    for leg in legs(spec):
        first, last = leg.first / spec.training.steps, leg.last / spec.training.steps
        rows += [(first + (last - first) * at, curve, value) for at, curve, value in _planned(leg.spec)]
    if not all(leg.stage.plain or leg.spec.parts.select.by_keep for leg in legs(spec)):
        rows = [row for row in rows if row[1] != "keep"]  # a teacher's stage alone would say nothing
    return pd.DataFrame(rows, columns=["progress", "curve", "value"])


def _planned(spec: RunSpec) -> list[tuple[float, str, float]]:
    """Progress within a stage, curve and value."""
    parts = spec.parts
    start, end = parts.select.span(spec.keep)
    rows: list[tuple[float, str, float]] = []
    for step in range(CURVE_POINTS + 1):
        at = step / CURVE_POINTS
        moved = parts.schedule.value(at, start, end)
        if parts.select.by_keep:
            rows.append((at, "keep", moved))
        elif start != end:
            rows.append((at, "threshold, share of its end", moved / max(start, end)))
        if parts.penalty is not None:
            steered = "penalty weight before steering" if parts.penalty.steer else "penalty weight"
            rows.append((at, f"{steered}, share of its peak", parts.schedule.value(at, 0.0, 1.0)))
        rows.append((at, "learning rate, share of its peak", parts.pace(at)))
    return rows


def size(megabytes: float) -> str:
    """A size as a person reads it."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
