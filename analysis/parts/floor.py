"""Selection over all layers at once: one cut through all scores, or a budget with a safe share per layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.select import KeepSelection, count_kept, keep_largest, kth_largest


def protected(scores: Sequence[torch.Tensor], floor: float, keep: float) -> list[torch.Tensor]:
    """Marks the units of every group that the ranking may not touch: its best ones, at least one.

    Below a keep as small as the floor the floor gives way, so that the budget is met exactly; where the
    budget has no room for one unit a group, none is promised.

    Args:
        scores: one flat tensor per group.
        floor: share of each group that is safe, in [0, 1].
        keep: fraction kept in all, in [0, 1].

    Returns:
        one bool per unit and group.
    """
    budget = count_kept(keep, sum(s.numel() for s in scores))
    counts = [count_kept(min(floor, keep), s.numel()) for s in scores]
    one_each = [max(1, c) for c in counts]
    if floor > 0 and sum(one_each) <= budget:
        counts = one_each
    return [keep_largest([s], c)[0] for s, c in zip(scores, counts, strict=True)]


def strictly_below(scores: Sequence[torch.Tensor], keep: float) -> list[torch.Tensor]:
    """The rule of the reference: prune what lies strictly below the k-th smallest score.

    k = floor(n (1 - keep)). Without ties n - k + 1 units stay, one more than asked; ties at the cut all stay,
    and k = 0 prunes nothing.

    Args:
        scores: one flat tensor per group, n values in all.
        keep: fraction to keep, in [0, 1].

    Returns:
        one bool per unit and group.
    """
    n = sum(s.numel() for s in scores)
    k = math.floor(n * (1 - keep) + 1e-9 * max(1, n) ** 0.5)
    if k < 1:
        return [torch.ones_like(s, dtype=torch.bool) for s in scores]
    cut = kth_largest([s.detach().cpu().numpy() for s in scores], n - k + 1)
    return [s >= cut for s in scores]


@dataclass(frozen=True)
class GlobalCut(KeepSelection):
    """One cut through the scores of all groups.

    The rule exact keeps exactly floor(keep * n) units, ties to the lower index; faithful prunes strictly
    below the k-th smallest score, as the reference does. Source: Ren and Zhu 2023, arXiv:2305.12394.
    """

    rule: str = knob("exact", "exact count, or the threshold of the reference", choices=("exact", "faithful"))

    title: ClassVar[str] = "one cut through all layers"

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and group.

        Args:
            scores: one flat tensor per group.
            value: fraction to keep, in [0, 1].
            costs: not looked at; every unit counts as one.
        """
        del costs
        if self.rule == "faithful":
            return strictly_below(scores, value)
        return keep_largest(scores, count_kept(value, sum(s.numel() for s in scores)))


def fill(order: Sequence[int], costs: Sequence[int], budget: int) -> list[int]:
    """Takes units in the given order while they fit into the budget; one that does not fit is passed over.

    Args:
        order: units, best first.
        costs: weights of each unit.
        budget: weights that may stay.

    Returns:
        the units taken; what is left of the budget is less than the smallest unit passed over.
    """
    taken, least = [], min(costs, default=0)
    for unit in order:
        if costs[unit] <= budget:
            taken.append(unit)
            budget -= costs[unit]
        elif budget < least:
            break
    return taken


@dataclass(frozen=True)
class GlobalWithFloor(KeepSelection):
    """Ranks the units of all groups together and keeps the best, as many as the budget of weights allows.

    With units of one size exactly floor(keep * n) are kept. With units of several sizes they are taken from
    the best downwards while they fit into keep times all weights; a unit too large for what is left is passed
    over, so that less than the largest unit of the budget stays unused. Scores are compared as they are,
    without normalisation; the floor keeps the ranking from emptying a layer.
    Source: Lubana and Dick 2021, whose code protects units by their index instead.
    """

    floor: float = knob(0.05, "share of each layer's units that is safe, best first", low=0, high=1)

    title: ClassVar[str] = "all layers at once, with a floor per layer"

    def choose(
        self, scores: Sequence[torch.Tensor], value: float, costs: Sequence[int] = ()
    ) -> list[torch.Tensor]:
        """Returns one bool per unit and group.

        Args:
            scores: one flat tensor per group; -inf for a unit that is out of the question.
            value: fraction to keep, in [0, 1].
            costs: weights of one unit, one number per group; empty where every unit counts as one.
        """
        safe = protected(scores, self.floor, value)
        sizes = [s.numel() for s in scores]
        if len(set(costs)) <= 1:
            lifted = [
                s.masked_fill(p & (s > -torch.inf), torch.inf) for s, p in zip(scores, safe, strict=True)
            ]
            return keep_largest(lifted, count_kept(value, sum(sizes)))
        # torch counts NaN as the largest number; units are few where their sizes differ, so a sort will do.
        ranked = torch.cat(list(scores)).nan_to_num(nan=torch.finfo(scores[0].dtype).min, neginf=-torch.inf)
        order = torch.sort(ranked, descending=True, stable=True).indices
        order = order[torch.sort((~torch.cat(safe)[order]).int(), stable=True).indices]
        order = order[ranked[order] > -torch.inf]  # what is left of the budget must not revive a small unit
        cost = [c for n, c in zip(sizes, costs, strict=True) for _ in range(n)]
        kept = torch.zeros(len(cost), dtype=torch.bool)
        kept[fill(order.tolist(), cost, count_kept(value, sum(cost)))] = True
        return [k.to(s.device) for k, s in zip(kept.split(sizes), scores, strict=True)]
