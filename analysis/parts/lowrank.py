"""Low rank: a weight stored as the product of two thin factors, and what goes with it.

The stored parameter of a layer of n outputs and m inputs is one matrix of shape [r, n + m]. Its row i is the
rank-one component i: the column i of B beside the row i of A, with W = B A the sum of all components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.losses import LossContext, Product
from analysis.parts.reparam import Masked
from analysis.parts.scores import Piece, Rule
from analysis.parts.units import Group, Shape

if TYPE_CHECKING:
    from analysis.parts.gates import MaskGate


def rank(rows: int, cols: int, keep: float) -> int:
    """The rank at which two factors hold at most a fraction of a weight's parameters.

    r = max(1, floor(keep * n * m / (n + m))), since the factors hold r * (n + m).

    Args:
        rows: outputs n, >= 1.
        cols: inputs m, >= 1.
        keep: fraction of the parameters, in (0, 1]; its inverse is the compression ratio c.

    Returns:
        r, or 0 where factors of that rank would not be smaller than the weight, and for a keep of 1.
    """
    # In floating point 768 * 768 / 3 / 1536 need not reach the 128 that it is.
    r = max(1, math.floor(keep * rows * cols / (rows + cols) + 1e-9))
    return r if keep < 1 and r * (rows + cols) < rows * cols else 0


def balanced(weight: torch.Tensor, r: int) -> torch.Tensor:
    """The best product of rank r, its r largest singular values shared out evenly between the factors.

    W = U S V^T; B = U_r S_r**(1/2), A = S_r**(1/2) V_r^T. No product of rank r is nearer to W (Eckart, Young
    1936), and ||W - B A||_F**2 is the sum of the squared singular values left out.

    Args:
        weight: W, shape [n, m]; half precision is decomposed in float32.
        r: rank, in [1, min(n, m)].

    Returns:
        components, shape [r, n + m]: row i is column i of B, then row i of A; the norm of either is the root
        of singular value i.
    """
    wide = weight if weight.dtype in (torch.float32, torch.float64) else weight.float()
    u, s, vt = torch.linalg.svd(wide, full_matrices=False)
    root = s[:r].sqrt().unsqueeze(1)
    return torch.cat([root * u[:, :r].mT, root * vt[:r]], 1).to(weight.dtype)


def factors(components: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """B of shape [n, r] and A of shape [r, m], views of the components; gradients flow through them."""
    left, right = components.split([rows, components.shape[1] - rows], 1)
    return left.mT, right


def product(components: torch.Tensor, rows: int) -> torch.Tensor:
    """W = B A, shape [n, m]."""
    b, a = factors(components, rows)
    return b @ a


@dataclass(frozen=True)
class LowRank(Masked):
    """W' = B A: a linear layer computes y = B (A x) + b, with balanced factors of the truncated SVD.

    The rank of a layer follows from the keep of the run; where factors would not be smaller the layer stays
    dense, and so do convolutions. There is no mask: what is kept are parameters of factors.
    Source: Guo et al. 2024 (PELA), as released.
    """

    least: int = knob(
        10, "layers with fewer outputs stay dense, as in the released code", unit="outputs", low=1, high=65536
    )
    omit: str = knob(
        "none",
        "further layers that stay dense: whole pieces of their path, such as attention.output or "
        "downsample, with commas between; or none",
    )

    holds: ClassVar[bool] = False
    title: ClassVar[str] = "product of two factors"

    def rank(self, site: Shape, keep: float) -> int:
        """The rank of a layer; 0 where it stays dense.

        Args:
            site: the layer.
            keep: fraction of its parameters, in (0, 1].
        """
        named = [word.strip(" .") for word in self.omit.split(",") if word.strip(" .")]
        # Whole pieces: 'head' must not hit a layer called attention_heads_mix.
        if any(f".{word}." in f".{site.name}." for word in named):
            return 0
        if site.role == "conv" or site.rows < self.least:
            return 0
        return rank(site.rows, site.cols, keep)

    def bare(self, site: Shape, shape: torch.Size, keep: float) -> MaskGate:
        """Returns the parametrization module of one site: of its factors, or the plain one where dense."""
        from analysis.parts.lowrank_gate import LowRankGate

        r = self.rank(site, keep)
        return LowRankGate(shape, r, site.name) if r else super().bare(site, shape, keep)


@dataclass(frozen=True)
class Component(Part):
    """The rank-one components of a matrix, of which its factors hold the first few.

    None of them is ever masked, so that there are no groups to choose from: the rank is fixed by the keep.
    """

    title: ClassVar[str] = "rank-one components"
    removable: ClassVar[bool] = True  # the finished product is replaced by two layers

    def groups(self, shapes: Sequence[Shape]) -> list[Group]:
        """Returns no group."""
        del shapes
        return []


@dataclass(frozen=True)
class SingularValue(Rule):
    """The singular values of a matrix, largest first; the truncated SVD keeps the components with the
    largest.
    """

    title: ClassVar[str] = "singular value"

    def init(self, units: int, generator: torch.Generator) -> None:
        """Has no state of its own."""
        del units, generator

    def of(self, pieces: Sequence[Piece], state: torch.Tensor | None) -> torch.Tensor:
        """Returns one score per component, shape [min(rows, cols)]."""
        del state
        values: torch.Tensor = torch.linalg.svdvals(pieces[0].weight)
        return values


def perturbation(products: Sequence[Product], eps: float, two_sided: bool = True) -> torch.Tensor:
    """Weight perturbation: mean over layers of (max |B A - W| - eps)**2.

    The maximum is the largest entry, not the induced norm of the matrix (the largest sum of a row). Its
    gradient touches one entry per layer, shared equally where several are largest.

    Args:
        products: products and the weights they replace, at least one.
        eps: the residual that is aimed at, >= 0.
        two_sided: True pushes smaller residuals up to eps, as released; False leaves them alone.

    Returns:
        a scalar >= 0.
    """
    largest = torch.stack([(p.weight.float() - p.start).abs().amax() for p in products]) - eps
    return (largest if two_sided else largest.clamp(min=0)).square().mean()


@dataclass(frozen=True)
class Perturbation(Part):
    """Keeps the products near the weights they replace: R = mean over layers of (max |B A - W| - eps)**2.

    A weak and spiky pull: one entry per layer and step. At a residual of exactly zero it has no gradient.
    Source: Guo et al. 2024 (PELA), as released.
    """

    weight: float = knob(1.0, "weight of this loss", low=0, high=1e4)
    eps: float = knob(1e-3, "largest change of a weight that is aimed at", low=0, high=1)
    two_sided: bool = knob(True, "also pull changes smaller than that up to it, as the released code does")
    every: int = knob(
        1, "it counts at every so many steps: its products must be computed for it", unit="steps", low=1
    )

    title: ClassVar[str] = "weight perturbation"
    needs_teacher: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = False
    steer: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar; 0 at the steps between, and where every layer is dense."""
        products = ctx.products() if ctx.step % self.every == 0 else ()
        return perturbation(products, self.eps, self.two_sided) if products else ctx.task.new_zeros(())
