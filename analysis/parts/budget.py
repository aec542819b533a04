"""Selection by a budget of parameters over units of several kinds, where an empty head loses its rest too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.select import KeepSelection, count_kept
from analysis.parts.units import Group


def density(kept: Sequence[float], groups: Sequence[Group]) -> float:
    """Share of the prunable parameters, biases included, that is left.

    Args:
        kept: units left, one number per group.
        groups: the groups with their costs.

    Returns:
        a number in [0, 1].
    """
    left = sum(k * g.cost for k, g in zip(kept, groups, strict=True))
    return left / sum(g.units * g.cost for g in groups)


@dataclass(frozen=True)
class Heads:
    """Heads whose query-key dimensions go when their last value dimension has gone.

    Attributes:
        of: number of the head of every unit that is a value dimension, -1 elsewhere, shape [units].
        inner: query-key dimensions of each head, as numbers of units.
    """

    of: np.ndarray
    inner: list[np.ndarray]


def heads_of(groups: Sequence[Group]) -> Heads:
    """Finds the heads of layers that have both kinds of dimensions; units are numbered through all groups."""
    starts = np.cumsum([0, *(g.units for g in groups)])
    place = {(g.kind, g.layer): (int(start), g) for g, start in zip(groups, starts, strict=False)}
    of = np.full(int(starts[-1]), -1)
    inner: list[np.ndarray] = []
    for (kind, layer), (start, group) in place.items():
        if kind != "value dims" or ("query-key dims", layer) not in place or not group.heads:
            continue
        first, other = place["query-key dims", layer]
        for head in range(group.heads):
            size, own = group.units // group.heads, other.units // group.heads
            of[start + head * size : start + (head + 1) * size] = len(inner)
            inner.append(np.arange(first + head * own, first + (head + 1) * own))
    return Heads(of, inner)


def prefix(scores: np.ndarray, costs: np.ndarray, keep: float, heads: Heads, last: bool = True) -> np.ndarray:
    """The rule of the reference: prune the lowest scores while they cost strictly less than 1 - keep.

    Then every head without a value dimension loses its query-key dimensions, beyond the budget.

    Args:
        scores: shape [units], -inf for what is pruned already.
        costs: parameters of each unit, shape [units].
        keep: share of all parameters to keep, in [0, 1].
        heads: which units make up a head.
        last: not looked at.

    Returns:
        bool, shape [units], True for what goes.
    """
    del last
    order = _ascending(scores)
    budget = (1 - keep) * costs.sum()
    gone = np.isneginf(scores)
    # The product above is a rounding error off where it should be a whole number.
    gone[order[np.cumsum(costs[order]) < budget - 1e-9 * costs.sum()]] = True
    return _close(gone, heads)


def within(scores: np.ndarray, costs: np.ndarray, keep: float, heads: Heads, last: bool = True) -> np.ndarray:
    """The same with the budget met: prune from the lowest score until no more than keep of all is left.

    The last value dimension of a head counts with the query-key dimensions that go with it. Where this would
    cut more than a unit too deep, nothing more goes until the schedule has room for it: passing it over
    would let heads live on with one dimension each. At the last cut it is passed over, so that the budget is
    met to within a unit.

    Args:
        scores: shape [units], -inf for what is pruned already.
        costs: parameters of each unit, shape [units].
        keep: share of all parameters to keep, in [0, 1].
        heads: which units make up a head.
        last: whether no further cut follows.

    Returns:
        bool, shape [units], True for what goes.
    """
    total, largest = int(costs.sum()), int(costs.max())
    target = total - count_kept(keep, total)
    gone = _close(np.isneginf(scores), heads)
    spent = int(costs[gone].sum())
    left = np.bincount(heads.of[(heads.of >= 0) & ~gone], minlength=len(heads.inner))
    order = _ascending(scores)
    for careful in (True, False):
        for unit in order[~gone[order]]:
            if spent >= target:
                return gone
            if gone[unit]:
                continue
            own, head = [unit], heads.of[unit]
            if head >= 0 and left[head] == 1:
                own += [u for u in heads.inner[head] if not gone[u]]
            cost = int(costs[own].sum())
            if careful and spent + cost >= target + largest:
                if not last:
                    return gone
                continue
            gone[own] = True
            spent += cost
            if head >= 0:
                left[head] -= 1
    return gone


def _ascending(scores: np.ndarray) -> np.ndarray:
    """Units from the lowest score; among equal ones the later goes first, as in every other selection."""
    return np.lexsort((-np.arange(scores.size), scores))


def _close(gone: np.ndarray, heads: Heads) -> np.ndarray:
    for head, inner in enumerate(heads.inner):
        if gone[heads.of == head].all():
            gone[inner] = True
    return gone


@dataclass(frozen=True)
class ParameterBudget(KeepSelection):
    """Prunes the lowest scores of all units together until a share of the parameters is left; none returns.

    A unit costs its weights and biases. A head whose value dimensions are all gone loses its query-key
    dimensions too: within the budget, or beyond it as in the reference, whose density then is below the
    asked one. Source: Yang, Cui, Yao, Wang 2023, arXiv:2212.07634.
    """

    closure_in_budget: bool = knob(
        True, "count what an emptied head takes with it; false cuts it beyond the budget, as the reference"
    )

    title: ClassVar[str] = "all units at once, by a budget of parameters"
    nested: ClassVar[bool] = True

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and group, for units that make up no heads.

        Args:
            scores: one flat tensor per group; -inf for what is pruned already.
            value: share of all parameters to keep, in [0, 1].
            costs: parameters of one unit, one number per group; empty where every unit counts as one.
        """
        sizes = [s.numel() for s in scores]
        return self._kept(scores, value, costs or [1] * len(sizes), Heads(np.full(sum(sizes), -1), []))

    def pick(
        self, scores: Sequence[torch.Tensor], value: float, groups: Sequence[Group], last: bool = True
    ) -> list[torch.Tensor]:
        """Returns the same for units of known groups; before the last cut a head that is too large waits."""
        return self._kept(scores, value, [g.cost for g in groups], heads_of(groups), last)

    def _kept(
        self,
        scores: Sequence[torch.Tensor],
        value: float,
        costs: Sequence[int],
        heads: Heads,
        last: bool = True,
    ) -> list[torch.Tensor]:
        sizes = [s.numel() for s in scores]
        flat = np.concatenate([s.detach().cpu().numpy() for s in scores]).astype(np.float64)
        flat[np.isnan(flat)] = np.finfo(np.float64).min  # known to be worth nothing, and still not cut
        rule = within if self.closure_in_budget else prefix
        kept = torch.from_numpy(~rule(flat, np.repeat(np.array(costs), sizes), value, heads, last))
        return [k.to(s.device) for k, s in zip(kept.split(sizes), scores, strict=True)]
