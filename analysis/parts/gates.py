"""The modules that ``torch.nn.utils.parametrize`` puts between a raw weight and the model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from analysis.errors import SpecError
from analysis.parts.reparam import (
    SignedPower,
    power_slope,
    power_step,
    signed_power,
    signed_root,
)
from analysis.parts.units import reduce


class StraightThrough(torch.autograd.Function):
    """W' = M * W with dL/dW = G * M and dL/dS = the sum of G * W over each unit, where G = dL/dW' is dense.

    Where the gradient shall reach further than the forward pass, dL/dW = G * R with a second mask R.
    Multiplying ``weight.grad`` by the weight instead would be wrong: that gradient already contains the mask,
    so a pruned weight could never come back.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        scores: torch.Tensor | None,
        mask: torch.Tensor,
        grid: tuple[int, int],
        reach: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the masked weight: weight and masks have one shape, scores are one per unit of the grid."""
        ctx.save_for_backward(weight, mask if reach is None else reach)
        ctx.grid = grid
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns the gradients of weight, scores, mask, grid and reach."""
        (gradient,) = gradients
        weight, reach = ctx.saved_tensors
        to_scores = reduce((gradient * weight).flatten(1), ctx.grid) if ctx.needs_input_grad[1] else None
        # Not in place: behind a matrix product nobody else holds the gradient, behind a sum others may.
        to_weight = gradient * reach if ctx.needs_input_grad[0] else None
        return to_weight, to_scores, None, None, None


