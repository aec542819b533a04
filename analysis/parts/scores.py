"""Scores: one number per unit; higher means keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.units import reduce


@dataclass(frozen=True)
class Piece:
    """What a score may look at of one site that the units of a group reach into.

    Attributes:
        weight: the dense weight as the model means it, before any mask, shape [rows, cols].
        grid: pieces of rows and of columns that the units cut it into.
        role: role of the site.
        start: the pre-trained weight, same shape; only where a score is computed on demand.
        gradient: g = dL/dw, same shape; only where a score observes steps or measures examples.
        curvature: H g, same shape; only after two passes.
        bias: of the rows, shape [rows], where it goes with the units; only for a score that watches.
        bias_gradient: its gradient, same shape.
    """

    weight: torch.Tensor
    grid: tuple[int, int]
    role: str = "other"
    start: torch.Tensor | None = None
    gradient: torch.Tensor | None = None
    curvature: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    bias_gradient: torch.Tensor | None = None


@dataclass(frozen=True)
class Standing:
    """What a score that watches may know of a group of units.

    Attributes:
        kind: what the units are, as in ``Group.kind``.
        heads: heads that they divide into, 0 where they belong to none.
        alive: bool, which of them are left, shape [units].
        steps: optimizer steps of the run.
    """

    kind: str
    heads: int
    alive: torch.Tensor
    steps: int


class Rule(Part):
    """What every score says about itself; the values here are those of a plain function of the weights.

    Attributes:
        learned: whether the optimizer trains the state.
        on_demand: whether scores are computed only when the schedule has moved, by ``measure``; the state
            then holds the last ones, and a unit that is cut stays cut.
        observes: whether ``observe`` is called at every step with the clipped gradient, to change the state.
        watches: whether ``watch`` is, with the gradient before clipping, of the losses that guide alone.
    """

    learned: ClassVar[bool] = False
    on_demand: ClassVar[bool] = False
    observes: ClassVar[bool] = False
    watches: ClassVar[bool] = False

    def observe(self, state: torch.Tensor, pieces: Sequence[Piece], rate: float, step: int) -> None:
        """Changes the state in place by what a step shows: weights, clipped gradients, learning rate."""
        raise TypeError(f"{type(self).__name__} watches no steps.")

    def watch(self, state: torch.Tensor, pieces: Sequence[Piece], standing: Standing) -> None:
        """Changes the state in place by weights and gradients that are not clipped."""
        raise TypeError(f"{type(self).__name__} watches no steps.")

    def passes(self) -> int:
        """What ``measure`` needs of the loss: 0 nothing, 1 its gradient g, 2 also H g."""
        return 0

    def sample(self) -> tuple[int, float]:
        """How many training examples ``measure`` sees, and the temperature of their loss."""
        return 0, 1.0

    def measure(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Returns the scores of now from pieces that hold what was asked for, shape [units]."""
        raise TypeError(f"{type(self).__name__} is not computed on demand.")


@dataclass(frozen=True)
class Magnitude(Rule):
    """The size of the current weights of a unit: |W| for single weights, else the root of the sum of w**2."""

    title: ClassVar[str] = "magnitude |W|"

    def init(self, units: int, generator: torch.Generator) -> None:
        """Has no state of its own."""
        del units, generator

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns one score per unit, shape [units]."""
        del state
        first = pieces[0]
        if len(pieces) == 1 and first.grid == tuple(first.weight.shape):
            return first.weight.abs().reshape(-1)
        return sums(pieces, lambda w: w.square()).sqrt()


@dataclass(frozen=True)
class Norm(Magnitude):
    """A norm over the weights of a unit, by choice.

    l1 is the sum of |w|, l2 the root of the sum of w**2; the two can order units oppositely, because l2 is
    moved by a few large weights. The mean is l1 over the number of weights, comparable between units of
    different size.
    """

    norm: str = knob("l2", "norm over the weights of a unit", choices=("l1", "l2", "mean"))

    title: ClassVar[str] = "norm of the unit"

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns one score per unit, shape [units]."""
        if self.norm == "l2":
            return super().of(pieces, state)
        total = sums(pieces, lambda w: w.abs())
        return total if self.norm == "l1" else total * (total.numel() / sum(p.weight.numel() for p in pieces))


def sums(pieces: Sequence[Piece], of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Sums a function of the weights over all weights of each unit, shape [units]."""
    return torch.stack([reduce(of(p.weight), p.grid) for p in pieces]).sum(0)


@dataclass(frozen=True)
class Random(Rule):
    """A score drawn once from a uniform distribution; the baseline that knows nothing."""

    title: ClassVar[str] = "random"

    def init(self, units: int, generator: torch.Generator) -> torch.Tensor:
        """Returns U(0, 1) per unit, shape [units], drawn from the generator (seeded by the run)."""
        return torch.rand(units, generator=generator)

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns the scores drawn at the start, shape [units]."""
        del pieces
        assert state is not None
        return state


@dataclass(frozen=True)
class Movement(Rule):
    """A score learned by gradient descent through a straight-through mask: dL/dS = G * W, summed over a unit.

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

    def init(self, units: int, generator: torch.Generator) -> torch.Tensor:
        """Returns the starting scores, shape [units]."""
        start = torch.full((units,), self.init_value)
        if self.init_spread:
            start += (torch.rand(units, generator=generator) * 2 - 1) * self.init_spread
        return start

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns the learned scores, shape [units]."""
        del pieces
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


Score = Magnitude | Norm | Random | Movement | GateLogit
