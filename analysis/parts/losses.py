"""Losses: named terms whose weighted sum is minimised. Each class has a pure function beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.reparam import HardConcrete

if TYPE_CHECKING:
    from analysis.parts.learned import Budget


@dataclass(frozen=True)
class Reach:
    """What a loss term may look at of one site whose gradients reach further than its forward pass.

    Attributes:
        weight: the dense weight W before the mask, through which gradients flow.
        kept: 1.0 where the forward pass uses it, same shape.
        reached: 1.0 where gradients arrive, same shape; holds all that is kept.
    """

    weight: torch.Tensor
    kept: torch.Tensor
    reached: torch.Tensor


@dataclass(frozen=True)
class Product:
    """What a loss term may look at of one site that is stored as two factors.

    Attributes:
        weight: their product B A, through which gradients flow.
        start: the pre-trained weight that it replaces, same shape.
    """

    weight: torch.Tensor
    start: torch.Tensor


def _as_it_is(k: int, state: torch.Tensor) -> torch.Tensor:
    del k
    return state


@dataclass(frozen=True)
class LossContext:
    """What a loss term may look at.

    Attributes:
        task: the model's own loss.
        logits: output name to logits, shape [..., classes].
        teacher: the same of the teacher; empty without one.
        scores: learned scores, one tensor of shape [units] per group.
        counted: bool in the shape of the logits' rows, False where a row has no label of its own (padding and
            the later pieces of a word); None where every row counts.
        parts: "attention", "ffn" or "other" for each of them.
        targets: head name to the classes or positions it should name.
        hidden: hidden states of the student, the embeddings' output first; empty where no loss asks for them.
        hidden_teacher: the same of the teacher.
        attentions: attention maps of the student, shape [batch, heads, tokens, tokens] each.
        attentions_teacher: the same of the teacher.
        tokens: bool of shape [batch, tokens], False at padding; None for a model without tokens.
        project: the learned map of hidden state k, by default none.
        reach: gives the sites whose gradients reach further than the forward pass; a function, because their
            weights are computed only when a term asks.
        products: gives the sites that are stored as two factors; a function for the same reason.
        step: number of the optimizer step in its stage, from 0.
        budget: learned shares and what they add up to; None where the selection learns none.
        heads: gives which heads of every layer are left, bool of shape [heads] each; a function for the same
            reason.
    """

    task: torch.Tensor
    logits: Mapping[str, torch.Tensor]
    teacher: Mapping[str, torch.Tensor]
    scores: Sequence[torch.Tensor]
    parts: Sequence[str] = ()
    counted: torch.Tensor | None = None
    targets: Mapping[str, torch.Tensor] = field(default_factory=dict)
    reach: Callable[[], Sequence[Reach]] = tuple
    products: Callable[[], Sequence[Product]] = tuple
    step: int = 0
    hidden: Sequence[torch.Tensor] = ()
    hidden_teacher: Sequence[torch.Tensor] = ()
    attentions: Sequence[torch.Tensor] = ()
    attentions_teacher: Sequence[torch.Tensor] = ()
    tokens: torch.Tensor | None = None
    project: Callable[[int, torch.Tensor], torch.Tensor] = _as_it_is
    budget: Budget | None = None
    heads: Callable[[], Sequence[torch.Tensor]] = tuple


@dataclass(frozen=True)
class Task(Part):
    """The loss of the task itself, as the model computes it from its labels."""

    weight: float = knob(1.0, "weight of the task loss", low=0, high=100)

    title: ClassVar[str] = "task loss"
    needs_teacher: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        return ctx.task


def distillation(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """Logit distillation: T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over rows.

    Args:
        student: logits, shape [..., classes].
        teacher: logits of the same shape.
        temperature: T > 0.
        counted: bool of shape [...], the rows the mean is over; None for all. Padding would otherwise decide
            how hard a batch pulls.

    Returns:
        a scalar, 0 when the logits agree up to a constant per row.
    """
    rows, goal = (t.reshape(-1, t.shape[-1]).float() for t in (student, teacher))
    if counted is not None:
        rows, goal = rows[counted.reshape(-1)], goal[counted.reshape(-1)]
    wanted = torch.softmax(goal / temperature, dim=-1)
    given = torch.log_softmax(rows / temperature, dim=-1)
    kl = torch.nn.functional.kl_div(given, wanted, reduction="batchmean")
    return kl * temperature**2


def over_heads(ctx: LossContext, apart: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Mean over heads of how far logits are apart; with one output the squared difference.

    Args:
        ctx: logits of student and teacher.
        apart: gives a scalar for the logits of a student and a teacher with several classes.
    """
    terms = [
        (logits.float() - ctx.teacher[name].float()).square().mean()
        if logits.shape[-1] == 1
        else apart(logits, ctx.teacher[name])
        for name, logits in ctx.logits.items()
    ]
    return torch.stack(terms).mean()


