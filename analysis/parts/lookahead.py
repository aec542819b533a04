"""Look-ahead: the point at which the gradient of a step is evaluated.

One step with K workers, each with its own part of the batch, a step length g and a look-ahead length h::

    x_k = x - h * zeta_k                              every trained tensor, scores too
    x  <- step of the optimizer from x, with the mean over k of grad f_k(x_k)

Without a look-ahead h is 0. The sources differ in zeta alone, so that the loop has one place for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.optim import LARS, SGD, AdamW, Optimizer

ADAM = ("past_adam", "extra_adam", "preview_adam")
TWICE = ("local", "global", "extra_adam", "preview_adam")  # these need a gradient at x as well
SOURCES = ("local", "global", "past", "past_avg", "gauss", "uniform", "nesterov", *ADAM)


@dataclass(frozen=True)
class Extrapolation(Part):
    """Evaluates the gradient at x - h * zeta and applies it from x, with h = ratio * learning rate.

    zeta is, by source: ``local`` a worker's gradient at x on other examples; ``global`` the gradient of the
    whole batch at x; ``past`` a worker's last gradient; ``past_avg`` the last gradient of the batch;
    ``gauss`` and ``uniform`` noise; ``past_adam`` Adam's last direction, ``preview_adam`` the direction it
    would take now, ``extra_adam`` that direction with the moments kept, so that they move twice a step.
    ``nesterov`` looks ahead along the momentum, h * zeta = lr * u * v, whatever the ratio.
    Source: Lin, Kong, Stich, Jaggi 2020, arXiv:2006.05720; extra_adam after Gidel et al. 2019,
    arXiv:1802.10551; past_adam and preview_adam are ours.
    """

    source: str = knob("past_adam", "direction of the look-ahead", choices=SOURCES)
    rule: str = knob(
        "1/K",
        "ratio of the look-ahead to the learning rate: one over the workers (rho when there is one), or rho",
        choices=("1/K", "rho"),
    )
    rho: float = knob(0.1, "that ratio where the rule names it; 0 is no look-ahead", low=0, high=1)
    workers: int = knob(
        1, "workers K that share a batch, simulated one after the other", unit="workers", low=1, high=65536
    )
    sigma: float = knob(1.0, "standard deviation of the noise", low=0, high=1e6, log=True)
    extrap_scale: str = knob(
        "plain", "lars: scale the look-ahead of a matrix by LARS's ratio too", choices=("plain", "lars")
    )

    title: ClassVar[str] = "extrapolation"

    @property
    def ratio(self) -> float:
        """Look-ahead length over learning rate, in [0, 1]; one schedule moves both."""
        return 1 / self.workers if self.rule == "1/K" and self.workers > 1 else self.rho

    @property
    def evaluations(self) -> int:
        """Gradients per example and step: 2 where the direction needs a gradient of its own, else 1."""
        return 2 if self.ratio and self.source in TWICE else 1

    def check(self, optimizer: Optimizer) -> None:
        """Refuses an optimizer that has not what the source looks along.

        Raises:
            SpecError: the source reads moments or a momentum, or the scale a ratio, that is not there.
        """
        kind = type(optimizer).__name__
        if self.source in ADAM and not isinstance(optimizer, AdamW):
            fit = ", ".join(s for s in SOURCES if s not in ADAM)
            raise SpecError(
                f"lookahead.source is {self.source!r}, which reads the moments of AdamW, but the optimizer "
                f"is {kind}; choose one of {fit}, or optimizer.type=AdamW."
            )
        heavy = isinstance(optimizer, LARS) or (isinstance(optimizer, SGD) and not optimizer.nesterov)
        if self.source == "nesterov" and not (heavy and optimizer.momentum):  # type: ignore[union-attr]
            raise SpecError(
                f"lookahead.source is 'nesterov', which looks along a momentum, but the optimizer is {kind} "
                "without a plain one; choose SGD with nesterov=false or LARS, momentum above 0, or another "
                "source."
            )
        if self.extrap_scale == "lars" and not isinstance(optimizer, LARS):
            raise SpecError(
                f"lookahead.extrap_scale is 'lars', but the optimizer is {kind}, which has no such ratio; "
                "choose plain, or optimizer.type=LARS."
            )


def adam_direction(
    first: torch.Tensor, second: torch.Tensor, step: float, betas: tuple[float, float], eps: float
) -> torch.Tensor:
    """Adam's direction m_hat / (sqrt(v_hat) + eps) from its moments.

    Args:
        first: m, mean of gradients, any shape.
        second: v, mean of squared gradients, same shape.
        step: number of gradients in them, at least 1.
        betas: decay of both, each in [0, 1).
        eps: keeps the quotient finite, above 0.

    Returns:
        the direction, same shape; about 1 in size where gradients agree.
    """
    m = first / (1 - betas[0] ** step)
    return m / ((second / (1 - betas[1] ** step)).sqrt() + eps)


def noise(like: torch.Tensor, kind: str, sigma: float) -> torch.Tensor:
    """Independent noise of mean 0 and standard deviation sigma, from torch's own generator.

    Args:
        like: gives shape, type and device.
        kind: "gauss", or "uniform" on [-sqrt(3) sigma, sqrt(3) sigma].
        sigma: standard deviation, at least 0.
    """
    if kind == "gauss":
        return torch.randn_like(like) * sigma
    return (2 * torch.rand_like(like) - 1) * (math.sqrt(3) * sigma)
