"""Top-KAST: gradients reach further than the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.losses import LossContext, Reach
from analysis.parts.select import TopK


@dataclass(frozen=True)
class TopKast(TopK):
    """Top-k in the forward pass, a larger top-k in the backward pass (Top-KAST).

    With D the fraction kept and M the fraction explored: the model computes with A, the best D, gradients
    reach B, the best D + M, and what is outside B is frozen but stored. A weight of B that outgrows one of A
    takes its place.
    Source: Jayakumar, Pascanu, Rae, Osindero, Elsen 2020.
    """

    explore: float = knob(
        0.1, "weights beyond the kept ones that get gradients", unit="of the weights", low=0, high=1
    )

    title: ClassVar[str] = "top-k, gradients reach further"
    explores: ClassVar[bool] = True

    def reach(self, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor] | None:
        """Returns B, one bool per unit and group; it holds all of A.

        Args:
            scores: one flat tensor per group.
            value: fraction kept, in [0, 1].
        """
        return self.choose(scores, min(1.0, value + self.explore))


def topkast_penalty(sites: Sequence[Reach]) -> torch.Tensor:
    """The exploration penalty 1/2 * (sum over A of W**2 + sum over B without A of W**2 / D).

    A is kept, B is reached, D the kept fraction over all sites. An explored weight pays 1 / D times as much
    as a kept one, so it must earn its place.

    Args:
        sites: weights with their two masks, at least one.

    Returns:
        a scalar >= 0.
    """
    share = max(float(sum(s.kept.sum() for s in sites)), 1.0) / sum(s.kept.numel() for s in sites)
    # 1 in A, 1 / D in B without A, 0 elsewhere.
    return (
        torch.stack(
            [(s.weight.square() * torch.lerp(s.kept, s.reached, 1 / share)).sum() for s in sites]
        ).sum()
        / 2
    )


@dataclass(frozen=True)
class TopKastPenalty(Part):
    """Pulls the weights that get gradients towards zero, the explored ones 1 / D times as hard as the kept.

    R = 1/2 * (sum over A of W**2 + sum over B without A of W**2 / D), for the selection TopKast. It looks at
    the dense weight W that scores see, also where W is a power of a stored parameter.
    Source: Jayakumar, Pascanu, Rae, Osindero, Elsen 2020.
    """

    weight: float = knob(1e-4, "lambda, the weight of the penalty", low=0, high=1e4, log=True)

    title: ClassVar[str] = "penalty on explored weights"
    needs_teacher: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    steer: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        return topkast_penalty(ctx.reach())
