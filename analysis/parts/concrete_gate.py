"""The hard-concrete gate, which draws its units while training."""

from __future__ import annotations

import torch
from torch import nn

from analysis.parts.gates import Gate
from analysis.parts.reparam import HardConcrete
from analysis.parts.units import expand


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


class HardConcreteGate(Gate):
    """Multiplies a weight by a gate in [0, 1], one per unit; the mask only records which gates are open at
    evaluation.
    """

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
