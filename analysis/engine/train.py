"""The training loop: one for every recipe. What differs comes in through the parts.

One optimizer step, with every place where a part acts::

    progress = step / steps
    factor   <- optimizer part              learning rates of all groups
    masks    <- schedule, score, select     once per step when due, never per forward; a score on demand
                                            measures the loss on examples when the schedule has moved
    settle       reparam part               zeros into the weights, where the forward has no mask
    look ahead   lookahead part             moves the weights, for one share of the batch at a time
    forward      reparam part               stored parameter -> effective weight, in every site
    loss     <- task, distillation, penalty parts, weighted
    backward     reparam part               straight through to weights and scores
    put back     lookahead part             the weights that the masks were made for; their gradient stays
    clip         optimizer part
    observe      score part                 clipped gradients and learning rate, before the weights move
    before step  reparam part               remembers what the step must not lose
    step         torch optimizer            weights and scores together
    after step   reparam part               rescales, decays or takes back the step of a stored parameter
    steer        penalty part               adapts its weight to the fraction kept
    report, evaluate, snapshot, checkpoint  when due; stop when asked; an evaluation may make a new teacher
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parametrize

from analysis import spec as specs
from analysis.engine import checkpoints, finish, scoring, stepping
from analysis.engine.diary import Control, Diary
from analysis.engine.evaluate import TARGETS, evaluate
from analysis.engine.hardware import computing_in
from analysis.engine.order import batches_from
from analysis.engine.setup import Setup, describe_sites, prepare
from analysis.engine.tasks_token import IGNORED
from analysis.errors import LabError
from analysis.parts.losses import LossContext
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
    finish.finish(setup, path, diary)


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
        if step % plan.refresh == 0 and s.spec.parts.schedule.due(progress, step):
            pruner.refresh(progress)
            stepping.settle(pruner)
        terms = one_step(s, next(batches), progress, step, fresh)
        if step % every == 0:
            before = _report(s, step, terms, rate, before, diary)
        _guard(terms, step, s)
        control.report(step + 1, (step + 1) / plan.steps)
        if step + 1 in glances and step + 1 < plan.steps:
            _glance(s, step + 1, diary)
        if step + 1 in pictures:
            finish.picture(s, step + 1, path, diary)
    pruner.refresh(1.0)
    stepping.settle(pruner)
    # A run that is killed while it finishes need not train again.
    saver.save(plan.steps, s)
    _report(s, plan.steps, terms if first < plan.steps else {}, 0.0, before, diary)


def _moments(count: int, steps: int) -> set[int]:
    return {round((i + 1) * steps / count) for i in range(count)}


def one_step(
    s: Setup, indices: np.ndarray, progress: float, step: int, fresh: Iterable[np.ndarray] = ()
) -> dict[str, float]:
    """Does one optimizer step and returns the value of every loss term.

    Args:
        s: what the run works with.
        indices: training examples of the step.
        progress: position in the run, in [0, 1].
        step: number of the step, from 0.
        fresh: further batches for a look-ahead that draws examples of its own.
    """
    optimizer, backward = s.spec.parts.optimizer, partial(_backward, s, _ramp(s, progress))
    if s.lookahead is None:
        seen = backward(indices, len(indices))
    else:
        seen = s.lookahead.gradient(backward, indices, fresh)
    optimizer.clip_gradients(s.optimizer)
    rate = optimizer.lr * optimizer.factor(progress)
    if s.spec.parts.score.observes:
        scoring.observe(s.pruner, rate, step)
    stepping.before_step(s.pruner)
    s.optimizer.step()
    stepping.after_step(s.pruner, rate * optimizer.weight_decay)
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
    if s.teacher is not None and (s.tutor is None or s.tutor.ready):
        with torch.no_grad():
            answer = s.teacher(**batch)
        taught = {h: answer[h] for h in HEADS if h in answer}
    context = LossContext(
        task=out["loss"],
        logits={h: out[h] for h in HEADS if h in out},
        teacher=taught,
        scores=s.pruner.learned_scores(),
        parts=[g.part for g in s.pruner.groups],
        counted=_counted(batch.get("labels"), out),
        targets={h: batch[t] for h, t in zip(HEADS, TARGETS, strict=True) if t in batch},
        reach=s.pruner.reach,
    )
    parts = s.spec.parts
    chosen = {"task": parts.task, "distillation": parts.distillation, "penalty": parts.penalty}
    return {name: part.value(context) for name, part in chosen.items() if part is not None}


def _counted(labels: torch.Tensor | None, out: Any) -> torch.Tensor | None:
    """Which rows of the logits have a label of their own; only where every token has one."""
    if labels is None or "logits" not in out or labels.shape != out["logits"].shape[:-1] or labels.ndim < 2:
        return None
    return labels != IGNORED


def _ramp(s: Setup, progress: float) -> float:
    """How far the schedule has gone, in [0, 1]; a penalty follows it and is constant where it is."""
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
    scheduled = s.pruner.scheduled(progress) if s.spec.parts.select.by_keep else None
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
        diary.write("eval", step, **finish.scored(s, "validation", found, len(s.glance), cut))
        if cut == "current" and s.tutor is not None:
            s.tutor.consider(found.value, step / s.spec.training.steps, s.model, s.pruner)
    s.pruner.put_back(held)
    s.model.train()
