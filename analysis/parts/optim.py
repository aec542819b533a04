"""Optimizers: parameter groups and the learning rate over the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob


@dataclass(frozen=True)
class AdamW(Part):
    """AdamW with three groups: scores (own learning rate, never decayed), weights, and biases with norms
    (never decayed).

    The score group names ``weight_decay=0`` because torch's AdamW would otherwise decay scores by its default
    of 0.01.
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

    title: ClassVar[str] = "AdamW"
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    eps: ClassVar[float] = 1e-8

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
            a torch optimizer whose groups carry their peak learning rate as ``peak``.
        """
        groups = [
            {"params": list(scores), "lr": score_lr, "peak": score_lr, "weight_decay": 0.0, "scores": True},
            {
                "params": list(weights),
                "lr": self.lr,
                "peak": self.lr,
                "weight_decay": self.weight_decay,
                "scores": False,
            },
            {"params": list(undecayed), "lr": self.lr, "peak": self.lr, "weight_decay": 0.0, "scores": False},
        ]
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], betas=self.betas, eps=self.eps, weight_decay=0.0, fused=True
        )


Optimizer = AdamW
