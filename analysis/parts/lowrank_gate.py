"""The torch modules of low rank: the gate of a layer in training, and the two layers it becomes."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn.functional import linear

from analysis.errors import SpecError
from analysis.parts.gates import MaskGate
from analysis.parts.lowrank import balanced, factors, product


class LowRankGate(MaskGate):
    """Multiplies two stored factors; the mask stays all ones and is not applied.

    Args:
        shape: shape of the weight, [n, m].
        rank: r, in [1, min(n, m)].
        name: of the layer, for messages.
    """

    def __init__(self, shape: torch.Size, rank: int, name: str = "") -> None:
        super().__init__(None, shape, (1, 1))
        self.rank = rank
        self.name = name
        self.start: torch.Tensor | None = None

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns the components of the truncated SVD of a loaded weight, shape [r, n + m].

        Raises:
            SpecError: the weight is not finite, or all zeros, which two factors of zero can never leave.
        """
        if not weight.isfinite().all() or not weight.any():
            what = "is all zeros" if weight.isfinite().all() else "holds values that are not finite"
            raise SpecError(
                f"the weight of {self.name or 'a layer'} {what}, so it has no factors to train; name the "
                "layer in reparam.omit, or choose another model."
            )
        return balanced(weight, self.rank)

    def effective(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns W = B A, shape [n, m]."""
        return product(raw, self.mask.shape[0])

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns the same, for whoever reads ``weight``; the layer itself computes without it."""
        return self.effective(raw)

    def final(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns the weight that is exported."""
        return self.effective(raw)

    def take(self, module: nn.Module) -> None:
        """Makes a linear layer with this gate compute y = B (A x) + b; others read the product."""
        if isinstance(module, nn.Linear):
            module.forward = partial(_through, module, self)  # type: ignore[method-assign]

    def leave(self, module: nn.Module) -> None:
        """Gives the layer its own forward back."""
        module.__dict__.pop("forward", None)


def _through(module: nn.Linear, gate: LowRankGate, values: torch.Tensor) -> torch.Tensor:
    raw: torch.Tensor = module.parametrizations["weight"].original  # type: ignore[index,union-attr]
    b, a = factors(raw, gate.mask.shape[0])
    return linear(linear(values, a), b, module.bias)


class LowRankLinear(nn.Module):
    """A linear layer as two thinner ones: y = second(first(x)), the first without a bias.

    Args:
        cols: inputs m.
        rows: outputs n.
        rank: width r between them, >= 1.
        bias: whether the second has one.
    """

    def __init__(self, cols: int, rows: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(cols, rank, bias=False)
        self.second = nn.Linear(rank, rows, bias=bias)
        self.in_features, self.out_features, self.rank = cols, rows, rank

    @classmethod
    def of(cls, dense: nn.Linear, rank: int) -> LowRankLinear:
        """The two layers whose product is nearest to a dense one; its bias goes with the second."""
        weight = dense.weight.detach()
        thin = cls(dense.in_features, dense.out_features, rank, dense.bias is not None)
        thin = thin.to(device=weight.device, dtype=weight.dtype)
        if weight.is_meta:
            return thin
        with torch.no_grad():
            # A second decomposition in single precision would move outputs by more than their last bits.
            b, a = factors(balanced(weight.double(), rank), dense.out_features)
            thin.first.weight.copy_(a)
            thin.second.weight.copy_(b)
            if dense.bias is not None:
                thin.second.bias.copy_(dense.bias)
        return thin

    @property
    def weight(self) -> torch.Tensor:
        """W = B A, shape [n, m], for code that reads it; assigning to it is refused."""
        return self.second.weight @ self.first.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias of the second layer."""
        return self.second.bias

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Returns second(first(x)), shape [..., n]."""
        result: torch.Tensor = self.second(self.first(values))
        return result
