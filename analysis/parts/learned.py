"""Learned shares: every group of units learns how much of itself it keeps, against a budget of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.reparam import MaskedRows
from analysis.parts.select import Selection, keep_largest

if TYPE_CHECKING:
    from analysis.parts.losses import LossContext


def count_learned(theta: float, units: int, multiple: int = 1) -> int:
    """Number of units kept: k = ceil(sigma(theta) * n), rounded up to a multiple; at least 1, at most n.

    Args:
        theta: the logit of the kept share.
        units: n, how many there are.
        multiple: k is a multiple of it, or n.

    Returns:
        k in [1, n].
    """
    share = 1 / (1 + math.exp(-theta)) if theta > -700 else 0.0
    k = max(1, math.ceil(share * units))
    return min(units, -(-k // multiple) * multiple)


@dataclass(frozen=True)
class LearnedKeep(Selection):
    """Keeps the best k = ceil(sigma(theta) * n) units of every group, with one trained theta per group.

    The scores decide which units stay, theta how many. Both learn straight through the mask M: with g = dL/dM
    the scores get dL/dS = g and theta gets dL/dtheta = sigma'(theta) * sum(g * M). The faithful rule leaves
    sigma' out, as the reference does, although its penalty has it: the two then pull on scales up to 10**4
    apart. One unit of every group stays at least. How much is kept in all is up to a ``BudgetHinge``.
    Source: Yao, Ma, Shen, Keutzer, Mahoney 2021, arXiv:2105.14636v1.
    """

    start: float = knob(
        4.0, "theta every group starts with; it keeps the share sigma(theta), 0.98 for 4", low=-10, high=20
    )
    pace: float = knob(
        1.0, "learning rate of theta, in rates of the scores", low=0, high=1000, open="low", log=True
    )
    rule: str = knob(
        "consistent",
        "gradient of the loss on theta with the slope sigma'(theta), or without as in the reference",
        choices=("consistent", "faithful"),
    )

    title: ClassVar[str] = "learned share per group"

    def span(self, keep: float) -> tuple[float, float]:
        """Nothing is moved by the schedule; the share to end with is that of the run."""
        return keep, keep

    def keeps_all(self, value: float) -> bool:
        """Whether the run asks for everything; the shares then stay at one."""
        return value >= 1

    def choose_by(
        self, scores: Sequence[torch.Tensor], thetas: Sequence[float], multiples: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and group.

        Args:
            scores: one flat tensor per group.
            thetas: one logit per group.
            multiples: what the number of kept units of each group is a multiple of; 1 where it is empty.
        """
        rounded = multiples or [1] * len(scores)
        return [
            keep_largest([s], count_learned(theta, s.numel(), m))[0]
            for s, theta, m in zip(scores, thetas, rounded, strict=True)
        ]


@dataclass(frozen=True)
class MaskedUnits(MaskedRows):
    """The binary mask over weights and over the biases of dead rows; both tell the scores of whole rows.

    b' = b * m for a row's mask m, so dL/dm collects dL/db' * b beside the weights' G * W.
    """

    title: ClassVar[str] = "binary mask, biases of empty rows too, which count for the scores"
    biases_vote: ClassVar[bool] = True


@dataclass(frozen=True)
class Budget:
    """What a penalty on the number of kept weights looks at.

    Attributes:
        thetas: the logit of the kept share of every group, scalars.
        units: how many units each has.
        sites: per matrix its weights and the numbers of the groups whose units reach into it.
        target: share of all these weights that may stay, in (0, inf); from 1 on nothing is asked.
    """

    thetas: Sequence[torch.Tensor]
    units: Sequence[int]
    sites: Sequence[tuple[int, tuple[int, ...]]]
    target: float


def expected_share(budget: Budget) -> torch.Tensor:
    """The share of the weights to be expected from the learned shares alone.

    p = sum over matrices of w * product over the groups that reach into it of max(sigma(theta), 1 / n),
    divided by the sum of w. For a layer of BERT-base, in units of 768**2, the numerator is 3 h + h o + 4 f1 +
    4 f1 f2 with h the share of the heads, o, f1 and f2 those of the rows of the attention output and of the
    two feed-forward matrices. Biases are not counted.

    Args:
        budget: shares, units and matrices.

    Returns:
        a scalar in (0, 1], through which gradients flow to the logits.
    """
    logits = torch.stack([t.reshape(()) for t in budget.thetas])
    floors = torch.tensor([1 / n for n in budget.units], dtype=logits.dtype, device=logits.device)
    shares = torch.cat([torch.maximum(torch.sigmoid(logits), floors), logits.new_ones(1)])
    most = max(len(groups) for _, groups in budget.sites)
    padded = [[*groups, *[len(floors)] * (most - len(groups))] for _, groups in budget.sites]
    weights = torch.tensor([w for w, _ in budget.sites], dtype=logits.dtype, device=logits.device)
    table = torch.tensor(padded, device=logits.device).reshape(len(padded), most)
    return (weights * shares[table].prod(1)).sum() / weights.sum()


def hinge_weight(excess: float, target: float, strength: float, least: float = 50.0) -> float:
    """The coefficient of the hinge: max(strength * R / (1 - t)**2, least), but 10 for R < 3e-4.

    The normalisation makes it ``strength`` at p = 1, whatever the target.

    Args:
        excess: R = max(p - t, 0)**2.
        target: t, in (0, 1).
        strength: its value where everything is kept, >= 0.
        least: what it falls to at least while the excess is seen.
    """
    return 10.0 if excess < 3e-4 else max(strength * excess / (1 - target) ** 2, least)


@dataclass(frozen=True)
class BudgetHinge(Part):
    """Pulls the learned shares down while the weights they keep are over the budget, and lets go below it.

    R = max(p - t, 0)**2 with p the expected share and t the target; the term is lambda * R with lambda =
    max(strength * R / (1 - t)**2, least), 10 for R < 3e-4, through which no gradient flows. Nothing pulls
    back up when p is below t.
    Source: Yao, Ma, Shen, Keutzer, Mahoney 2021, arXiv:2105.14636v1.
    """

    weight: float = knob(1.0, "factor on the whole penalty", low=0, high=1e4, log=True)
    strength: float = knob(
        20000.0, "lambda while everything is kept; it falls with the excess", low=0, high=1e9, log=True
    )

    least: float = knob(
        50.0,
        "lambda falls no further while p is 0.0173 or more above t; 50 takes tens of thousands of steps to "
        "close the gap",
        low=0,
        high=1e9,
        log=True,
    )

    title: ClassVar[str] = "hinge on the budget of weights"
    needs_teacher: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True
    steer: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns lambda * R, exactly 0 and without a gradient from p <= t on.

        Raises:
            SpecError: the selection learns no shares.
        """
        if ctx.budget is None:
            raise SpecError(
                "penalty is BudgetHinge, which pulls on learned shares, but the selection learns none; "
                "choose the select LearnedKeep, or another penalty."
            )
        excess = (expected_share(ctx.budget) - ctx.budget.target).clamp(min=0).square()
        if ctx.budget.target >= 1:
            return excess
        slack = float(excess.detach())
        return hinge_weight(slack, ctx.budget.target, self.strength, self.least) * excess
