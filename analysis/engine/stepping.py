"""What gates do around the optimizer's step: finish it for a stored parameter, or write zeros in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner


@torch.no_grad()
def before_step(pruner: Pruner) -> None:
    """Tells every gate that the optimizer is about to move its stored parameter."""
    for site, gate in zip(pruner.sites, pruner.gates, strict=True):
        gate.before_step(site.weight)


@torch.no_grad()
def after_step(pruner: Pruner, decay: float) -> None:
    """Lets every gate finish the optimizer's step.

    Args:
        pruner: the gates.
        decay: learning rate times weight decay, the share that a weight loses in this step, in [0, 1].
    """
    for site, gate in zip(pruner.sites, pruner.gates, strict=True):
        gate.after_step(site.weight, decay)


@torch.no_grad()
def settle(pruner: Pruner) -> None:
    """Writes zeros into the raw weights where the forward pass has no mask of its own while training."""
    if pruner.kept < pruner.total:
        for site, gate in zip(pruner.sites, pruner.gates, strict=True):
            if gate.in_place:
                site.weight.mul_(gate.mask)