@dataclass(frozen=True)
class LogitDistillation(Part):
    """Makes the student's logits follow those of a dense, fine-tuned teacher (Hinton, Vinyals, Dean 2015).

    With several heads (start and end of an answer) the mean of their terms; with one output (regression) the
    squared difference.
    """

    weight: float = knob(0.9, "weight of the distillation loss; the task loss then gets 0.1", low=0, high=100)
    temperature: float = knob(2.0, "softening of both distributions", low=0.1, high=100, log=True)

    title: ClassVar[str] = "logit distillation"
    needs_teacher: ClassVar[bool] = True
    own_teacher: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        return over_heads(ctx, lambda z, t: distillation(z, t, self.temperature, ctx.counted))


def double_mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over each tensor, then the unweighted mean over tensors.

    A plain sum, as the paper writes it, would give the penalty weight another meaning for every model size.
    """
    return torch.stack([t.mean() for t in tensors]).mean()


def balanced_mean(
    tensors: Sequence[torch.Tensor], parts: Sequence[str], weights: Mapping[str, float]
) -> torch.Tensor:
    """Double mean within each part of the model, then the weighted mean over the parts that are there.

    R = sum over parts g of (weight_g / number of parts) * mean over tensors in g of their mean. Few coarse
    units and many fine ones then pull alike, which one mean over all tensors would not do.

    Args:
        tensors: one per group of units.
        parts: the part of each.
        weights: weight of each part; 1 where it is not named.
    """
    found = dict.fromkeys(parts)
    terms = [
        weights.get(part, 1.0) * double_mean([t for t, p in zip(tensors, parts, strict=True) if p == part])
        for part in found
    ]
    return torch.stack(terms).sum() / len(found)


@dataclass(frozen=True)
class SigmoidPenalty(Part):
    """Pulls all scores down: R = mean over matrices of mean sigma(S).

    With ``steer`` the weight is only the starting point of a controller that makes the kept fraction follow
    the asked one (ours; the papers scan the weight by hand). Without it the weight is the fixed lambda of the
    reference.
    """

    weight: float = knob(100.0, "lambda, the weight of the penalty", low=0, high=1e7, log=True)
    steer: bool = knob(True, "adapt lambda so that the asked keep is reached")

    title: ClassVar[str] = "penalty on sigma(S)"
    needs_teacher: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar in [0, 1]."""
        return double_mean([torch.sigmoid(s) for s in ctx.scores])


@dataclass(frozen=True)
class BalancedPenalty(SigmoidPenalty):
    """The same pull, weighed between attention and feed-forward layers.

    R = sum over parts g of (weight_g / number of parts) * mean over groups in g of mean sigma(S). A shared
    score, such as a neuron's, counts once. Source: nn_pruning, Lagunas et al. 2021.
    """

    attention: float = knob(1.0, "weight of the units of attention", low=0, high=1e4, log=True)
    ffn: float = knob(1.0, "weight of the units of the feed-forward layers", low=0, high=1e4, log=True)

    title: ClassVar[str] = "penalty on sigma(S), balanced between parts"

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        pulled = [torch.sigmoid(s) for s in ctx.scores]
        return balanced_mean(pulled, ctx.parts, {"attention": self.attention, "ffn": self.ffn})


@dataclass(frozen=True)
class GatePenalty(Part):
    """The expected number of open gates: mean over matrices of mean sigma(S - b ln(-low / high))."""

    weight: float = knob(100.0, "lambda, the weight of the penalty", low=0, high=1e7, log=True)
    steer: bool = knob(True, "adapt lambda so that the asked keep is reached")

    title: ClassVar[str] = "penalty on open gates"
    needs_teacher: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True
    shift: ClassVar[float] = -HardConcrete.temperature * math.log(-HardConcrete.low / HardConcrete.high)

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar in [0, 1]."""
        return double_mean([torch.sigmoid(s + self.shift) for s in ctx.scores])


Penalty = SigmoidPenalty | BalancedPenalty | GatePenalty
