"""The modules that ``torch.nn.utils.parametrize`` puts between a raw weight and the model (imports torch at
once).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from analysis.parts.reparam import HardConcrete


class StraightThrough(torch.autograd.Function):
    """W' = M * W with dL/dW = G * M and dL/dS = G * W, where G = dL/dW' is dense.

    Multiplying ``weight.grad`` by the weight instead would be wrong: that gradient already contains the mask,
    so a pruned weight could never come back.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the masked weight; all three tensors share one shape."""
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns the gradients of weight, scores and mask."""
        (gradient,) = gradients
        weight, mask = ctx.saved_tensors
        to_scores = gradient * weight if ctx.needs_input_grad[1] else None
        # The dense gradient is dead after this line, so its memory is reused; a fresh 10 M tensor costs a
        # page fault each.
        to_weight = gradient.mul_(mask) if ctx.needs_input_grad[0] else None
        return to_weight, to_scores, None


class MaskGate(nn.Module):
    """Multiplies a weight by a mask that the pruner rewrites once per optimizer step."""

    mask: torch.Tensor

    def __init__(self, scores: torch.Tensor | None, shape: torch.Size) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores) if scores is not None else None
        # The mask has the weight's dtype: a bool operand would be converted inside every product.
        self.register_buffer("mask", torch.ones(shape))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns M * W, same shape as the weight."""
        if self.scores is None:
            return weight * self.mask
        result: torch.Tensor = StraightThrough.apply(weight, self.scores, self.mask)
        return result

    def final(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the weight that is exported: exact zeros where pruned."""
        return torch.where(self.mask.bool(), weight, torch.zeros((), dtype=weight.dtype))


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
    """Multiplies a weight by a gate in [0, 1]; the mask only records which gates are open at evaluation."""

    mask: torch.Tensor

    def __init__(self, scores: torch.Tensor, shape: torch.Size) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.register_buffer("mask", torch.ones(shape))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns gate * W, same shape as the weight; a fresh gate at every training forward."""
        if not self.training:
            return weight * hard_concrete(self.scores)
        uniform = torch.empty_like(self.scores).uniform_(1e-4, 1 - 1e-4)
        return weight * hard_concrete(self.scores, uniform)

    def final(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the weight that is exported: multiplied by its deterministic gate, which need not be 0 or
        1.
        """
        return weight * hard_concrete(self.scores)
