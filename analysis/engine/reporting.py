"""What the loop writes down as it goes: losses, evaluations, and the end of a run that diverged."""

from __future__ import annotations

import math

import torch
from torch.nn.utils import parametrize

from analysis.engine import factors, finish, moments, shares, terms
from analysis.engine.diary import Diary
from analysis.engine.evaluate import evaluate
from analysis.engine.setup import Setup
from analysis.errors import LabError


class Diverged(LabError):
    """The loss is no longer a number."""


def guard(values: dict[str, float], step: int, s: Setup) -> None:
    """Ends a run whose loss is no longer a number.

    Raises:
        Diverged: which loss, when, and what to change.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        rate = s.spec.parts.optimizer.lr
        raise Diverged(
            f"The {bad[0]} loss became {values[bad[0]]} at step {s.leg.first + step} of "
            f"{s.leg.asked.training.steps}: the "
            f"learning rate of {rate:g} is probably too high; lower optimizer.lr (or score.lr) or lengthen "
            "the warm-up and run again."
        )


def report(
    s: Setup, step: int, values: dict[str, float], rate: float, before: list[torch.Tensor], diary: Diary
) -> list[torch.Tensor]:
    """Writes one line of the losses, and returns the masks of now for the next line's flips."""
    now = s.pruner.masks()
    flips = sum(int((a ^ b).count_nonzero()) for a, b in zip(before, now, strict=True)) / s.pruner.total
    progress = min(1.0, step / s.spec.training.steps)
    penalty = (
        terms.weight(s, "penalty", terms.ramp(s, progress)) if s.spec.parts.penalty is not None else None
    )
    scheduled = s.pruner.scheduled(progress) if s.spec.parts.select.by_keep else None
    if s.steer is not None:
        scheduled = s.steer.wanted(progress)
    weights = {name: terms.weight(s, name, terms.ramp(s, progress)) for name in values}
    diary.write(
        "loss",
        s.leg.first + step,
        loss=sum(weights[name] * value for name, value in values.items()) if values else None,
        terms=values,
        keep=scheduled,
        kept=s.pruner.kept / s.pruner.total,
        lr=s.spec.parts.optimizer.lr * rate,
        penalty_weight=penalty,
        flips=flips,
        **({"graft": s.graft.rate} if s.graft is not None else {}),
        **factors.residuals(s),
        **shares.told(s.pruner),
    )
    return now


def enter(s: Setup, step: int, diary: Diary) -> None:
    """Says so where a graft enters another of its stages at a step."""
    if s.graft is None:
        return
    now, before = (s.graft.part.stage(n / s.spec.training.steps) for n in (step, step - 1))
    if not step or now != before:
        rate = s.graft.part.at(step / s.spec.training.steps)
        diary.write("graft", s.leg.first + step, name=now, within=s.leg.stage.name, rate=rate)


def glance(s: Setup, step: int, diary: Diary) -> None:
    """Evaluates on a part of the development split: with the masks of now, and as if cut to the target now.

    The reference evaluates only with the final threshold, so its early curves look hopeless.
    """
    now = s.pruner.scheduled(min(1.0, step / s.spec.training.steps))
    cuts = ("current",) if now == s.pruner.scheduled(1.0) else ("current", "final")
    before = moments.hold(s.pruner)
    for cut in cuts:
        if cut == "final":
            s.pruner.refresh(1.0)
        with parametrize.cached():
            found = evaluate(s.model, s.glance, s.data, device=str(s.device), precision=s.precision)
        diary.write("eval", s.leg.first + step, **finish.scored(s, "validation", found, len(s.glance), cut))
        if cut == "current" and s.tutor is not None:
            s.tutor.consider(found.value, step / s.spec.training.steps, s.model, s.pruner)
    moments.put_back(s.pruner, before)
    s.model.train()
