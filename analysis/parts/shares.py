"""The torch side of learned shares: what hands the gradient of a mask on to scores, shares and biases."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from analysis.parts.gates import BiasGate, StraightThrough


class Choice(torch.autograd.Function):
    """The identity on scores S; with g = dL/dM arriving, dL/dS = g and dL/dtheta = slope * sum(g * M)."""

    @staticmethod
    def forward(
        ctx: Any, scores: torch.Tensor, theta: torch.Tensor, chosen: torch.Tensor, sloped: bool
    ) -> torch.Tensor:
        """Returns the scores; theta is a scalar, chosen 1.0 per kept unit, sloped asks for sigma'(theta)."""
        ctx.save_for_backward(theta, chosen)
        ctx.sloped = sloped
        return scores.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns the gradients of scores, theta, chosen and sloped."""
        (gradient,) = gradients
        theta, chosen = ctx.saved_tensors
        to_theta = (gradient * chosen).sum()
        if ctx.sloped:
            share = torch.sigmoid(theta)
            to_theta = to_theta * share * (1 - share)
        return gradient, to_theta.reshape(theta.shape), None, None


class Share(nn.Module):
    """The learned share of one group, kept by the gates of all sites that rank its units.

    Args:
        start: theta to begin with.
        units: units of the group.
        sloped: whether the loss's gradient on theta has the slope of the logistic.
    """

    chosen: torch.Tensor

    def __init__(self, start: float, units: int, sloped: bool) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(float(start)))
        self.sloped = sloped
        self.register_buffer("chosen", torch.ones(units))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Returns the scores, shape [units]; what comes back through them reaches theta too."""
        result: torch.Tensor = Choice.apply(scores, self.theta, self.chosen, self.sloped)
        return result


class VotingBiasGate(BiasGate):
    """Masks the bias of dead rows and adds dL/db' * b to the gradient of the rows' scores.

    Args:
        rows: outputs of the layer.
        scores: learned scores of the units, shape [units], each unit a piece of the rows.
        share: the share of their group, or None where it is not learned.
    """

    def __init__(self, rows: int, scores: nn.Parameter, share: nn.Module | None) -> None:
        super().__init__(rows)
        self.scores, self.share = scores, share

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        """Returns the bias with zeros at dead rows, shape [rows]."""
        scores = self.scores if self.share is None else self.share(self.scores)
        column, mask = bias.unsqueeze(1), self.mask.unsqueeze(1)
        result: torch.Tensor = StraightThrough.apply(column, scores, mask, (scores.numel(), 1), None)
        return result.squeeze(1)
