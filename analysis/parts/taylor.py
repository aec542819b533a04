"""A score that watches every step: how much the loss changes when a whole unit is scaled, smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.scores import Piece, Rule, Standing
from analysis.parts.units import reduce

SIDES = ("ffn out", "attention output", "query")  # where a unit of several matrices is read


def scaling(pieces: Sequence[Piece]) -> torch.Tensor:
    """The size of dL / dlog(a) for scaling a unit by a: |sum over the unit of theta * g|.

    Scaling a query dimension or its key dimension is the same function, and so are value and output, so one
    side says all; of a neuron the column out of it is read, because its activation is not homogeneous. The
    sign is dropped after the sum: two weights that pull against each other cancel.

    Args:
        pieces: weights, gradients and biases of the sites that the units reach into.

    Returns:
        scores of one batch, shape [units].
    """
    role = next((r for r in SIDES if any(p.role == r for p in pieces)), None)
    total = []
    for piece in (p for p in pieces if role is None or p.role == role):
        assert piece.gradient is not None
        total.append(reduce(piece.weight * piece.gradient, piece.grid))
        whole = piece.grid[1] == 1  # a bias goes with whole rows only
        if whole and piece.bias is not None and piece.bias_gradient is not None:
            own = (piece.bias * piece.bias_gradient).view(-1, 1)
            total.append(reduce(own, (piece.grid[0], 1)))
    return torch.stack(total).sum(0).abs()


def damping(alive: torch.Tensor, heads: int, alpha: float) -> torch.Tensor:
    """tanh(D / alpha) of the head of every unit, with D the share of its units that is left.

    Args:
        alive: bool, shape [units]; heads divide it into equal pieces.
        heads: number of heads.
        alpha: >= 0; 0 damps nothing.

    Returns:
        factors in [0, 1], shape [units].
    """
    if not alpha:
        return torch.ones(alive.shape, device=alive.device)
    left = alive.view(heads, -1).float().mean(1)
    return torch.tanh(left / alpha).repeat_interleave(len(alive) // heads)


@dataclass(frozen=True)
class Taylor(Rule):
    """I <- beta I + (1 - beta) |sum over a unit of theta g| tanh(D / alpha), from the first step on.

    g is the gradient before clipping, of the losses that may guide a score alone (gradient separation); the
    damping touches value dimensions, D being the share of its head's that is left. beta is 1 - 1 / (horizon
    of the run's steps), or given. A step whose gradient is not finite is left out; a unit that is cut keeps
    its last score and is never ranked again. Source: Yang, Cui, Yao, Wang 2023, arXiv:2212.07634.
    """

    horizon: float = knob(
        0.1, "memory of the average as a share of the run; 0 takes beta instead", low=0, high=1
    )
    beta: float = knob(0.998, "memory of the average where horizon is 0", low=0, high=1, open="high")
    alpha: float = knob(0.3, "how thin a head must be to be damped; 0 damps nothing", low=0, high=10)
    separation: bool = knob(True, "hidden-state and attention losses have no say in the scores")

    title: ClassVar[str] = "Taylor |sum of theta g| (watched at every step)"
    watches: ClassVar[bool] = True

    def init(self, units: int, generator: torch.Generator) -> torch.Tensor:
        """Returns zeros, shape [units]."""
        del generator
        return torch.zeros(units)

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns the averages of now, shape [units]."""
        del pieces
        assert state is not None
        return state

    def memory(self, steps: int) -> float:
        """The beta of a run of so many steps, in [0, 1)."""
        return 1 - 1 / max(1.0, self.horizon * steps) if self.horizon else self.beta

    def watch(self, state: torch.Tensor, pieces: Sequence[Piece], standing: Standing) -> None:
        """Takes note of a gradient that is not clipped, before the optimizer moves the weights.

        Args:
            state: averages I, shape [units], changed in place.
            pieces: weights and gradients of a group.
            standing: what its units are, which of them are left, and how long the run is.
        """
        value = scaling(pieces)
        if standing.kind == "value dims":
            value = value * damping(standing.alive, standing.heads, self.alpha)
        beta = self.memory(standing.steps)
        state.copy_(torch.where(standing.alive, beta * state + (1 - beta) * value, state))
