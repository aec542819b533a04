"""Cuts that are never taken back: a selection among what the earlier ones have left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.select import TopK, kth_largest


def at_least(scores: Sequence[torch.Tensor], k: int) -> list[torch.Tensor]:
    """Marks what is at least the k-th largest value: all ties at the cut stay, so a cut at 0 keeps all zeros.

    Args:
        scores: flat float32 tensors, n values in all.
        k: rank, in [0, n].

    Returns:
        one bool tensor per input.
    """
    if k < 1:
        return [torch.zeros_like(s, dtype=torch.bool) for s in scores]
    cut = kth_largest([s.detach().cpu().numpy() for s in scores], k)
    return [s >= cut for s in scores]


def released_count(keep: float, n: int) -> int:
    """Units kept out of n as the released code counts: floor(n (1 - s)) with the sparsity s = 1 - keep.

    It loses one to rounding now and then: 99 of 1000 at a sparsity of 0.9.
    """
    return math.floor(n * (1 - (1 - keep)))


@dataclass(frozen=True)
class NestedTopK(TopK):
    """Top-k among the units that are still kept: what was cut once never comes back.

    The rule exact keeps exactly floor(keep * n) per matrix; faithful keeps everything at least as large as
    the threshold of the reference, whose count loses one to rounding and gains all ties.
    Source: the code of Huang et al. 2022.
    """

    rule: str = knob("exact", "exact count, or the threshold of the reference", choices=("exact", "faithful"))

    title: ClassVar[str] = "top-k, nested"
    nested: ClassVar[bool] = True

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and site.

        Args:
            scores: one flat tensor per site, -inf for units that are cut.
            value: fraction to keep, in [0, 1].
            costs: not looked at; every unit counts as one.
        """
        if self.rule == "exact":
            return super().choose(scores, value, costs)
        together = [scores] if self.scope == "global" else [[s] for s in scores]
        chosen = [mask for group in together for mask in self._faithful(group, value)]
        return [mask & (s > -math.inf) for mask, s in zip(chosen, scores, strict=True)]

    def _faithful(self, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor]:
        least = sum(min(self.least, s.numel()) for s in scores)
        return at_least(scores, max(least, released_count(value, sum(s.numel() for s in scores))))
