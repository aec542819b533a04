"""How much every group keeps, where that is learned: attaching, training, choosing by it, and reporting."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from analysis.engine.sites import Site
from analysis.parts.gates import BiasGate, Gate
from analysis.parts.learned import Budget, LearnedKeep, expected_share
from analysis.parts.shares import Share, VotingBiasGate
from analysis.parts.units import Group, Shape, Window

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner


def shapes_left(sites: Sequence[Site], held: Sequence[torch.Tensor]) -> list[Shape]:
    """What units need to know of the sites, with the rows and columns that an earlier stage has left.

    Args:
        sites: the prunable weights.
        held: what that stage kept, bool, one per site; empty without one.
    """
    shapes = [s.shape for s in sites]
    found = []
    for shape, mask in zip(shapes, held, strict=False):
        rows, cols = (mask.flatten(1).any(d).nonzero().flatten().tolist() for d in (1, 0))
        whole = len(rows) == shape.rows and len(cols) == shape.cols
        found.append(dataclasses.replace(shape, left=None if whole else (tuple(rows), tuple(cols))))
    return found or shapes


def share_of(select: object, group: Group, device: torch.device) -> Share | None:
    """What a group learns of how much it keeps; None where the selection is told."""
    if not isinstance(select, LearnedKeep):
        return None
    return Share(select.start, group.units, select.rule == "consistent").to(device)


def bias_gate(bias: torch.Tensor, gate: Gate, reparam: Any) -> BiasGate:
    """The gate of a bias: it votes where the reparam says so and its rows are, or share, whole units."""
    scores, grid = getattr(gate, "scores", None), getattr(gate, "grid", (0, 0))
    votes = getattr(reparam, "biases_vote", False)
    if votes and isinstance(scores, nn.Parameter) and grid[1] == 1 and not isinstance(grid, Window):
        return VotingBiasGate(len(bias), scores, getattr(gate, "share", None)).to(bias.device)
    return BiasGate(len(bias)).to(bias.device)


def choose(pruner: Pruner, scores: Sequence[torch.Tensor], value: float) -> list[torch.Tensor]:
    """The units that stay, one bool per unit and group.

    Args:
        pruner: groups, shares and the selection.
        scores: one flat tensor per group.
        value: what the schedule says.
    """
    select = pruner.lineup.select
    if isinstance(select, LearnedKeep):
        thetas = [float(t.detach()) for t in thetas_of(pruner)]
        return select.choose_by(scores, thetas, [g.multiple for g in pruner.groups])
    last = value == select.span(pruner.keep)[1]
    return select.pick(scores, value, pruner.groups, last)


def thetas_of(pruner: Pruner) -> list[nn.Parameter]:
    """The logits that the optimizer trains, one per group; none where shares are not learned."""
    return [s.theta for s in pruner.shares if s is not None]


def train(optimizer: torch.optim.Optimizer, select: object, pruner: Pruner, rate: float) -> None:
    """Adds the learned shares to an optimizer, as scores with a learning rate of their own.

    Args:
        optimizer: what the optimizer part built.
        select: the selection; nothing happens where it learns no shares.
        pruner: whose shares are meant.
        rate: peak learning rate of the scores.
    """
    if isinstance(select, LearnedKeep):
        lr = rate * select.pace
        group = {"params": thetas_of(pruner), "lr": lr, "peak": lr, "weight_decay": 0.0}
        optimizer.add_param_group({**group, "scores": True, "matrices": False})


def budget(pruner: Pruner) -> Budget | None:
    """What a penalty on the number of kept weights looks at; None where shares are not learned.

    The target counts against what an earlier stage has left: a run that keeps 0.2 in all asks its second
    stage for 0.4 of the half that its first one kept.
    """
    thetas = thetas_of(pruner)
    if not thetas:
        return None
    open_ = [int(m.count_nonzero()) for m in pruner.held] or [g.mask.numel() for g in pruner.gates]
    reach = [
        tuple(g for g, group in enumerate(pruner.groups) if any(m.site == i for m in group.members))
        for i in range(len(pruner.sites))
    ]
    sites = list(zip(open_, reach, strict=True))
    target = pruner.keep * pruner.total / max(1, pruner.open)
    return Budget(thetas, [g.units for g in pruner.groups], sites, target)


@torch.no_grad()
def told(pruner: Pruner) -> dict[str, Any]:
    """What a report says of learned shares; empty where there are none.

    Returns:
        expected, the share of all prunable weights that the shares alone would keep; shares, sigma(theta) of
        every group in order. What is really kept is counted in whole units and may differ.
    """
    found = budget(pruner)
    if found is None:
        return {}
    whole = float(expected_share(found)) * pruner.open / pruner.total
    return {"expected": whole, "shares": [float(torch.sigmoid(t)) for t in found.thetas]}