class Gate(nn.Module):
    """What the pruner may ask of the parametrization of a weight; by default it changes nothing.

    Attributes:
        mask: 1.0 where a weight is kept, shape of the weight.
        reach: 1.0 where a weight gets gradients, when that is more than the mask; None when it is the mask.
        decays: whether ``after_step`` applies the weight decay, so that the optimizer must not.
        rank: columns of the first of two factors that are stored for the weight; 0 where it is dense.
    """

    rank: int = 0
    mask: torch.Tensor
    reach: torch.Tensor | None
    decays: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reach", None)

    def effective(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns the dense weight W that the stored parameter stands for, before any mask, same shape."""
        return raw

    def before_step(self, raw: torch.Tensor) -> None:
        """Called without gradients just before the optimizer moves the stored parameter."""
        del raw

    def after_step(self, raw: torch.Tensor, decay: float) -> None:
        """Called without gradients just after it; may rewrite the stored parameter in place.

        Args:
            raw: the stored parameter as the optimizer left it.
            decay: share that the weight decay takes from a weight in this step, in [0, 1].
        """
        del raw, decay


class MaskGate(Gate):
    """Multiplies a weight by a mask that the pruner rewrites once per optimizer step.

    Args:
        scores: learned scores of the units, shape [units], shared by the gates of all sites that the units
            reach into; None when they are not learned.
        shape: shape of the weight.
        grid: pieces of rows and of columns that the units cut the weight into.
    """

    in_place: bool = False

    def __init__(self, scores: nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]) -> None:
        super().__init__()
        self.scores = scores
        self.grid = grid
        # The mask has the weight's dtype: a bool operand would be converted inside every product.
        self.register_buffer("mask", torch.ones(shape))
        self.share: nn.Module | None = None  # hands the scores' gradient on to a learned share too
        self.held: torch.Tensor | None = None

    def widen(self) -> None:
        """Gives the gradient a mask of its own, at first all ones."""
        self.reach = torch.ones_like(self.mask)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns M * W, same shape as the stored parameter."""
        weight = self.effective(raw)
        scores = self.scores if self.share is None else self.share(self.scores)
        if scores is None and self.reach is None:
            return weight * self.mask
        result: torch.Tensor = StraightThrough.apply(weight, scores, self.mask, self.grid, self.reach)
        return result

    def final(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns the weight that is exported: exact zeros where pruned."""
        weight = self.effective(raw)
        return torch.where(self.mask.bool(), weight, torch.zeros((), dtype=weight.dtype))

    def before_step(self, raw: torch.Tensor) -> None:
        """Remembers the parameter when part of it must not move."""
        if self.reach is not None:
            self._hold(raw)

    def after_step(self, raw: torch.Tensor, decay: float) -> None:
        """Puts back what no gradient reaches: a zero gradient alone would not stop momentum and decay."""
        del decay
        if self.reach is not None and self.held is not None:
            raw.copy_(torch.where(self.reach.bool(), raw, self.held))

    def _hold(self, raw: torch.Tensor) -> None:
        # One buffer for the whole run: a fresh 10 M tensor at every step costs a page fault each.
        if self.held is None:
            self.held = raw.clone()
        else:
            self.held.copy_(raw)


class SignedPowerFunction(torch.autograd.Function):
    """W = sign(theta) * |theta|**alpha, whose backward is the chain rule or, for raw moments, the identity.

    Handing dL/dW to the optimizer unchanged lets Adam keep its moments, and clipping its norm, on a gradient
    whose scale does not depend on alpha; the slope is multiplied once the step is finished.
    """

    @staticmethod
    def forward(ctx: Any, raw: torch.Tensor, alpha: float, chain: bool) -> torch.Tensor:
        """Returns W, same shape; ``chain`` asks for dL/dtheta instead of dL/dW."""
        ctx.alpha, ctx.chain = alpha, chain
        if chain:
            ctx.save_for_backward(raw)
        return signed_power(raw, alpha)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns the gradients of theta, alpha and chain."""
        (gradient,) = gradients
        if not ctx.chain:
            return gradient, None, None
        return gradient * power_slope(ctx.saved_tensors[0], ctx.alpha), None, None


class PowerGate(MaskGate):
    """Takes the signed power of a stored parameter, then masks it.

    Args:
        scores: as for ``MaskGate``.
        shape: as for ``MaskGate``.
        grid: as for ``MaskGate``.
        part: power, rule of the step and limit of the learning rate.
    """

    decays: ClassVar[bool] = True

    def __init__(
        self, scores: nn.Parameter | None, shape: torch.Size, grid: tuple[int, int], part: SignedPower
    ) -> None:
        super().__init__(scores, shape, grid)
        self.part = part
        self.factor = 1.0

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns theta for a loaded weight, so that the model goes on computing what it did.

        Raises:
            SpecError: all of the weight is zero; every slope is then 0 and nothing could ever be learnt.
        """
        if not weight.any():
            shape = " x ".join(map(str, weight.shape))
            raise SpecError(
                f"a prunable weight of shape {shape} is all zeros, which a power of {self.part.alpha:g} can "
                "never leave; choose reparam.alpha=1 or another model."
            )
        self.factor = self.part.factor(weight)
        return signed_root(weight, self.part.alpha)

    def effective(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns W = sign(theta) * |theta|**alpha, same shape."""
        weight: torch.Tensor = SignedPowerFunction.apply(raw, self.part.alpha, not self.part.raw_moments)
        return weight

    def before_step(self, raw: torch.Tensor) -> None:
        """Remembers theta, at which the slope is taken."""
        self._hold(raw)

    def after_step(self, raw: torch.Tensor, decay: float) -> None:
        """Multiplies the optimizer's step by slope and correction, decays, and puts back what is frozen."""
        assert self.held is not None
        rule = self.part
        raw.copy_(
            power_step(
                self.held,
                raw,
                rule.alpha,
                raw_moments=rule.raw_moments,
                factor=self.factor,
                decay=decay,
            )
        )
        super().after_step(raw, decay)


class ZeroGate(MaskGate):
    """Lets the whole weight through while training; the pruner writes zeros into it in place."""

    in_place: bool = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns W while training, M * W otherwise."""
        return weight if self.training else weight * self.mask


class BiasGate(nn.Module):
    """Multiplies a bias by the rows of the mask in which anything is left; no gradient reaches the scores."""

    mask: torch.Tensor

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(rows))

    def forward(self, bias: torch.Tensor) -> torch.Tensor:
        """Returns the bias with zeros at dead rows, shape [rows]."""
        return bias * self.mask
