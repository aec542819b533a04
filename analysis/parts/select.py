"""Selection: from one score per unit and a budget to kept or pruned, exactly.

Nothing is sorted. The k-th largest of n scores is found by bracketing it between two order statistics of a
small sample and looking only at what lies between (Floyd and Rivest 1975); a bracket that misses costs one
more look, never a wrong answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.reparam import HardConcrete
from analysis.parts.units import Group

SHARED = 1_000_000  # scores from which matrices are ranked in parallel
SMALL = 8192  # scores among which the k-th is looked for directly


def count_kept(keep: float, n: int) -> int:
    """Number of units kept out of n: floor(keep * n).

    ``int(0.29 * 100)`` is 28, because 0.29 * 100 is 28.999...; the small term restores the count a person
    expects.
    """
    return min(n, math.floor(keep * n + 1e-9 * max(1, n) ** 0.5))


def kth_largest(arrays: Sequence[np.ndarray], k: int) -> float:
    """The k-th largest value over several flat arrays, with NaN below everything.

    Args:
        arrays: flat float32 arrays, n values in all; they are not concatenated.
        k: rank, 1 for the largest, in [1, n].

    Returns:
        the value as a float; -inf when fewer than k values are numbers.
    """
    n = sum(a.size for a in arrays)
    if n <= SMALL:
        return _kth_direct(np.concatenate(arrays), k)
    low, high = _bracket(arrays, k, n)
    above, between = 0, []
    for a in arrays:
        over = a > high
        above += int(np.count_nonzero(over))
        between.append(a[(a >= low) ^ over])
    inside = np.concatenate(between)
    if not above < k <= above + inside.size:
        return _kth_direct(np.concatenate(arrays), k)
    k -= above
    if inside.size <= SMALL or not np.isfinite((low, high)).all():
        return _kth_direct(inside, k)
    # Young scores under Adam are a few heaps of equal values; partitioning a heap takes longer than a sort.
    highest, lowest = inside == high, inside == low
    if k <= (top := int(np.count_nonzero(highest))):
        return high
    if k > inside.size - int(np.count_nonzero(lowest)):
        return low
    rest = inside[~(highest | lowest)]
    return kth_largest([rest], k - top) if rest.size < n else _kth_direct(rest, k - top)


def _bracket(arrays: Sequence[np.ndarray], k: int, n: int) -> tuple[float, float]:
    """Two values between which the k-th largest lies, up to a chance of about 1 in 10,000."""
    # A stride that divides the row length would see only some columns of a matrix; an odd one sees them all.
    stride = max(1, n // min(SMALL, max(1024, n // 64))) | 1
    sample = np.concatenate([a[::stride] for a in arrays])
    sample = -np.sort(-sample[~np.isnan(sample)])
    rank = k / n * sample.size
    margin = 4 * math.sqrt(max(1.0, rank * (1 - k / n))) + 4
    high = float(sample[int(rank - margin)]) if rank - margin >= 0 else math.inf
    low = float(sample[int(rank + margin)]) if rank + margin < sample.size else -math.inf
    return low, high


def _kth_direct(values: np.ndarray, k: int) -> float:
    if np.isnan(values).any():
        values = np.where(np.isnan(values), -np.inf, values)
    return float(np.partition(values, values.size - k)[values.size - k])


def keep_largest(tensors: Sequence[torch.Tensor], k: int) -> list[torch.Tensor]:
    """Marks exactly the k largest values; among equal ones the earlier tensor and the lower index are kept.

    Comparing with the threshold alone keeps none (``>``) or all (``>=``) of tied scores, and all scores are
    tied at the start of movement pruning. NumPy does the passes on the CPU: its comparisons are four times as
    fast as torch's.

    Args:
        tensors: flat float32 tensors on one device, n values in all.
        k: how many to keep, in [0, n].

    Returns:
        one bool tensor per input; k entries are True in all. NaN is kept only when fewer than k values are
        numbers.
    """
    n = sum(t.numel() for t in tensors)
    if k >= n:
        return [torch.ones_like(t, dtype=torch.bool) for t in tensors]
    if k <= 0:
        return [torch.zeros_like(t, dtype=torch.bool) for t in tensors]
    arrays = [t.detach().cpu().numpy() for t in tensors]
    threshold = kth_largest(arrays, k)
    masks = [a >= threshold for a in arrays]
    surplus = sum(int(np.count_nonzero(m)) for m in masks) - k
    if surplus:
        _settle_ties(arrays, masks, threshold, surplus)
    return [torch.from_numpy(m).to(t.device) for m, t in zip(masks, tensors, strict=True)]


def _settle_ties(arrays: list[np.ndarray], masks: list[np.ndarray], threshold: float, surplus: int) -> None:
    """Drops the last of the values equal to the threshold until the count is right, in place."""
    ties = [a == threshold for a in arrays]
    if surplus < 0:  # numbers are too few, so some NaN must be kept
        ties = [np.isnan(a) for a in arrays]
        for mask, tie in zip(masks, ties, strict=True):
            mask |= tie
            surplus += int(np.count_nonzero(tie))
    for mask, tie in zip(reversed(masks), reversed(ties), strict=True):
        where = np.flatnonzero(tie)
        drop = where[max(0, where.size - surplus) :]
        mask[drop] = False
        surplus -= drop.size
        if not surplus:
            return


class Selection(Part):
    """What every selection says of itself.

    Attributes:
        by_keep: whether the schedule moves the fraction kept.
        nested: whether it is made among the kept units alone, and only when the schedule has moved; what is
            cut stays cut, and is shown with the score -inf.
        explores: whether weights beyond the kept ones get gradients too; ``reach`` then names them.
    """

    by_keep: ClassVar[bool] = False
    nested: ClassVar[bool] = False
    explores: ClassVar[bool] = False

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and group."""
        raise TypeError(f"{type(self).__name__} chooses nothing.")

    def pick(
        self, scores: Sequence[torch.Tensor], value: float, groups: Sequence[Group], last: bool = True
    ) -> list[torch.Tensor]:
        """Returns the same for known groups; ``last`` says that the schedule has come to its end."""
        del last
        return self.choose(scores, value, [g.weights for g in groups])

    def reach(self, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor] | None:
        """Returns the units that get gradients, as ``choose`` does; None when they are the kept ones."""
        del scores, value
        return None


