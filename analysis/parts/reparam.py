"""Reparameterisations: from the raw weight to the effective weight the model computes with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.units import Shape

if TYPE_CHECKING:
    from analysis.parts.concrete_gate import HardConcreteGate
    from analysis.parts.gates import MaskGate


class Bare(Part):
    """What every reparameterisation does with a site that no unit reaches into."""

    def bare(self, site: Shape, shape: torch.Size, keep: float) -> MaskGate:
        """Returns the parametrization module of a site without units, whose mask is there to be drawn.

        Args:
            site: what units know of it.
            shape: shape of its weight.
            keep: fraction of its parameters that the run asks for, in (0, 1].
        """
        from analysis.parts.gates import MaskGate

        del site, keep
        return MaskGate(None, shape, (1, 1))


@dataclass(frozen=True)
class Masked(Bare):
    """W' = M * W; the gradient of the scores passes straight through the mask: dL/dS = G * W, dL/dW =
    G * M.
    """

    title: ClassVar[str] = "binary mask"
    masks_biases: ClassVar[bool] = False
    holds: ClassVar[bool] = True  # what is masked stays zero in a later stage

    def gate(self, scores: torch.nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]) -> MaskGate:
        """Returns the parametrization module of one site; scores None means that they are not learned."""
        from analysis.parts.gates import MaskGate

        return MaskGate(scores, shape, grid)


@dataclass(frozen=True)
class MaskedRows(Masked):
    """The binary mask, and with it the bias of every row that has no weight left: b' = b * (row has any 1).

    A dead row then computes 0 instead of its bias, so that it can be removed without folding.
    """

    title: ClassVar[str] = "binary mask, biases of empty rows too"
    masks_biases: ClassVar[bool] = True


def signed_power(raw: torch.Tensor, alpha: float) -> torch.Tensor:
    """The signed power W = sign(theta) * |theta|**alpha.

    Args:
        raw: stored parameter theta, any shape.
        alpha: power, >= 1.

    Returns:
        W, same shape; 0 stays 0.
    """
    return raw.abs().pow_(alpha).copysign_(raw)


def signed_root(weight: torch.Tensor, alpha: float) -> torch.Tensor:
    """The inverse of ``signed_power``: theta = sign(W) * |W|**(1 / alpha), same shape."""
    return weight.abs().pow_(1 / alpha).copysign_(weight)


def power_slope(raw: torch.Tensor, alpha: float) -> torch.Tensor:
    """The derivative dW/dtheta = alpha * |theta|**(alpha - 1), same shape.

    Written out because autograd on theta * |theta|**(alpha - 1) gives NaN at 0 for 1 < alpha < 2.
    """
    return raw.abs().pow_(alpha - 1).mul_(alpha)


def power_pace(weight: torch.Tensor, alpha: float) -> torch.Tensor:
    """How much faster than without the power W moves under gradient descent: p = (alpha * |W|**(1 - 1 /
    alpha))**2.

    It is 1 at |W| = alpha**(-alpha / (alpha - 1)) and below 1 for smaller weights.

    Args:
        weight: W, any shape.
        alpha: power, >= 1.

    Returns:
        p, same shape.
    """
    return weight.abs().pow_(1 - 1 / alpha).mul_(alpha).square_()


def power_step(
    before: torch.Tensor,
    after: torch.Tensor,
    alpha: float,
    *,
    raw_moments: bool = True,
    factor: float = 1.0,
    decay: float = 0.0,
) -> torch.Tensor:
    """Finishes an optimizer's step: theta <- (1 - decay / alpha) * theta + factor * slope * step.

    Args:
        before: theta before the step, any shape.
        after: what the optimizer made of it, without weight decay.
        alpha: power, >= 1.
        raw_moments: True when the optimizer saw dL/dW, so that the slope alpha * |theta|**(alpha - 1) is
            still to be multiplied; False when it saw dL/dtheta, and the slope counts as 1.
        factor: correction of the learning rate, > 0.
        decay: share that the weight decay takes from W in this step, in [0, 1].

    Returns:
        theta after the step, same shape.
    """
    step = (after - before).mul_(factor)
    if raw_moments:
        step.mul_(power_slope(before, alpha))
    return step.add_(before, alpha=1 - decay / alpha)


@dataclass(frozen=True)
class SignedPower(Masked):
    """W' = M * sign(theta) * |theta|**alpha: every weight is a signed power of a stored parameter theta.

    dL/dtheta = dL/dW * alpha * |theta|**(alpha - 1), so large weights learn fast and small ones hardly, and 0
    stays 0. The mask comes after the power: zeroing theta itself would rule out any return. Weight decay is
    divided by alpha on theta, so that it takes from W what it would without the power.
    Source: Schwarz, Jayakumar, Pascanu, Latham, Teh 2021.
    """

    alpha: float = knob(2.0, "power of the stored parameter; 1 is the plain mask", low=1, high=5)
    raw_moments: bool = knob(
        True,
        "the optimizer sees dL/dW and its step is multiplied by the slope, so that Adam cannot divide it out",
    )
    lr_limit: float = knob(
        10.0,
        "most by which the learning rate of a matrix is raised to undo its mean slow-down; 1 is off",
        low=1,
        high=100,
    )

    title: ClassVar[str] = "signed power, then binary mask"

    def gate(self, scores: torch.nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]) -> MaskGate:
        """Returns the parametrization module of one site; the plain mask for the power 1."""
        from analysis.parts.gates import PowerGate

        if self.alpha == 1:
            return super().gate(scores, shape, grid)
        return PowerGate(scores, shape, grid, self)

    def factor(self, weight: torch.Tensor) -> float:
        """The correction of the learning rate of one matrix: 1 / mean p(W), in [1 / lr_limit, lr_limit].

        An optimizer that divides by the size of its gradient has undone one of the two slopes in p, so the
        root of p counts when it sees dL/dtheta.

        Args:
            weight: W at the start, any shape.

        Returns:
            a positive factor; 1 when W moves as fast as without the power.
        """
        pace = power_pace(weight, self.alpha)
        mean = float((pace if self.raw_moments else pace.sqrt_()).mean())
        return min(self.lr_limit, max(1 / self.lr_limit, 1 / mean if mean > 0 else math.inf))


@dataclass(frozen=True)
class Zeroed(Masked):
    """W' = W while training: pruned weights are set to zero when the mask is applied, and move in between.

    Evaluation, snapshots of a teacher and export see M * W, so that the sparsity they report is there.
    """

    title: ClassVar[str] = "zero in place, free in between"

    def gate(self, scores: torch.nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]) -> MaskGate:
        """Returns the parametrization module of one site."""
        from analysis.parts.gates import ZeroGate

        return ZeroGate(scores, shape, grid)


@dataclass(frozen=True)
class HardConcrete(Bare):
    """W' = gate * W with a stochastic gate in [0, 1] while training and its deterministic form at evaluation.

    Training: gate = clip(s * (high - low) + low, 0, 1), s = sigma((ln u - ln(1 - u) + S) / temperature), u
    uniform.
    Evaluation: gate = clip(sigma(S) * (high - low) + low, 0, 1). Source: Louizos, Welling, Kingma 2018.
    """

    low: ClassVar[float] = -0.1
    high: ClassVar[float] = 1.1
    temperature: ClassVar[float] = 2 / 3
    closed_below: ClassVar[float] = math.log(0.1 / 1.1)
    masks_biases: ClassVar[bool] = False
    holds: ClassVar[bool] = False
    title: ClassVar[str] = "hard-concrete gate"

    def gate(
        self, scores: torch.nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]
    ) -> HardConcreteGate:
        """Returns the parametrization module of one site."""
        from analysis.parts.concrete_gate import HardConcreteGate

        assert scores is not None
        return HardConcreteGate(scores, shape, grid)


Reparam = Masked | MaskedRows | Zeroed | SignedPower | HardConcrete
