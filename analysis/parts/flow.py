"""Scores from the gradient flow d(theta)/dt = -g: derivatives of the squared norm of a unit's weights.

The norm |theta|^2 itself, its first derivative -2 theta.g and its second derivative 2 (|g|^2 + theta.Hg) give
the three families of published scores: size, what the loss loses, and what the gradient's norm loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.scores import Piece, Rule
from analysis.parts.units import reduce


def terms(
    order: int,
    weight: torch.Tensor,
    gradient: torch.Tensor | None = None,
    curvature: torch.Tensor | None = None,
) -> torch.Tensor:
    """One term per weight: w**2 (order 0), w * g (order 1) or w * (H g) (order 2).

    Removing a weight changes the loss by about -w * g and the squared gradient norm by about -2 w * (H g).

    Args:
        order: 0, 1 or 2.
        weight: any shape.
        gradient: g, same shape, needed for order 1.
        curvature: H g, same shape, needed for order 2.

    Returns:
        terms of the same shape.
    """
    if order == 0:
        return weight.square()
    factor = gradient if order == 1 else curvature
    assert factor is not None
    return weight * factor


@dataclass(frozen=True)
class Flow(Rule):
    """A sum over the weights of a unit, measured on training examples: of w**2, of w g, or of w (H g).

    The root of the sum of w**2 (order 0); the sum of |w g|, or the size of the sum (order 1); the same of
    w (H g), or its signed sum (order 2). The bias multiplies each term by |w| or by |w - w0|. Loss and
    gradient are those of the network as it is cut now, in evaluation mode, so a unit that is cut stays cut
    and its score is the last one it had.
    Source: Lubana and Dick 2021, arXiv:2009.11839; order 2, signed: Wang, Zhang, Grosse 2020,
    arXiv:2002.07376.
    """

    order: int = knob(1, "0 the size of the weights, 1 loss (w g), 2 gradient norm (w Hg)", choices=(0, 1, 2))
    absolute: str = knob(
        "before",
        "where the sign is dropped: of each term before the sum, of the sum after it, or nowhere",
        choices=("before", "after", "nowhere"),
    )
    bias: str = knob(
        "none",
        "factor on each term: none, the size of the weight, or its distance from the pre-trained one",
        choices=("none", "size", "distance"),
    )
    temperature: float = knob(1.0, "divides the logits in the measured loss", low=0.01, high=1e4, log=True)
    examples: int = knob(512, "training examples measured on", unit="examples", low=1, high=1_000_000)

    title: ClassVar[str] = "gradient flow (measured at each cut)"
    on_demand: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order == 0 and self.bias != "none":
            raise SpecError(
                f"Flow.bias is {self.bias!r} with Flow.order 0, which already is the size of the weights; "
                "choose the bias none, or the order 1 or 2."
            )
        if self.order == 1 and self.absolute == "nowhere":
            raise SpecError(
                "Flow.absolute is 'nowhere' with Flow.order 1: the lowest sums of w g belong to the units "
                "whose removal raises the loss most, and they would go first; choose before or after."
            )

    def init(self, units: int, generator: torch.Generator) -> torch.Tensor:
        """Returns zeros, shape [units]: nothing is measured before the first cut."""
        del generator
        return torch.zeros(units)

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns the scores of the last cut, shape [units]."""
        del pieces
        assert state is not None
        return state

    def passes(self) -> int:
        """The order: size needs no loss, loss its gradient, gradient norm also H g."""
        return self.order

    def sample(self) -> tuple[int, float]:
        """Examples and temperature."""
        return self.examples, self.temperature

    def measure(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Returns the scores of now, shape [units], from weights, gradients and H g."""
        total = torch.stack([reduce(self._terms(p), p.grid) for p in pieces]).sum(0)
        if self.order == 0:
            return total.sqrt()
        return total.abs() if self.absolute == "after" else total

    def _terms(self, piece: Piece) -> torch.Tensor:
        found = terms(self.order, piece.weight, piece.gradient, piece.curvature)
        if self.order and self.absolute == "before":
            found = found.abs()
        if self.bias == "size":
            return found * piece.weight.abs()
        if self.bias == "distance":
            assert piece.start is not None
            return found * (piece.weight - piece.start).abs()
        return found


# What the published measures are called, and the choices that give them.
MEASURES: dict[str, Flow] = {
    "magnitude": Flow(order=0),
    "loss": Flow(order=1),
    "biased loss": Flow(order=1, bias="size"),
    "size of the summed loss": Flow(order=1, absolute="after"),
    "GraSP": Flow(order=2, absolute="nowhere", temperature=200.0),
    "gradient norm preserved": Flow(order=2, absolute="after"),
}
