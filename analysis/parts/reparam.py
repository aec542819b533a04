"""Reparameterisations: from the raw weight to the effective weight the model computes with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part

if TYPE_CHECKING:
    from analysis.parts.gates import HardConcreteGate, MaskGate


@dataclass(frozen=True)
class Masked(Part):
    """W' = M * W; the gradient of the scores passes straight through the mask: dL/dS = G * W, dL/dW =
    G * M.
    """

    title: ClassVar[str] = "binary mask"
    masks_biases: ClassVar[bool] = False

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
class HardConcrete(Part):
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
    title: ClassVar[str] = "hard-concrete gate"

    def gate(
        self, scores: torch.nn.Parameter | None, shape: torch.Size, grid: tuple[int, int]
    ) -> HardConcreteGate:
        """Returns the parametrization module of one site."""
        from analysis.parts.gates import HardConcreteGate

        assert scores is not None
        return HardConcreteGate(scores, shape, grid)


Reparam = Masked | MaskedRows | Zeroed | HardConcrete
