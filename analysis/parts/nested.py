"""Cuts that are never taken back: a few events, and a selection among what they have left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.schedules import Always
from analysis.parts.select import TopK, kth_largest

SLACK = 1e-9  # step / steps may be a rounding error short of a moment


@dataclass(frozen=True)
class Events(Always):
    """A few cuts, one every F of a pruning stage E, along the cubic: after cut k = F / E * E of K,
    end + (start - end) * (1 - k / K)**3 with K = floor(E / F); the last one cuts to the end value exactly.

    Cut k comes at k F < E, strictly: where F divides E the last is left out, unless it is forced at E itself.
    Source: the code of Huang et al. 2022; Zhu and Gupta 2017.
    """

    interval: float = knob(
        0.084, "F / E, time between two cuts", unit="of the pruning stage", low=0.001, high=1
    )
    cooldown: float = knob(
        0.6, "share of the run after the pruning stage", unit="of the run", low=0, high=1, open="high"
    )
    forced: bool = knob(True, "cut to the target at the end of the stage where no cut has reached it before")

    title: ClassVar[str] = "cubic in a few cuts"

    @property
    def cuts(self) -> int:
        """K, how many steps the cubic has."""
        return max(1, math.floor(1 / self.interval + SLACK))

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns the value after the cuts made so far; start before the first."""
        passed = progress / (1 - self.cooldown)
        if self.forced and passed >= 1 - SLACK:
            return end
        last = math.ceil(1 / self.interval - SLACK) - 1  # the last with k F < E
        done = min(last, math.floor(passed / self.interval + SLACK))
        return end + (start - end) * (1 - min(1.0, done / self.cuts)) ** 3


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
