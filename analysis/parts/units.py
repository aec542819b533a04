"""Units: what lives or dies together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part


@dataclass(frozen=True)
class Weight(Part):
    """Every single weight is a unit of its own (unstructured pruning)."""

    title: ClassVar[str] = "single weights"

    def pool(self, scores: torch.Tensor) -> torch.Tensor:
        """Returns one score per unit, shape [weights]."""
        return scores.reshape(-1)

    def spread(self, chosen: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Returns the mask in the shape of the weight from the choice per unit, shape [weights]."""
        return chosen.view(shape)


Units = Weight
