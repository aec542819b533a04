"""The end of a run: masks made permanent, the final evaluations, and everything that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine import embedding, export, removal, snapshots
from analysis.engine.diary import Diary
from analysis.engine.evaluate import Evaluation, evaluate
from analysis.engine.setup import Setup
from analysis.store import arrays


def scored(s: Setup, split_name: str, result: Evaluation, examples: int, cut: str) -> dict[str, Any]:
    """The fields of an event that tells an evaluation; ``cut`` says with which masks."""
    return {
        "split": split_name,
        "cut": cut,
        "metric": s.data.metric,
        "value": result.value,
        "metrics": result.metrics,
        "examples": examples,
        "floor": s.data.floor,
        "keep_target": s.leg.asked.keep,
        **s.counts.keeps(s.pruner.kept),
    }


def picture(s: Setup, step: int, path: Path, diary: Diary) -> None:
    """Writes masks, points and planes of this moment, and says so."""
    snapshots.write(path, step, s.pruner, s.start, s.spec.training.points)
    diary.write("snapshot", step, number=step)


def finish(s: Setup, path: Path, diary: Diary) -> None:
    """Makes the masks permanent, evaluates both splits, and saves predictions and model.

    Args:
        s: the run, trained.
        path: its folder.
        diary: told what happens.
    """
    steps = s.leg.last
    picture(s, steps, path, diary)
    diary.write("phase", steps, phase="saving")
    s.pruner.finalise()
    tables = embedding.fold(s.model)
    diary.write("phase", steps, phase="evaluating")
    results: dict[str, Evaluation] = {}
    for name, split in (("validation", s.data.validation), ("test", s.data.test)):
        results[name] = evaluate(s.model, split, s.data, device=str(s.device), precision=s.precision)
        diary.write("eval", steps, **scored(s, name, results[name], len(split), "final"))
    arrays.save_predictions(path / "predictions.parquet", _predictions(s, results))
    export.save(path, s, {name: r.metrics for name, r in results.items()})
    for kind, event in removal.finish(path, s, tables):
        diary.write(kind, steps, **event)


def _predictions(s: Setup, results: dict[str, Evaluation]) -> dict[str, np.ndarray]:
    kept = s.pruner.kept / s.pruner.total
    parts: Iterator[dict[str, np.ndarray]] = (
        {
            **r.predictions,
            "keep": np.full(len(r.predictions["row"]), kept, np.float32),
            "split": np.full(len(r.predictions["row"]), name, dtype=object),
        }
        for name, r in results.items()
    )
    columns = list(parts)
    return {key: np.concatenate([c[key] for c in columns]) for key in columns[0]}
