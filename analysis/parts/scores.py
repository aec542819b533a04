"""Scores: a tensor shaped like the weight; higher means keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob


@dataclass(frozen=True)
class Magnitude(Part):
    """The absolute value of the current weight: S = |W|."""

    title: ClassVar[str] = "magnitude |W|"
    learned: ClassVar[bool] = False

    def init(self, weight: torch.Tensor, generator: torch.Generator) -> None:
        """Has no state of its own."""
        del weight, generator

    def of(self, weight: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """Returns |W|, same shape as the weight."""
        del state
        return weight.abs()


@dataclass(frozen=True)
class Random(Part):
    """A score drawn once from a uniform distribution; the baseline that knows nothing."""

    title: ClassVar[str] = "random"
    learned: ClassVar[bool] = False

    def init(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns U(0, 1) of the weight's shape, drawn from the generator (seeded by the run)."""
        return torch.rand(weight.shape, generator=generator)

    def of(self, weight: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """Returns the scores drawn at the start."""
        del weight
        assert state is not None
        return state


@dataclass(frozen=True)
class Movement(Part):
    """A score learned by gradient descent through a straight-through mask: dL/dS = G * W.

    Under plain gradient descent with step a the score is S_T = S_0 - a * sum_t G_t * W_t: it rises for
    weights that move away from zero and falls for weights that shrink. The sign is kept; |S| would reward
    shrinking as much as growing.
    Source: Sanh, Wolf, Rush 2020, section 4.
    """

    lr: float = knob(0.05, "peak learning rate of the scores", low=0, high=10, open="low", log=True)
    init_value: float = knob(0.0, "score every weight starts with", low=-20, high=20)
    init_spread: float = knob(0.0, "half-width of the uniform noise added at the start", low=0, high=10)

    title: ClassVar[str] = "movement (learned, straight-through)"
    learned: ClassVar[bool] = True

    def init(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns the starting scores, same shape as the weight."""
        start = torch.full(weight.shape, self.init_value)
        if self.init_spread:
            start += (torch.rand(weight.shape, generator=generator) * 2 - 1) * self.init_spread
        return start

    def of(self, weight: torch.Tensor, state: torch.Tensor | None) -> torch.Tensor:
        """Returns the learned scores."""
        del weight
        assert state is not None
        return state


@dataclass(frozen=True)
class GateLogit(Movement):
    """The logit of a hard-concrete gate, learned through the reparameterised gate (L0 regularisation)."""

    lr: float = knob(0.1, "peak learning rate of the gate logits", low=0, high=10, open="low", log=True)
    init_value: float = knob(
        math.log(0.9 / 0.1),
        "gate logit every weight starts with (2.197 opens the gate to 0.98)",
        low=-20,
        high=20,
    )

    title: ClassVar[str] = "gate logit (learned, hard concrete)"


Score = Magnitude | Random | Movement | GateLogit
