"""What a score may ask of the loss when units are chosen: its gradient g, and H g, on training examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from analysis.engine import columns as cols
from analysis.engine.splits import Split
from analysis.errors import SpecError

Losses = Iterable[tuple[float, torch.Tensor]]
Gradients = tuple[list[torch.Tensor] | None, list[torch.Tensor] | None]


def gradient(losses: Losses, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The gradient of a weighted sum of losses.

    Args:
        losses: pairs of weight and loss, one per micro-batch, each with a graph of its own.
        tensors: with respect to what.

    Returns:
        one detached gradient per tensor, zero where the losses do not depend on it.
    """
    total = [torch.zeros_like(t) for t in tensors]
    for share, loss in losses:
        found = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
        for sum_, part in zip(total, found, strict=True):
            sum_.add_(part, alpha=share)
    return total


def hessian_times(
    losses: Losses, tensors: Sequence[torch.Tensor], direction: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """H v for a fixed direction v: the gradient of <v, gradient>, summed over micro-batches.

    With v = g this is H g, provided that g is that of all micro-batches: the product of each batch's own
    gradient and Hessian would sum to something else.

    Args:
        losses: as for ``gradient``.
        tensors: with respect to what.
        direction: v, one per tensor, detached.

    Returns:
        one detached tensor per tensor.
    """
    total = [torch.zeros_like(t) for t in tensors]
    for share, loss in losses:
        slopes = torch.autograd.grad(
            loss, tensors, create_graph=True, allow_unused=True, materialize_grads=True
        )
        along = torch.stack([(s * v).sum() for s, v in zip(slopes, direction, strict=True)]).sum()
        if not along.requires_grad:  # linear in everything: no curvature
            continue
        found = torch.autograd.grad(along, tensors, allow_unused=True, materialize_grads=True)
        for sum_, part in zip(total, found, strict=True):
            sum_.add_(part, alpha=share)
    return total


def tempered(out: Any, batch: dict[str, torch.Tensor], kind: str, temperature: float) -> torch.Tensor:
    """The task's loss with the logits divided by a temperature.

    Args:
        out: what the model returned for the batch, its own loss included.
        batch: its labels or positions.
        kind: kind of the task.
        temperature: T > 0; 1 gives the model's own loss.

    Returns:
        a scalar.
    """
    if temperature == 1:
        own: torch.Tensor = out["loss"]
        return own
    if kind == cols.ANSWERS:
        ends = []
        for name, positions in (("start_logits", "start_positions"), ("end_logits", "end_positions")):
            beyond = out[name].shape[1]  # a position outside the window has no loss
            wanted = batch[positions].clamp(0, beyond)
            ends.append(cross_entropy(out[name] / temperature, wanted, ignore_index=beyond))
        return torch.stack(ends).mean()
    logits = out["logits"]
    return cross_entropy(logits.reshape(-1, logits.shape[-1]) / temperature, batch["labels"].reshape(-1))


@dataclass
class Probe:
    """Measures the loss of a model, as it is masked now, on a fixed sample of its training examples.

    The sample is drawn once from the seed, so that scores of two cuts differ because the network does, and a
    resumed run measures what a straight one would. Dropout is off and numbers are float32: signed sums over a
    unit are small differences of large terms. Nothing of the training is touched: no ``grad`` and no random
    number.

    Attributes:
        model: with the masks attached.
        split: the training split.
        kind: kind of the task.
        batch: examples per micro-batch, at least 1.
        seed: seed of the run.
        examples: how many are measured on, at most all.
        temperature: T of ``tempered``.
    """

    model: nn.Module
    split: Split
    kind: str
    batch: int
    seed: int
    examples: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.kind == cols.REGRESSION and self.temperature != 1:
            raise SpecError(
                f"score.temperature is {self.temperature:g}, but the task predicts a number and has no "
                "logits to divide; allowed is 1."
            )

    def measure(self, tensors: Sequence[torch.Tensor], passes: int) -> Gradients:
        """Returns g and H g with respect to some weights.

        Args:
            tensors: the weights.
            passes: 0 for nothing, 1 for g, 2 for both.

        Returns:
            g, one per tensor, or None; H g likewise.
        """
        if not passes:
            return None, None
        was_training = self.model.training
        self.model.eval()
        try:
            # The fused attention kernels have no second derivative.
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                slope = gradient(self.losses(), tensors)
                bend = hessian_times(self.losses(), tensors, slope) if passes > 1 else None
        finally:
            self.model.train(was_training)
        return slope, bend

    def losses(self) -> Iterator[tuple[float, torch.Tensor]]:
        """Yields share of the sample and loss of each micro-batch, examples of similar length together."""
        device = next(self.model.parameters()).device
        count = min(self.examples, len(self.split))
        chosen = np.random.default_rng((self.seed, 1)).choice(len(self.split), count, replace=False)
        chosen = chosen[np.argsort(-self.split.lengths[chosen].astype(np.int64), kind="stable")]
        for start in range(0, count, self.batch):
            indices = chosen[start : start + self.batch]
            batch = {key: value.to(device) for key, value in self.split.batch(indices).items()}
            with parametrize.cached():
                loss = tempered(self.model(**batch), batch, self.kind, self.temperature)
            yield len(indices) / count, loss


Measurer = Callable[[Sequence[torch.Tensor], int], Gradients]
