"""LARS as a torch optimizer (imports torch at once)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from analysis.parts.optim import trust_ratio


class Lars(torch.optim.Optimizer):
    """v <- u v + lr * ratio * (g + decay * w), w <- w - v, the ratio from ``trust_ratio``.

    The learning rate stands inside the buffer, unlike in torch's SGD: when the rate falls, what was gathered
    at the higher rate still counts in full.

    Args:
        params: groups of parameters; those with a true ``matrices`` are scaled, all others have ratio 1.
        lr: learning rate, above 0.
        momentum: u, in [0, 1).
        trust: eta of the ratio, in (0, 1].
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float, trust: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step; tensors without a gradient stay where they are."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        pull = gradient.add(weight, alpha=decay)
        if group["matrices"]:
            pull *= trust_ratio(weight, gradient, group["trust"], decay)
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        carried: torch.Tensor = state["momentum_buffer"]
        carried.mul_(group["momentum"]).add_(pull, alpha=group["lr"])
        weight.sub_(carried)
