"""A score that watches every step: what setting a weight to zero costs against updating it, smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.scores import Piece, Rule
from analysis.parts.units import reduce


def advantage(weight: torch.Tensor, gradient: torch.Tensor, rate: float) -> torch.Tensor:
    """S = -w g + eta g**2: by how much, to first order, pruning a weight costs more than updating it.

    Updating changes the loss by -eta g**2, pruning by -w g. S = -g (w - eta g), so for plain gradient descent
    it is minus the gradient times the updated weight. For w = 0 it is positive: a pruned weight may return.

    Args:
        weight: w before the step, any shape.
        gradient: g, same shape.
        rate: eta, the learning rate of the step, at least 0.

    Returns:
        S, same shape.
    """
    return rate * gradient.square() - weight * gradient


def smoothed(
    state: torch.Tensor, value: torch.Tensor, position: int, memory: float, doubt: float
) -> torch.Tensor:
    """One step of the running mean m inside a window, the average I over windows, and the deviation U.

    Where a window begins, I <- b1 I + (1 - b1) m and then U <- b2 U + (1 - b2) |m - I|, with the m of the
    window before; inside a window only m moves. What is measured in a window thus counts from the next on.

    Args:
        state: m, I, U in rows, shape [3, units]; changed in place.
        value: what was measured at this step, shape [units].
        position: place of the step in its window, from 0.
        memory: b1 in [0, 1).
        doubt: b2 in [0, 1].

    Returns:
        the state.
    """
    mean, average, deviation = state
    if position == 0:
        average.mul_(memory).add_(mean, alpha=1 - memory)
        deviation.mul_(doubt).add_((mean - average).abs(), alpha=1 - doubt)
        mean.copy_(value)
    else:
        mean.mul_(position).add_(value).div_(position + 1)
    return state


@dataclass(frozen=True)
class Sensitivity(Rule):
    """S = -w g + eta g**2 at every step, averaged over windows, times how much it deviates from its average.

    The score is I U for 0 < b2 < 1, I for b2 = 1, and I |m - I| for b2 = 0, with m, I, U of ``smoothed``; the
    gradient is that of the whole loss after clipping. A unit sums S over its weights first.
    Source: Ren and Zhu 2023, arXiv:2305.12394; smoothing from Zhang et al. 2022 (PLATON).
    """

    sign: str = knob("abs", "abs ranks |S|; signed ranks S", choices=("abs", "signed"))
    window: int = knob(10, "steps whose mean is one measurement", unit="steps", low=1, high=10_000)
    memory: float = knob(0.85, "b1, memory of the average over windows", low=0, high=1, open="high")
    doubt: float = knob(0.95, "b2, memory of the deviation; 1 ranks by the average alone", low=0, high=1)

    title: ClassVar[str] = "sensitivity (watched at every step)"
    observes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sign == "signed" and self.doubt != 1:
            raise SpecError(
                f"Sensitivity.sign is 'signed' with Sensitivity.doubt {self.doubt:g}: a negative score times "
                "a large deviation would send the least certain weights out first; set doubt to 1, or sign "
                "to abs."
            )

    def init(self, units: int, generator: torch.Generator) -> torch.Tensor:
        """Returns zeros, shape [3, units]."""
        del generator
        return torch.zeros(3, units)

    def observe(self, state: torch.Tensor, pieces: Sequence[Piece], rate: float, step: int) -> None:
        """Takes note of the clipped gradient of a step, before the optimizer moves the weights.

        Args:
            state: shape [3, units], changed in place.
            pieces: weights and gradients of a group.
            rate: learning rate of the step.
            step: number of the step, from 0.
        """
        raw = []
        for piece in pieces:
            assert piece.gradient is not None
            raw.append(reduce(advantage(piece.weight, piece.gradient, rate), piece.grid))
        value = torch.stack(raw).sum(0) if len(raw) > 1 else raw[0]
        value = value.abs() if self.sign == "abs" else value
        smoothed(state, value, step % self.window, self.memory, self.doubt)

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns the scores of now, shape [units]."""
        del pieces
        assert state is not None
        mean, average, deviation = state
        if self.doubt == 1:
            return average.clone()
        return average * (deviation if self.doubt > 0 else (mean - average).abs())