class KeepSelection(Selection):
    """A selection whose schedule moves the fraction kept."""

    by_keep: ClassVar[bool] = True

    def span(self, keep: float) -> tuple[float, float]:
        """Start and end of what the schedule moves: the fraction kept, from 1 to keep."""
        return 1.0, keep

    def keeps_all(self, value: float) -> bool:
        """Whether this value of the schedule keeps everything, whatever the scores."""
        return value >= 1


@dataclass(frozen=True)
class TopK(KeepSelection):
    """Keeps exactly floor(keep * n) units with the highest scores, per matrix (local) or over all of them
    (global); more only where that would leave a matrix with fewer than ``least``.
    """

    scope: str = knob(
        "local", "rank inside each matrix, or over all matrices at once", choices=("local", "global")
    )
    least: int = knob(
        0, "units of every matrix that stay, however small the keep", unit="units", low=0, high=1_000_000
    )

    title: ClassVar[str] = "top-k"

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and site.

        Args:
            scores: one flat tensor per site.
            value: fraction to keep, in [0, 1].
            costs: not looked at; every unit counts as one.
        """
        del costs
        safe = [min(self.least, s.numel()) for s in scores]
        if self.scope == "global":
            k = max(sum(safe), count_kept(value, sum(s.numel() for s in scores)))
            return keep_largest([_first(s, n) if n else s for s, n in zip(scores, safe, strict=True)], k)

        def one(s: torch.Tensor) -> torch.Tensor:
            return keep_largest([s], max(min(self.least, s.numel()), count_kept(value, s.numel())))[0]

        threads = torch.get_num_threads()
        if threads == 1 or sum(s.numel() for s in scores) < SHARED:
            return [one(s) for s in scores]
        with ThreadPoolExecutor(threads) as pool:  # NumPy's passes release the interpreter's lock
            return list(pool.map(one, scores))


def _first(scores: torch.Tensor, least: int) -> torch.Tensor:
    """The scores with the best ``least`` of them above all others."""
    return scores.masked_fill(keep_largest([scores], least)[0], math.inf)


@dataclass(frozen=True)
class SigmoidThreshold(Selection):
    """Keeps the units with sigma(S) > tau, and never fewer than a floor per matrix.

    tau = 0.1 is S > -2.1972; tau = 0 keeps everything. The floor int(min_keep * n) + 1 is the reference's;
    where equal scores straddle it the reference keeps none, here exactly the floor survives.
    """

    tau: float = knob(0.1, "final threshold on sigma(S)", low=0, high=1, open="both")
    min_keep: float = knob(0.005, "floor per matrix", unit="of its weights", low=0, high=1)

    title: ClassVar[str] = "sigmoid threshold"
    by_keep: ClassVar[bool] = False

    def span(self, keep: float) -> tuple[float, float]:
        """Start and end of what the schedule moves: tau, from 0 to its final value."""
        del keep
        return 0.0, self.tau

    def keeps_all(self, value: float) -> bool:
        """Whether this value of the schedule keeps everything, whatever the scores."""
        return value <= 0

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and site.

        Args:
            scores: one flat tensor per site.
            value: tau at this moment, in [0, 1).
            costs: not looked at.
        """
        del costs
        cut = math.log(value / (1 - value)) if value > 0 else -math.inf
        masks = []
        for s in scores:
            mask = s > cut if value > 0 else torch.ones_like(s, dtype=torch.bool)
            floor = int(self.min_keep * s.numel()) + 1 if self.min_keep else 0
            masks.append(mask if int(mask.count_nonzero()) >= floor else keep_largest([s], floor)[0])
        return masks


@dataclass(frozen=True)
class OpenGate(Selection):
    """Keeps the weights whose hard-concrete gate is open at evaluation: S > ln(-low / high) = -2.3979."""

    title: ClassVar[str] = "open gates"
    by_keep: ClassVar[bool] = False

    def span(self, keep: float) -> tuple[float, float]:
        """Nothing is moved by the schedule."""
        del keep
        return 1.0, 1.0

    def keeps_all(self, value: float) -> bool:
        """Never known without the scores."""
        del value
        return False

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and site."""
        del value, costs
        return [s > HardConcrete.closed_below for s in scores]


Select = TopK | SigmoidThreshold | OpenGate
