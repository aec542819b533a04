"""Grafting: layers of the student stand among layers of a fixed teacher while they learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.losses import LossContext
from analysis.parts.matching import SoftTargets
from analysis.parts.schedules import SLACK

PLANS = ("mixed", "linear", "none", "gap")


def replacing_rate(plan: str, count: float, p0: float, k: float, n: float, p1: float = 0.0) -> float:
    """The probability that a layer is the student's, as a pure function of a counter.

    none: p0, and 1 from n on. linear: min(1, p0 + k c). mixed: p0, and min(1, p0 + k (c - n)) from n on.
    gap: p0, and min(1, p1 + k (c - n)) from n on.

    Args:
        plan: one of ``PLANS``.
        count: c, steps done, or the share of the run that is done.
        p0: probability at the start, in [0, 1].
        k: rise per unit of the counter, at least 0.
        n: counter at which the plan changes.
        p1: where the plan gap goes on from, in [0, 1].

    Returns:
        a probability.

    Source: Huang et al. 2022, arXiv:2110.08190, its code; Xu et al. 2020 (BERT-of-Theseus).
    """
    if plan == "linear":
        return min(1.0, p0 + k * count)
    if count < n - SLACK:
        return p0
    if plan == "none":
        return 1.0
    return min(1.0, (p1 if plan == "gap" else p0) + k * max(0.0, count - n))


@dataclass(frozen=True)
class Graft(Part):
    """At every training step each layer is the student's with probability p, else the teacher's, as it is.

    h_l = b_l f_l(h_(l-1)) + (1 - b_l) g_l(h_(l-1)), b_l ~ Bernoulli(p): f is the student's layer, g the
    teacher's; one draw per layer and step. Evaluation takes the student alone. The student begins as a copy
    of the teacher. Three stages: prune (p = rate), ramp (p rises to 1), tune (p = 1).
    Source: Huang et al. 2022, arXiv:2110.08190.
    """

    rate: float = knob(0.8, "probability of a student's layer before the ramp", low=0, high=1)
    plan: str = knob(
        "mixed",
        "mixed: the rate, then the ramp; linear: the ramp from the start; none: the rate, then 1; gap: the "
        "rate, then the ramp from another probability",
        choices=PLANS,
    )
    begin: float = knob(
        0.4, "moment at which pruning ends and the ramp begins", unit="of the run", low=0, high=1
    )
    ramp: float = knob(
        0.2, "share of the run in which the ramp reaches 1", unit="of the run", low=0, high=1, open="low"
    )
    resume: float = knob(0.5, "probability at which the ramp of the plan gap begins", low=0, high=1)
    frozen: bool = knob(True, "embeddings, pooler and head stay the teacher's; only layers are trained")
    rewind: bool = knob(
        True, "the learning rate runs its course once while pruning and anew from the ramp on"
    )

    title: ClassVar[str] = "grafting into the teacher"
    needs_teacher: ClassVar[bool] = True
    own_teacher: ClassVar[bool] = False

    def at(self, progress: float) -> float:
        """The probability of a student's layer at a progress in [0, 1]."""
        bottom = self.resume if self.plan == "gap" else self.rate
        slope = (1 - bottom) / self.ramp
        return replacing_rate(self.plan, progress, self.rate, slope, self.begin, self.resume)

    def stage(self, progress: float) -> str:
        """The stage at a progress in [0, 1]: prune, ramp or tune."""
        if progress < self.begin - SLACK:
            return "prune"
        return "ramp" if self.at(progress) < 1 else "tune"

    def paced(self, progress: float) -> float:
        """How far the learning rate is in its course at a progress in [0, 1]; it starts anew at the ramp."""
        if not self.rewind or not 0 < self.begin < 1:
            return progress
        if progress < self.begin - SLACK:
            return progress / self.begin
        return max(0.0, progress - self.begin) / (1 - self.begin)


@dataclass(frozen=True)
class SoftClasses(SoftTargets):
    """Follows the teacher's softened classes as ``SoftTargets``; a number (regression) follows its label.

    R = mean((z - y)**2) with one output. Source: the code of Huang et al. 2022.
    """

    title: ClassVar[str] = "soft classes, labels for numbers"

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        logits, goal = ctx.logits.get("logits"), ctx.targets.get("logits")
        if logits is None or goal is None or logits.shape[-1] != 1:
            return super().value(ctx)
        return (logits.float().reshape(-1) - goal.float().reshape(-1)).square().mean()
