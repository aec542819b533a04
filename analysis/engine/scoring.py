"""Scores that look at gradients: measured on examples when units are chosen, or watching every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from analysis.parts.scores import Piece
from analysis.parts.units import Group, reduce

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner


def current(pruner: Pruner, g: int) -> torch.Tensor:
    """The scores of group g as its weights and its state are now, shape [units]."""
    group, state = pruner.groups[g], pruner.states[g]
    pieces = [
        Piece(pruner.weight(m.site).flatten(1), m.grid, pruner.sites[m.site].role)
        for m in group.members
        if m.ranks
    ]
    return pruner.lineup.score.of(pieces, state.detach() if state is not None else None)


def living(pruner: Pruner, g: int) -> torch.Tensor:
    """The same, -inf for units that an earlier stage, or a nested selection, has pruned."""
    scores = current(pruner, g)
    if pruner.lineup.select.nested:
        scores = scores.masked_fill(~alive(pruner, pruner.groups[g]), -torch.inf)
    if not pruner.held:
        return scores
    m = next(m for m in pruner.groups[g].members if m.ranks)
    left = reduce(pruner.held[m.site].flatten(1).float(), m.grid)
    return scores.masked_fill(left == 0, -torch.inf)


def measured(pruner: Pruner) -> list[torch.Tensor]:
    """Computes the scores of all groups now; -inf for units that are cut, whose last score is kept."""
    weights = [s.weight for s in pruner.sites]
    passes = pruner.lineup.score.passes()
    slopes, bends = pruner.measure(weights, passes) if pruner.measure and passes else (None, None)
    found = []
    for g, group in enumerate(pruner.groups):
        pieces = [
            Piece(
                weights[m.site].detach().flatten(1),
                m.grid,
                pruner.sites[m.site].role,
                pruner.start[m.site].to(weights[m.site].device).flatten(1) if pruner.start else None,
                slopes[m.site].flatten(1) if slopes else None,
                bends[m.site].flatten(1) if bends else None,
            )
            for m in group.members
        ]
        now, before, left = pruner.lineup.score.measure(pieces), pruner.states[g], alive(pruner, group)
        # New tensors, so that what ``hold`` has returned stays as it was.
        pruner.states[g] = now if before is None else torch.where(left, now, before)
        found.append(now.masked_fill(~left, -torch.inf))
    return found


def alive(pruner: Pruner, group: Group) -> torch.Tensor:
    """Which units of a group the masks keep, shape [units]."""
    member = next(m for m in group.members if m.ranks)
    return reduce(pruner.gates[member.site].mask.flatten(1), member.grid) > 0


@torch.no_grad()
def observe(pruner: Pruner, rate: float, step: int) -> None:
    """Shows a score that watches every step the weights and their clipped gradients.

    Args:
        pruner: sites, gates and the score's states.
        rate: learning rate of the weights at this step.
        step: number of the step, from 0.
    """
    for group, state in zip(pruner.groups, pruner.states, strict=True):
        pieces = []
        for m in (m for m in group.members if m.ranks):
            weight = pruner.sites[m.site].weight
            slope = weight.grad if weight.grad is not None else torch.zeros_like(weight)
            role = pruner.sites[m.site].role
            pieces.append(Piece(weight.detach().flatten(1), m.grid, role, gradient=slope.detach().flatten(1)))
        assert state is not None
        pruner.lineup.score.observe(state, pieces, rate, step)
