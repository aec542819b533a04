"""Top-KAST: gradients reach further than the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import knob
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
