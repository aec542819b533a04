"""The moment of a pruner: put back after a look at other masks, or kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner


@dataclass(frozen=True)
class Moment:
    """Masks, count and scores of a moment."""

    masks: list[torch.Tensor]
    kept: int
    cut: float | None
    states: list[torch.Tensor | None]


def hold(pruner: Pruner) -> Moment:
    """The current masks, count and scores, to be put back after a look at other ones."""
    return Moment([m.clone() for m in _masks(pruner)], pruner.kept, pruner.cut, list(pruner.states))


def put_back(pruner: Pruner, moment: Moment) -> None:
    """Restores what ``hold`` returned; selecting anew instead would see scores that have moved since."""
    for mask, old in zip(_masks(pruner), moment.masks, strict=True):
        mask.copy_(old)
    pruner.kept, pruner.cut, pruner.states = moment.kept, moment.cut, list(moment.states)


def memory(pruner: Pruner) -> dict[str, Any]:
    """What a checkpoint must hold beside the model: masks and learned scores are part of that one."""
    score = pruner.lineup.score
    looks = score.on_demand or score.observes or score.watches
    own = [s if looks else None for s in pruner.states]
    return {"kept": pruner.kept, "cut": pruner.cut, "states": own}


def recall(pruner: Pruner, memory: Mapping[str, Any]) -> None:
    """Restores what ``memory`` returned."""
    pruner.kept, pruner.cut = memory["kept"], memory["cut"]
    for g, state in enumerate(memory["states"]):
        if state is not None:
            pruner.states[g] = state.to(pruner.sites[0].weight.device)


def _masks(pruner: Pruner) -> list[torch.Tensor]:
    reaches = [g.reach for g in pruner.gates if g.reach is not None]
    chosen = [s.chosen for s in pruner.shares if s is not None]
    biases = [b.mask for b in pruner.biases if b is not None]
    return [g.mask for g in pruner.gates] + biases + reaches + chosen
