"""The training loop: one for every recipe. What differs comes in through the parts.

One optimizer step, with every place where a part acts::

    progress = step / steps
    factor   <- optimizer part              learning rates of all groups
    masks    <- schedule, score, select     once per step, never per forward
    look ahead   lookahead part             moves the weights, for one share of the batch at a time
    forward      reparam part               raw weight -> effective weight, in every site
    loss     <- task, distillation, penalty parts, weighted
    backward     reparam part               straight through to weights and scores
    put back     lookahead part             the weights that the masks were made for; their gradient stays
    clip         optimizer part
    step         torch optimizer            weights and scores together
    steer        penalty part               adapts its weight to the fraction kept
    report, evaluate, snapshot, checkpoint  when due; stop when asked
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parametrize

from analysis import spec as specs
from analysis.engine import checkpoints, export, snapshots
from analysis.engine.diary import Control, Diary
from analysis.engine.evaluate import Evaluation, evaluate
from analysis.engine.hardware import computing_in
from analysis.engine.order import batches_from
from analysis.engine.setup import Setup, describe_sites, prepare
from analysis.errors import LabError
from analysis.parts.losses import LossContext
from analysis.store import arrays
from analysis.store.layout import read_json

LINES = 100  # loss lines a run writes at most
HEADS = ("logits", "start_logits", "end_logits")
OTHER = 2**31  # added to the seed of a run, it names an order of the examples that no run trains in


class Stopped(Exception):
    """The run was asked to stop and has saved a checkpoint."""


class Diverged(LabError):
    """The loss is no longer a number."""


def execute(path: Path, control: Control) -> None:
    """Carries out the run in a folder from its spec, or goes on from its newest checkpoint.

    Args:
        path: the run's folder, which holds ``spec.json``.
        control: asked at every step whether to stop; told how far the run is.

    Raises:
        Stopped: the run was asked to stop; a checkpoint was written.
        Diverged: the loss became infinite or NaN.
        LabError: model or data are missing or cannot be used.
    """
    spec = specs.from_dict(read_json(path / "spec.json"))
    again = (path / "events.jsonl").is_file()
    diary = Diary(path / "events.jsonl", spec.training.steps, control)
    diary.write("phase", 0, phase="loading")
    setup = prepare(spec, path.parent)
    describe_sites(path, setup)
    # Drawn after the head, so that a model with a saved head sees the same dropout as one without.
    torch.manual_seed(spec.seed)
    saved = checkpoints.load(path / "checkpoints", setup)
    first = int(saved["step"]) if saved else 0
    if again:  # what an earlier attempt wrote beyond this step is void
        diary.write("resume", first)
    diary.write("phase", first, phase="training")
    _train(setup, first, path, diary, control)
    _finish(setup, path, diary)


def _train(s: Setup, first: int, path: Path, diary: Diary, control: Control) -> None:
    plan, pruner = s.spec.training, s.pruner
    saver = checkpoints.Saver(path / "checkpoints", plan.checkpoint_seconds)
    batches = batches_from(s.data.train.lengths, plan.batch, s.spec.seed, first)
    fresh = batches_from(s.data.train.lengths, plan.batch, s.spec.seed + OTHER, first)
    every = max(1, plan.steps // LINES)
    glances = _moments(plan.evaluations, plan.steps)
    pictures = _moments(plan.snapshots, plan.steps) - {plan.steps}
    if not first:
        saver.save(0, s)
    s.model.train()
    before = pruner.masks()
    for step in range(first, plan.steps):
        progress = step / plan.steps
        if control.should_stop():
            saver.save(step, s)
            raise Stopped
        if saver.due():
            saver.save(step, s)
        rate = s.spec.parts.optimizer.factor(progress)
        for group in s.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        if step % plan.refresh == 0:
            pruner.refresh(progress)
        terms = _step(s, next(batches), progress, fresh)
        if step % every == 0:
            before = _report(s, step, terms, rate, before, diary)
        _guard(terms, step, s)
        control.report(step + 1, (step + 1) / plan.steps)
        if step + 1 in glances and step + 1 < plan.steps:
            _glance(s, step + 1, diary)
        if step + 1 in pictures:
            _picture(s, step + 1, path, diary)
    pruner.refresh(1.0)
    # A run that is killed while it finishes need not train again.
    saver.save(plan.steps, s)
    _report(s, plan.steps, terms if first < plan.steps else {}, 0.0, before, diary)


def _moments(count: int, steps: int) -> set[int]:
    return {round((i + 1) * steps / count) for i in range(count)}


def _step(
    s: Setup, indices: np.ndarray, progress: float, fresh: Iterable[np.ndarray] = ()
) -> dict[str, float]:
    """One optimizer step; returns the value of every loss term."""
    optimizer, backward = s.spec.parts.optimizer, partial(_backward, s, _ramp(s, progress))
    if s.lookahead is None:
        seen = backward(indices, len(indices))
    else:
        seen = s.lookahead.gradient(backward, indices, fresh)
    optimizer.clip_gradients(s.optimizer)
    s.optimizer.step()
    s.optimizer.zero_grad(set_to_none=True)
    if s.steer is not None:
        s.steer.observe(s.pruner.kept / s.pruner.total, progress, optimizer.factor(progress))
    return seen


def _backward(s: Setup, ramp: float, indices: np.ndarray, whole: int) -> dict[str, float]:
    """Adds the gradient of some of the ``whole`` examples of a batch; returns their share of every term."""
    pieces = -(-s.spec.training.accumulate * len(indices) // whole)  # as small as without a look-ahead
    seen: dict[str, float] = {}
    for share in np.array_split(indices, min(pieces, len(indices))):
        weight = len(share) / whole
        with parametrize.cached(), computing_in(s.precision, str(s.device)):
            losses = _losses(s, share)
        total = torch.zeros((), device=s.device)
        for name, value in losses.items():
            total = total + _weight(s, name, ramp) * value
            seen[name] = seen.get(name, 0.0) + weight * float(value.detach())
        (total * weight).backward()
    return seen


def _losses(s: Setup, indices: np.ndarray) -> dict[str, torch.Tensor]:
    batch = {k: v.to(s.device) for k, v in s.data.train.batch(indices).items()}
    out = s.model(**batch)
    taught: dict[str, torch.Tensor] = {}
    if s.teacher is not None:
        with torch.no_grad():
            answer = s.teacher(**batch)
        taught = {h: answer[h] for h in HEADS if h in answer}
    context = LossContext(
        task=out["loss"],
        logits={h: out[h] for h in HEADS if h in out},
        teacher=taught,
        scores=s.pruner.learned_scores(),
        parts=[g.part for g in s.pruner.groups],
    )
    parts = s.spec.parts
    chosen = {"task": parts.task, "distillation": parts.distillation, "penalty": parts.penalty}
    return {name: part.value(context) for name, part in chosen.items() if part is not None}


def _ramp(s: Setup, progress: float) -> float:
    """How far the schedule has gone, in [0, 1]; a penalty follows it, so a constant schedule gives a constant
    penalty.
    """
    return s.spec.parts.schedule.value(progress, 0.0, 1.0)


def _weight(s: Setup, name: str, ramp: float) -> float:
    if name != "penalty":
        return float(getattr(s.spec.parts, name).weight)
    penalty = s.spec.parts.penalty
    assert penalty is not None
    return ramp * (s.steer.weight() if s.steer is not None else penalty.weight)


def _guard(terms: dict[str, float], step: int, s: Setup) -> None:
    bad = [name for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        rate = s.spec.parts.optimizer.lr
        raise Diverged(
            f"The {bad[0]} loss became {terms[bad[0]]} at step {step} of {s.spec.training.steps}: the "
            f"learning rate of {rate:g} is probably too high; lower optimizer.lr (or score.lr) or lengthen "
            "the warm-up and run again."
        )


def _report(
    s: Setup, step: int, terms: dict[str, float], rate: float, before: list[torch.Tensor], diary: Diary
) -> list[torch.Tensor]:
    now = s.pruner.masks()
    flips = sum(int((a ^ b).count_nonzero()) for a, b in zip(before, now, strict=True)) / s.pruner.total
    progress = min(1.0, step / s.spec.training.steps)
    penalty = _weight(s, "penalty", _ramp(s, progress)) if s.spec.parts.penalty is not None else None
    scheduled = s.pruner.scheduled(progress) if s.spec.parts.select.title == "top-k" else None
    if s.steer is not None:
        scheduled = s.steer.wanted(progress)
    weights = {name: _weight(s, name, _ramp(s, progress)) for name in terms}
    diary.write(
        "loss",
        step,
        loss=sum(weights[name] * value for name, value in terms.items()) if terms else None,
        terms=terms,
        keep=scheduled,
        kept=s.pruner.kept / s.pruner.total,
        lr=s.spec.parts.optimizer.lr * rate,
        penalty_weight=penalty,
        flips=flips,
    )
    return now


def _scored(s: Setup, split_name: str, result: Evaluation, examples: int, cut: str) -> dict[str, Any]:
    return {
        "split": split_name,
        "cut": cut,
        "metric": s.data.metric,
        "value": result.value,
        "metrics": result.metrics,
        "examples": examples,
        "floor": s.data.floor,
        "keep_target": s.spec.keep,
        **s.counts.keeps(s.pruner.kept),
    }


def _glance(s: Setup, step: int, diary: Diary) -> None:
    """Evaluates on a part of the development split: with the masks of now, and as if cut to the target now.

    The reference evaluates only with the final threshold, so its early curves look hopeless.
    """
    now = s.pruner.scheduled(min(1.0, step / s.spec.training.steps))
    cuts = ("current",) if now == s.pruner.scheduled(1.0) else ("current", "final")
    held = s.pruner.hold()
    for cut in cuts:
        if cut == "final":
            s.pruner.refresh(1.0)
        with parametrize.cached():
            found = evaluate(s.model, s.glance, s.data, device=str(s.device), precision=s.precision)
        diary.write("eval", step, **_scored(s, "validation", found, len(s.glance), cut))
    s.pruner.put_back(held)
    s.model.train()


def _picture(s: Setup, step: int, path: Path, diary: Diary) -> None:
    snapshots.write(path, step, s.pruner, s.start, s.spec.training.points)
    diary.write("snapshot", step, number=step)


def _finish(s: Setup, path: Path, diary: Diary) -> None:
    steps = s.spec.training.steps
    _picture(s, steps, path, diary)
    diary.write("phase", steps, phase="saving")
    s.pruner.finalise()
    diary.write("phase", steps, phase="evaluating")
    results: dict[str, Evaluation] = {}
    for name, split in (("validation", s.data.validation), ("test", s.data.test)):
        results[name] = evaluate(s.model, split, s.data, device=str(s.device), precision=s.precision)
        diary.write("eval", steps, **_scored(s, name, results[name], len(split), "final"))
    arrays.save_predictions(path / "predictions.parquet", _predictions(s, results))
    export.save(path, s, {name: r.metrics for name, r in results.items()})
    checkpoints.drop_all(path / "checkpoints")


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
