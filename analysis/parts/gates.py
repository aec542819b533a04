"""The modules that ``torch.nn.utils.parametrize`` puts between a raw weight and the model (imports torch at
once).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from analysis.parts.reparam import HardConcrete
from analysis.parts.units import expand, reduce


class StraightThrough(torch.autograd.Function):
    """W' = M * W with dL/dW = G * M and dL/dS = the sum of G * W over each unit, where G = dL/dW' is dense.

    Multiplying ``weight.grad`` by the weight instead would be wrong: that gradient already contains the mask,
    so a pruned weight could never come back.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """Returns the masked weight: weight and mask share one shape, scores are one per unit of the grid."""
        ctx.save_for_backward(weight, mask)
        ctx.grid = grid
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns the gradients of weight, scores, mask and grid."""
        (gradient,) = gradients
        weight, mask = ctx.saved_tensors
        to_scores = reduce((gradient * weight).flatten(1), ctx.grid) if ctx.needs_input_grad[1] else None
        # The dense gradient is dead after this line, so its memory is reused; a fresh 10 M tensor costs a
        # page fault each.
        to_weight = gradient.mul_(mask) if ctx.needs_input_grad[0] else None
        return to_weight, to_scores, None, None


class MaskGate(nn.Module):
    """Multiplies a weight by a mask that the pruner rewrites once per optimizer step.

    Args:
        scores: learned scores of the units, shape [units], shared by the gates of all sites that the units
            reach into; None when they are not learned.
        shape: shape of the weight.
        grid: pieces of rows and of columns that the units cut the weight into.
    """

    mask: torch.Tensor
    in_place: bool = False

    def __init__(self, scores: nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]) -> None:
        super().__init__()
        self.scores = scores
        self.grid = grid
        # The mask has the weight's dtype: a bool operand would be converted inside every product.
        self.register_buffer("mask", torch.ones(shape))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns M * W, same shape as the weight."""
        if self.scores is None:
            return weight * self.mask
        result: torch.Tensor = StraightThrough.apply(weight, self.scores, self.mask, self.grid)
        return result

    def final(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the weight that is exported: exact zeros where pruned."""
        return torch.where(self.mask.bool(), weight, torch.zeros((), dtype=weight.dtype))


class ZeroGate(MaskGate):
    """Lets the whole weight through while training; the pruner writes zeros into it in place."""

    in_place: bool = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns W while training, M * W otherwise."""
        return weight if self.training else weight * self.mask


class BiasGate(nn.Module):
    """Multiplies a bias by the rows of the mask in which anything is left; no gradient reaches the scores."""

    mask: torch.Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(rows))

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        """Returns the bias with zeros at dead rows, shape [rows]."""
        return bias * self.mask


def hard_concrete(scores: torch.Tensor, uniform: torch.Tensor | None = None) -> torch.Tensor:
    """The hard-concrete gate.

    Args:
        scores: gate logits S, any shape.
        uniform: samples in (0, 1) of the same shape while training, None for the deterministic gate.

    Returns:
        gates in [0, 1], same shape.
    """
    c = HardConcrete
    s = scores if uniform is None else (uniform.log() - (1 - uniform).log() + scores) / c.temperature
    return (torch.sigmoid(s) * (c.high - c.low) + c.low).clamp(0, 1)


class HardConcreteGate(nn.Module):
    """Multiplies a weight by a gate in [0, 1], one per unit; the mask only records which gates are open at
    evaluation.
    """

    mask: torch.Tensor
    in_place: bool = False

    def __init__(self, scores: nn.Parameter, shape: torch.Size, grid: tuple[int, int]) -> None:
        super().__init__()
        self.scores = scores
        self.grid = grid
        self.register_buffer("mask", torch.ones(shape))

    def _spread(self, gates: torch.Tensor) -> torch.Tensor:
        rows = self.mask.shape[0]
        return expand(gates, self.grid, rows, self.mask.numel() // rows).reshape(self.mask.shape)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns gate * W, same shape as the weight; a fresh gate at every training forward."""
        if not self.training:
            return weight * self._spread(hard_concrete(self.scores))
        uniform = torch.empty_like(self.scores).uniform_(1e-4, 1 - 1e-4)
        return weight * self._spread(hard_concrete(self.scores, uniform))

    def final(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the weight that is exported: multiplied by its deterministic gate, which need not be 0 or
        1.
        """
        return weight * self._spread(hard_concrete(self.scores))
