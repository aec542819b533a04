"""Optimizers: parameter groups, the learning rate over the run, and clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import Part, knob


@dataclass(frozen=True)
class Descent(Part):
    """What all optimizers share: three groups, one schedule of the learning rate, one bound on the gradient.

    The groups are scores (own learning rate, never decayed), weights, and biases with norms (never decayed).
    """

    lr: float = knob(3e-5, "peak learning rate of the weights", low=0, high=1, open="low", log=True)
    warmup: float = knob(
        0.06, "share of the run in which the learning rate rises", unit="of the run", low=0, high=1
    )
    weight_decay: float = knob(0.0, "decay of the weights", low=0, high=1)
    clip: float = knob(1.0, "largest gradient norm; 0 turns clipping off", low=0, high=1e6)
    clip_scores: bool = knob(
        False, "count the scores in the gradient norm and clip them too, as the reference does"
    )
    freeze_embeddings: bool = knob(True, "leave the embeddings as they were pre-trained")

    def factor(self, progress: float) -> float:
        """Learning rate as a fraction of its peak: linear rise during the warm-up, then linear fall to 0 at
        the end.
        """
        if progress < self.warmup:
            return progress / self.warmup
        return max(0.0, (1 - progress) / (1 - self.warmup)) if self.warmup < 1 else 1.0

    def build(
        self,
        weights: Iterable[torch.Tensor],
        undecayed: Iterable[torch.Tensor],
        scores: Iterable[torch.Tensor],
        score_lr: float,
    ) -> torch.optim.Optimizer:
        """Returns the optimizer.

        Args:
            weights: matrices and filters that are trained.
            undecayed: biases and normalisation weights that are trained.
            scores: learned scores, possibly none.
            score_lr: peak learning rate of the scores.

        Returns:
            a torch optimizer whose groups carry their peak learning rate as ``peak``, and whether they hold
            ``scores`` or ``matrices``.
        """
        groups = [
            _group(scores, score_lr, 0.0, scores=True),
            _group(weights, self.lr, self.weight_decay, matrices=True),
            _group(undecayed, self.lr, 0.0),
        ]
        return self.make([g for g in groups if g["params"]])

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns the torch optimizer over groups that name their learning rate and their decay."""
        raise TypeError(f"{type(self).__name__} makes no optimizer.")

    def clip_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Scales the gradients that wait in ``.grad`` down to the largest norm that is allowed.

        Args:
            optimizer: what ``build`` returned; its scores are left out unless ``clip_scores`` is on.
        """
        if not self.clip:
            return
        counted = [
            p for g in optimizer.param_groups if self.clip_scores or not g["scores"] for p in g["params"]
        ]
        torch.nn.utils.clip_grad_norm_(counted, self.clip, foreach=True)


def _group(
    params: Iterable[torch.Tensor], lr: float, decay: float, scores: bool = False, matrices: bool = False
) -> dict[str, Any]:
    # The decay is named even where it is 0: torch's own default would decay scores by 0.01.
    named = {"params": list(params), "lr": lr, "peak": lr, "weight_decay": decay}
    return {**named, "scores": scores, "matrices": matrices}


@dataclass(frozen=True)
class AdamW(Descent):
    """AdamW: steps along m / (sqrt(v) + eps), both moments corrected for their start; decay is decoupled.

    Source: Kingma, Ba 2015; Loshchilov, Hutter 2019; torch's fused implementation.
    """

    title: ClassVar[str] = "AdamW"
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    eps: ClassVar[float] = 1e-8

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns torch's AdamW."""
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, weight_decay=0.0, fused=True)


@dataclass(frozen=True)
class SGD(Descent):
    """Stochastic gradient descent with momentum u: v <- u v + g, x <- x - lr v; the decay is added to g.

    With ``nesterov`` the step is g + u v instead of v. torch then keeps the look-ahead point itself as the
    weight, so that what is evaluated and exported is that point.
    Source: torch.optim.SGD; Sutskever, Martens, Dahl, Hinton 2013.
    """

    lr: float = knob(0.01, "peak learning rate of the weights", low=0, high=100, open="low", log=True)
    momentum: float = knob(
        0.9, "share of the last step that is carried on; 0 is none", low=0, high=1, open="high"
    )
    nesterov: bool = knob(False, "Nesterov's form of the momentum")

    title: ClassVar[str] = "SGD"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise SpecError(
                "SGD.nesterov is true but SGD.momentum is 0: there is nothing to look ahead along; raise "
                "momentum (0.9 is usual) or turn nesterov off."
            )

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns torch's SGD."""
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)


@dataclass(frozen=True)
class LARS(Descent):
    """Layer-wise adaptive rates: v <- u v + lr * ratio * (g + decay * w), w <- w - v, ratio per matrix.

    The ratio is that of ``trust_ratio``. Biases, norms and scores take the plain step (ratio 1): the size of
    a bias or of a score says nothing about how far it may move.
    Source: You, Gitman, Ginsburg 2017.
    """

    lr: float = knob(0.1, "peak learning rate of the weights", low=0, high=1000, open="low", log=True)
    momentum: float = knob(
        0.9, "share of the last step that is carried on; 0 is none", low=0, high=1, open="high"
    )
    trust: float = knob(
        1e-3, "eta, length of a step relative to the weights at rate 1", low=0, high=1, open="low", log=True
    )

    title: ClassVar[str] = "LARS"

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns our LARS; torch has none."""
        from analysis.parts.lars import Lars

        return Lars(groups, lr=self.lr, momentum=self.momentum, trust=self.trust)


def trust_ratio(weight: torch.Tensor, direction: torch.Tensor, eta: float, decay: float) -> torch.Tensor:
    """The factor LARS gives to one tensor: eta * |w| / (|g| + decay * |w|), norms over the whole tensor.

    Args:
        weight: w, any shape.
        direction: g, same shape.
        eta: trust coefficient, in (0, 1]; 0.001 is usual.
        decay: weight decay, at least 0.

    Returns:
        a scalar; 1 where either norm is 0, because a ratio of 0 would hold the tensor at zero for ever.
    """
    size = torch.linalg.vector_norm(weight)
    other = torch.linalg.vector_norm(direction)
    ratio = eta * size / (other + decay * size)
    return torch.where((size > 0) & (other > 0), ratio, torch.ones_like(size))


Optimizer = AdamW | SGD | LARS
