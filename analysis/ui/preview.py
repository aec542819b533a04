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
from analysis.spec import RunSpec
from analysis.store.launch import queue_limit
from analysis.store.runs import RunInfo
from analysis.ui.plans import MODELS

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

    Time is seconds per example of a step, the median over finished runs of the same model, loading and
    evaluations included, times steps and batch.

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
    seconds = sum(speed * spec.training.steps * spec.training.batch for spec in wanted) / at_once
    prunable, model = _size(wanted[0].model, known)
    memory = (
        BASE_MB + (16 * model + 16 * prunable) / 1e6
    )  # weights, gradient, two Adam moments; the same for scores
    snapshots = max(spec.training.snapshots for spec in wanted)
    per_run = (4 * model + prunable / 8 * snapshots + 12 * model + 12 * prunable) / 1e6 + 1
    return Cost(len(wanted), at_once, seconds / 60, memory, per_run * len(wanted), source)


def _speed(info: RunInfo) -> float:
    training = info.spec.get("training")
    work = info.steps * training.get("batch", 0) if isinstance(training, dict) else 0
    return info.seconds / work if work else 0.0


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
    parts = spec.parts
    start, end = parts.select.span(spec.keep)
    rows = []
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
    return pd.DataFrame(rows, columns=["progress", "curve", "value"])


def size(megabytes: float) -> str:
    """A size as a person reads it."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
