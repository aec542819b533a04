"""Which runs there are, and what each of them measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.frames.tables import number, read_events, read_json, table
from analysis.spec import computed, hashed
from analysis.store import runs as run_folders

RUNS = {
    "run": "str",
    "recorded": "bool",
    "name": "str",
    "state": "str",
    "reason": "str",
    "recipe": "str",
    "model": "str",
    "task": "str",
    "keep": "float64",
    "seed": "int64",
    "steps": "int64",
    "progress": "float64",
    "seconds": "float64",
    "created": "str",
    "started": "str",
    "ended": "str",
    "path": "str",
}

RESULTS = {
    "run": "str",
    "recorded": "bool",
    "recipe": "str",
    "model": "str",
    "task": "str",
    "split": "str",
    "metric": "str",
    "value": "float64",
    "keep_target": "float64",
    "keep_prunable": "float64",
    "keep_encoder": "float64",
    "keep_model": "float64",
    "macs": "float64",
    "seed": "int64",
    "steps": "int64",
    "teacher": "str",
    "lr": "float64",
    "settings": "str",
    "floor": "float64",
    "name": "str",
    "state": "str",
    "examples": "int64",
    "seconds": "float64",
    "path": "str",
}

NO_SETTING = ("seed", "keep")
NOT_COMPUTED = ("threads", "evaluations", "snapshots", "points", "checkpoint_seconds")


def runs(runs_dir: Path, recorded: bool = True) -> pd.DataFrame:
    """Lists runs, one row each.

    Args:
        runs_dir: folder of runs; it need not exist.
        recorded: True to list the recorded runs of the project as well.

    Returns:
        columns of ``RUNS``; ``progress`` in [0, 1], ``seconds`` of run time, times in ISO 8601.
    """
    return table(RUNS, [_row(info) for info in _infos(runs_dir, recorded)])


def results(runs_dir: Path, recorded: bool = True) -> pd.DataFrame:
    """Lists what runs measured at their end, with their final masks: one row per run, split and keep.

    A look ahead during a run (cut to the final keep for a moment, on a part of the split) is no result.

    Args:
        runs_dir: folder of runs; it need not exist.
        recorded: True to include the recorded runs of the project.

    Returns:
        columns of ``RESULTS``; ``value`` and ``floor`` in the unit of ``metric``, ``keep_*`` in [0, 1],
        ``macs`` the multiply-adds of the whole training, unknown is NaN; ``settings`` as in ``digest``.
    """
    rows = []
    for info in _infos(runs_dir, recorded):
        last: dict[tuple[str, str, float], dict[str, Any]] = {}
        computed_in_all = None
        for event in read_events(info.path, "eval", "compute"):
            if event["kind"] == "compute":
                computed_in_all = event.get("macs_run")
            elif event.get("cut", "final") == "final" and not number(event.get("progress")) < 1:
                target = number(event.get("keep_target"))
                key = (
                    str(event.get("split")),
                    str(event.get("metric")),
                    -1.0 if math.isnan(target) else target,
                )
                last[key] = event
        same = {**_row(info), **_setting(info), "macs": computed_in_all}
        rows += [{**same, **_measured(event)} for event in last.values()]
    return table(RESULTS, rows)


def _infos(runs_dir: Path, recorded: bool) -> list[Any]:
    return list(run_folders.list_runs(Path(runs_dir), recorded=recorded))


def _row(info: Any) -> dict[str, Any]:
    row = {name: getattr(info, name, None) for name in RUNS}
    return {**row, "run": info.id, "path": str(info.path)}


def _setting(info: Any) -> dict[str, Any]:
    spec = info.spec if isinstance(info.spec, dict) else {}
    return {"teacher": spec.get("teacher"), "lr": learning_rate(spec), "settings": digest(spec)}


def _measured(event: dict[str, Any]) -> dict[str, Any]:
    names = ("split", "metric", "value", "floor", "examples")
    keeps = ("keep_target", "keep_prunable", "keep_encoder", "keep_model")
    return {name: event.get(name) for name in names + keeps}


def learning_rate(spec: dict[str, Any]) -> float:
    """Finds the learning rate of the weights in a spec written as a dictionary; NaN when it says none."""
    parts = spec.get("parts")
    optimizer = parts.get("optimizer") if isinstance(parts, dict) else None
    for holder in (optimizer, spec.get("training")):
        if isinstance(holder, dict):
            for inner in (holder, *(v for v in holder.values() if isinstance(v, dict))):
                if not math.isnan(number(inner.get("lr"))):
                    return number(inner["lr"])
    return float("nan")


def digest(spec: dict[str, Any]) -> str:
    """Names the settings of a run, so that only runs that differ in nothing but the seed are averaged.

    Args:
        spec: a spec written as a dictionary.

    Returns:
        eight hex digits of all that decides what is computed, except for what stands beside
        it in ``RESULTS`` and is compared there: seed, keep and the learning rate of the weights.
    """
    data = computed(spec)
    counted = {**_without(data, NO_SETTING), "training": _without(data.get("training"), NOT_COMPUTED)}
    parts = data.get("parts")
    if isinstance(parts, dict):
        counted["parts"] = {**parts, "optimizer": _without(parts.get("optimizer"), ("lr",))}
    return hashed(counted)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    return {k: v for k, v in value.items() if k not in names} if isinstance(value, dict) else value


def counts(run_path: Path) -> dict[str, int]:
    """Reads how many weights each denominator has: {"prunable", "encoder", "model"}; 0 where unknown."""
    found = read_json(Path(run_path) / "sites.json").get("counts")
    found = found if isinstance(found, dict) else {}
    values = {name: number(found.get(name)) for name in ("prunable", "encoder", "model")}
    return {name: int(v) if math.isfinite(v) and v > 0 else 0 for name, v in values.items()}
