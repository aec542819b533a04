"""The training loop: one for every recipe. What differs comes in through the parts.

A run has one stage or several, each a line-up of its own; between them masks become permanent and weights
are handed on. One optimizer step, with every place where a part acts::

    progress = step / steps
    factor   <- optimizer part              learning rates of all groups; a graft may start them anew
    masks    <- schedule, score, select     once per step when due, never per forward; a score on demand
                                            measures the loss on examples when the schedule has moved
    settle       reparam part               zeros into the weights, where the forward has no mask
    draw         graft part                 which layers are the teacher's at this step
    look ahead   lookahead part             moves the weights, for one share of the batch at a time
    forward      reparam part               stored parameter -> effective weight, in every site
    loss     <- task, distillation, hidden, attention, penalty parts, weighted
    backward     reparam part               straight through to weights and scores
    put back     lookahead part             the weights that the masks were made for; their gradient stays
    watch        score part                 gradients before clipping, of the losses that guide it alone
    clip         optimizer part
    observe      score part                 clipped gradients and learning rate, before the weights move
    before step  reparam part               remembers what the step must not lose
    step         torch optimizer            weights and scores together
    after step   reparam part               rescales, decays or takes back the step of a stored parameter
    steer        penalty part               adapts its weight to the fraction kept
    report, evaluate, snapshot, checkpoint  when due; stop when asked; an evaluation may make a new teacher
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import parametrize

from analysis import spec as specs
from analysis.engine import checkpoints, compute, finish, guiding, reporting, scoring, stages, stepping, terms
from analysis.engine.describe import describe_sites
from analysis.engine.diary import Control, Diary
from analysis.engine.hardware import computing_in
from analysis.engine.order import batches_from
from analysis.engine.setup import Setup, foresee, prepare
from analysis.store.layout import read_json

LINES = 100  # loss lines a run writes at most
OTHER = 2**31  # added to the seed of a run, it names an order of the examples that no run trains in


class Stopped(Exception):
    """The run was asked to stop and has saved a checkpoint."""


def execute(path: Path, control: Control) -> None:
    """Carries out the run in a folder from its spec, or goes on from its newest checkpoint.

    Args:
        path: the run's folder, which holds ``spec.json``.
        control: asked at every step whether to stop; told how far the run is.

    Raises:
        Stopped: the run was asked to stop; a checkpoint was written.
        reporting.Diverged: the loss became infinite or NaN.
        LabError: model or data are missing or cannot be used.
    """
    spec = specs.from_dict(read_json(path / "spec.json"))
    again = (path / "events.jsonl").is_file()
    diary = Diary(path / "events.jsonl", spec.training.steps, control)
    diary.write("phase", 0, phase="loading")
    plan, folder = specs.legs(spec), path / "checkpoints"
    number = checkpoints.stage(folder)
    carry = stages.load(folder, number)
    for leg in plan[number:]:
        setup = prepare(spec, path.parent, leg, carry)
        # Drawn after the head, so that a model with a saved head sees the same dropout as one without.
        torch.manual_seed(spec.seed + leg.number)
        first = leg.first
        describe_sites(path, setup)
        if leg.number == number:
            foresee(setup, plan[number + 1 :])
            saved = checkpoints.load(folder, setup)
            first = int(saved["step"]) if saved else 0
            if again:  # what an earlier attempt wrote beyond this step is void
                diary.write("resume", first)
        if len(plan) > 1:
            diary.write("stage", first, number=leg.number, of=len(plan), name=leg.stage.name)
        diary.write("phase", first, phase="training")
        _train(setup, first - leg.first, path, diary, control)
        if leg.number + 1 < len(plan):
            carry = stages.hand_over(setup, carry, compute.of_stage(setup))
            stages.save(folder, leg.number + 1, carry)
            del setup  # or two models, teachers and optimizers would be in memory while the next is loaded
    finish.finish(setup, path, diary)


def _train(s: Setup, first: int, path: Path, diary: Diary, control: Control) -> None:
    plan, pruner, whole = s.spec.training, s.pruner, s.leg.asked.training
    saver = checkpoints.Saver(path / "checkpoints", plan.checkpoint_seconds)
    before_us = s.leg.first
    batches = batches_from(s.data.train.lengths, plan.batch, s.spec.seed, before_us + first)
    fresh = batches_from(s.data.train.lengths, plan.batch, s.spec.seed + OTHER, before_us + first)
    every = max(1, whole.steps // LINES)
    glances = _moments(plan.evaluations, whole.steps) - {whole.steps}
    pictures = _moments(plan.snapshots, whole.steps) - {whole.steps}
    if not first and not before_us:  # a later stage begins with what the one before has just saved
        saver.save(0, s)
    s.model.train()
    before = pruner.masks()
    for step in range(first, plan.steps):
        progress = step / plan.steps
        done = before_us + step + 1
        if control.should_stop():
            saver.save(done - 1, s)
            raise Stopped
        if saver.due():
            saver.save(done - 1, s)
        rate = s.spec.parts.pace(progress)
        for group in s.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        if step % plan.refresh == 0 and s.spec.parts.schedule.due(progress, step):
            pruner.refresh(progress)
            stepping.settle(pruner)
        reporting.enter(s, step, diary)
        seen = one_step(s, next(batches), progress, step, fresh)
        if (done - 1) % every == 0:
            before = reporting.report(s, step, seen, rate, before, diary)
        reporting.guard(seen, step, s)
        control.report(done, done / whole.steps)
        if done in glances:
            reporting.glance(s, step + 1, diary)
        if done in pictures:
            finish.picture(s, done, path, diary)
    pruner.refresh(1.0)
    stepping.settle(pruner)
    if s.graft is not None:
        s.graft.detach()
    # A run that is killed while it finishes need not train again.
    saver.save(s.leg.last, s)
    if s.leg.last == whole.steps:
        reporting.report(s, plan.steps, seen if first < plan.steps else {}, 0.0, before, diary)


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
    optimizer, pace = s.spec.parts.optimizer, s.spec.parts.pace(progress)
    if s.graft is not None:
        s.graft.draw(progress)
    backward = partial(_backward, s, terms.ramp(s, progress), step=step)
    if s.lookahead is None:
        seen = backward(indices, len(indices))
    else:
        seen = s.lookahead.gradient(backward, indices, fresh)
    if s.spec.parts.score.watches:
        guiding.watch(s.pruner, s.guide, s.spec.training.steps)
    optimizer.clip_gradients(s.optimizer)
    rate = optimizer.lr * pace
    if s.spec.parts.score.observes:
        scoring.observe(s.pruner, rate, step)
    stepping.before_step(s.pruner)
    s.optimizer.step()
    stepping.after_step(s.pruner, rate * optimizer.weight_decay)
    s.optimizer.zero_grad(set_to_none=True)
    if s.steer is not None:
        s.steer.observe(s.pruner.kept / s.pruner.total, progress, pace)
    return seen


def _backward(s: Setup, ramp: float, indices: np.ndarray, whole: int, step: int = 0) -> dict[str, float]:
    """Adds the gradient of some of the ``whole`` examples of a batch; returns their share of every term."""
    pieces = -(-s.spec.training.accumulate * len(indices) // whole)  # as small as without a look-ahead
    seen: dict[str, float] = {}
    for share in np.array_split(indices, min(pieces, len(indices))):
        weight = len(share) / whole
        with parametrize.cached(), computing_in(s.precision, str(s.device)):
            losses = terms.losses(s, share, step)
        total = guide = torch.zeros((), device=s.device)
        for name, value in losses.items():
            term = terms.weight(s, name, ramp) * value
            total = total + term
            guide = guide + term if guiding.guides(s.spec.parts, name) else guide
            seen[name] = seen.get(name, 0.0) + weight * float(value.detach())
        if s.guide is not None and guide.requires_grad:
            s.guide.hear(guide * weight)
        if total.requires_grad:  # a graft may have drawn no layer that is trained
            (total * weight).backward()
    return seen
