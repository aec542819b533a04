"""Selection: from one score per unit and a budget to kept or pruned, exactly.

Nothing is sorted. The k-th largest of n scores is found by bracketing it between two order statistics of a small sample
and looking only at what lies between (Floyd and Rivest 1975); a bracket that misses costs one more look, never a wrong
answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.reparam import HardConcrete

SAMPLE = 8192  # sampled scores that bracket the threshold
SMALL = 32768  # below this a direct k-th value is faster than bracketing


def count_kept(keep: float, n: int) -> int:
    """Number of units kept out of n: floor(keep * n).

    ``int(0.29 * 100)`` is 28, because 0.29 * 100 is 28.999...; the small term restores the count a person expects.
    """
    return min(n, math.floor(keep * n + 1e-9 * max(1, n) ** 0.5))


def kth_largest(tensors: Sequence[torch.Tensor], k: int) -> float:
    """The k-th largest value over several flat tensors, with NaN below everything.

    Args:
        tensors: flat float32 tensors, n values in all; they are not concatenated.
        k: rank, 1 for the largest, in [1, n].

    Returns:
        the value as a float; -inf when fewer than k values are numbers.
    """
    n = sum(t.numel() for t in tensors)
    if n <= SMALL:
        return _kth_direct(torch.cat(list(tensors)), k)
    # A regular stride would follow the rows of a matrix and see only some of its columns; a prime one does not.
    stride = next(p for p in (max(1, n // SAMPLE) + i for i in range(10**6)) if _prime(p))
    sample = torch.cat([t[::stride] for t in tensors])
    sample = torch.where(sample.isnan(), -math.inf, sample).sort(descending=True).values
    rank = k / n * sample.numel()
    margin = 4 * math.sqrt(max(1.0, rank * (1 - k / n))) + 4
    high = sample[int(rank - margin)].item() if rank - margin >= 0 else math.inf
    low = sample[int(rank + margin)].item() if rank + margin < sample.numel() else -math.inf
    above, between = 0, []
    for t in tensors:
        not_above = t <= high
        above += int(t.numel() - not_above.sum() - t.isnan().sum()) if math.isfinite(high) else 0
        between.append(t[not_above & (t >= low)])
    inside = torch.cat(between)
    if above < k <= above + inside.numel():
        return _kth_direct(inside, k - above)
    return _kth_direct(torch.cat(list(tensors)), k)


def _prime(p: int) -> bool:
    return p > 1 and all(p % d for d in range(2, math.isqrt(p) + 1))


def _kth_direct(values: torch.Tensor, k: int) -> float:
    clean = torch.where(values.isnan(), -math.inf, values)
    return float(clean.kthvalue(clean.numel() - k + 1).values)


def keep_largest(tensors: Sequence[torch.Tensor], k: int) -> list[torch.Tensor]:
    """Marks exactly the k largest values; among equal ones the earlier tensor and the lower index are kept.

    Comparing with the threshold alone keeps none (``>``) or all (``>=``) of tied scores, and all scores are tied at the
    start of movement pruning.

    Args:
        tensors: flat float32 tensors, n values in all.
        k: how many to keep, in [0, n].

    Returns:
        one bool tensor per input; k entries are True in all. NaN is kept only when fewer than k values are numbers.
    """
    n = sum(t.numel() for t in tensors)
    if k >= n:
        return [torch.ones_like(t, dtype=torch.bool) for t in tensors]
    if k <= 0:
        return [torch.zeros_like(t, dtype=torch.bool) for t in tensors]
    threshold = kth_largest(tensors, k)
    masks = [t >= threshold for t in tensors]
    surplus = sum(int(m.count_nonzero()) for m in masks) - k
    if surplus < 0:  # NaN among the k best: numbers are too few
        ties = [t.isnan() for t in tensors]
        surplus += sum(int(t.count_nonzero()) for t in ties)
        masks = [m | t for m, t in zip(masks, ties, strict=True)]
    elif surplus:
        ties = [t == threshold for t in tensors]
    if surplus:
        for mask, tie in zip(reversed(masks), reversed(ties), strict=True):
            where = tie.nonzero().view(-1)
            drop = where[max(0, where.numel() - surplus) :]
            mask[drop] = False
            surplus -= drop.numel()
            if not surplus:
                break
    return masks


@dataclass(frozen=True)
class TopK(Part):
    """Keeps exactly floor(keep * n) units with the highest scores, per matrix (local) or over all of them (global)."""

    scope: str = knob("local", "rank inside each matrix, or over all matrices at once", choices=("local", "global"))

    title: ClassVar[str] = "top-k"

    def span(self, keep: float) -> tuple[float, float]:
        """Start and end of what the schedule moves: the fraction kept, from 1 to keep."""
        return 1.0, keep

    def keeps_all(self, value: float) -> bool:
        """Whether this value of the schedule keeps everything, whatever the scores."""
        return value >= 1

    def choose(self, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor]:
        """Returns one bool per unit and site.

        Args:
            scores: one flat tensor per site.
            value: fraction to keep, in [0, 1].
        """
        if self.scope == "global":
            return keep_largest(scores, count_kept(value, sum(s.numel() for s in scores)))
        return [keep_largest([s], count_kept(value, s.numel()))[0] for s in scores]


@dataclass(frozen=True)
class SigmoidThreshold(Part):
    """Keeps the units with sigma(S) > tau, and never fewer than a floor per matrix.

    tau = 0.1 is S > -2.1972; tau = 0 keeps everything. The floor int(min_keep * n) + 1 is the reference's; where equal
    scores straddle it the reference keeps none, here exactly the floor survives.
    """

    tau: float = knob(0.1, "final threshold on sigma(S)", low=0, high=1, open="both")
    min_keep: float = knob(0.005, "floor per matrix", unit="of its weights", low=0, high=1)

    title: ClassVar[str] = "sigmoid threshold"

    def span(self, keep: float) -> tuple[float, float]:
        """Start and end of what the schedule moves: tau, from 0 to its final value."""
        del keep
        return 0.0, self.tau

    def keeps_all(self, value: float) -> bool:
        """Whether this value of the schedule keeps everything, whatever the scores."""
        return value <= 0

    def choose(self, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor]:
        """Returns one bool per unit and site.

        Args:
            scores: one flat tensor per site.
            value: tau at this moment, in [0, 1).
        """
        cut = math.log(value / (1 - value)) if value > 0 else -math.inf
        masks = []
        for s in scores:
            mask = s > cut if value > 0 else torch.ones_like(s, dtype=torch.bool)
            floor = int(self.min_keep * s.numel()) + 1 if self.min_keep else 0
            masks.append(mask if int(mask.count_nonzero()) >= floor else keep_largest([s], floor)[0])
        return masks


@dataclass(frozen=True)
class OpenGate(Part):
    """Keeps the weights whose hard-concrete gate is open at evaluation: S > ln(-low / high) = -2.3979."""

    title: ClassVar[str] = "open gates"

    def span(self, keep: float) -> tuple[float, float]:
        """Nothing is moved by the schedule."""
        del keep
        return 1.0, 1.0

    def keeps_all(self, value: float) -> bool:
        """Never known without the scores."""
        del value
        return False

    def choose(self, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor]:
        """Returns one bool per unit and site."""
        del value
        return [s > HardConcrete.closed_below for s in scores]


Select = TopK | SigmoidThreshold | OpenGate
