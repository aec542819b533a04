"""Losses that follow a teacher inside the network: its hidden states, its attention, its softened answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.losses import LossContext, over_heads


def masked_mse(
    student: torch.Tensor, teacher: torch.Tensor, tokens: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared difference of two hidden states, over the real tokens and the width.

    Args:
        student: shape [batch, tokens, width], or [batch, ...] for a model without tokens.
        teacher: same shape.
        tokens: bool of shape [batch, tokens], False at padding; None counts every position.

    Returns:
        a scalar >= 0.
    """
    apart = (student.float() - teacher.float()).square()
    if tokens is None or apart.ndim != 3:
        return apart.mean()
    real = tokens.unsqueeze(-1).to(apart.dtype)
    return (apart * real).sum() / (real.sum() * apart.shape[-1]).clamp(min=1)


def _over(terms: Sequence[torch.Tensor], over: str) -> torch.Tensor:
    stacked = torch.stack(list(terms))
    return stacked.sum() if over == "sum" else stacked.mean()


@dataclass(frozen=True)
class HiddenDistillation(Part):
    """Makes hidden states follow the teacher's: R = sum or mean over layers k of mean((P_k(h_k) - t_k)**2).

    h_0 is the output of the embeddings, h_k that of layer k. P_k is a linear map that starts as the identity
    and is trained and thrown away, or nothing. The scores of a method that separates gradients do not see it.
    """

    weight: float = knob(1.0, "weight of the hidden-state loss", low=0, high=1000)
    layers: str = knob(
        "all",
        "which states are matched: all, those after the embeddings, or every second from the embeddings on",
        choices=("all", "blocks", "even"),
    )
    over: str = knob("sum", "how the layers are put together", choices=("sum", "mean"))
    padding: bool = knob(False, "count padding too, as some released code does")
    projected: bool = knob(False, "learn a linear map per layer between student and teacher")

    title: ClassVar[str] = "hidden-state distillation"
    needs_teacher: ClassVar[bool] = True
    guides: ClassVar[bool] = False

    def matched(self, states: int) -> tuple[int, ...]:
        """Indices of the states that are matched, of ``states`` in all (layers + 1)."""
        return tuple(range(states))[
            {"all": slice(None), "blocks": slice(1, None), "even": slice(0, None, 2)}[self.layers]
        ]

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar.

        Raises:
            SpecError: student and teacher have another number of layers, or another width without a map.
        """
        if len(ctx.hidden) != len(ctx.hidden_teacher) or not ctx.hidden:
            raise SpecError(
                f"hidden distillation pairs layer with layer, but the student gives {len(ctx.hidden)} hidden "
                f"states and the teacher {len(ctx.hidden_teacher)}; choose a teacher as deep as the model."
            )
        tokens = None if self.padding else ctx.tokens
        terms = []
        for k in self.matched(len(ctx.hidden)):
            student, teacher = ctx.project(k, ctx.hidden[k]), ctx.hidden_teacher[k]
            if student.shape != teacher.shape:
                raise SpecError(
                    f"hidden state {k} is {student.shape[-1]} wide and the teacher's {teacher.shape[-1]}; "
                    "set hidden.projected=true or choose a teacher as wide as the model."
                )
            terms.append(masked_mse(student, teacher, tokens))
        return _over(terms, self.over)


@dataclass(frozen=True)
class AttentionDistillation(Part):
    """Makes attention maps follow the teacher's: R = sum or mean over layers of mean((A - A_teacher)**2).

    A are the probabilities after the softmax, shape [batch, heads, tokens, tokens]. Rows of padding are left
    out unless asked for. The scores of a method that separates gradients do not see it.
    """

    weight: float = knob(1.0, "weight of the attention loss", low=0, high=1000)
    over: str = knob("sum", "how the layers are put together", choices=("sum", "mean"))
    padding: bool = knob(False, "count the rows of padding too, as some released code does")

    title: ClassVar[str] = "attention distillation"
    needs_teacher: ClassVar[bool] = True
    guides: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar.

        Raises:
            SpecError: student and teacher have attention maps of other numbers or shapes, or none.
        """
        pairs = list(zip(ctx.attentions, ctx.attentions_teacher, strict=False))
        if not pairs or len(ctx.attentions) != len(ctx.attentions_teacher):
            raise SpecError(
                f"attention distillation pairs layer with layer, but the student gives {len(ctx.attentions)} "
                f"attention maps and the teacher {len(ctx.attentions_teacher)}; choose transformers of the "
                "same depth, or no attention loss."
            )
        terms = []
        for student, teacher in pairs:
            if student.shape != teacher.shape:
                raise SpecError(
                    f"an attention map of the student has {student.shape[1]} heads and the teacher's "
                    f"{teacher.shape[1]}; choose a teacher with as many heads, or no attention loss."
                )
            terms.append(_map_apart(student, teacher, None if self.padding else ctx.tokens))
        return _over(terms, self.over)


def _map_apart(student: torch.Tensor, teacher: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    apart = (student.float() - teacher.float()).square()
    if tokens is None or tokens.shape[-1] != apart.shape[-2]:
        return apart.mean()
    # [batch, heads, query, key]: a row whose query is padding says nothing of the text.
    real = tokens[:, None, :, None].to(apart.dtype)
    return (apart * real).sum() / (real.sum() * apart.shape[1] * apart.shape[-1]).clamp(min=1)


def soft_cross_entropy(
    student: torch.Tensor,
    teacher: torch.Tensor,
    temperature: float,
    over: str = "rows",
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """- softmax(t / T) . log softmax(z / T), without the factor T**2: the gradient is 1 / T of the usual one.

    Args:
        student: logits z, shape [..., classes].
        teacher: logits t of the same shape.
        temperature: T > 0.
        over: "rows" for the mean over rows, "classes" for the mean over rows and classes.
        counted: bool of shape [...], the rows the mean is over; None for all.

    Returns:
        a scalar; the teacher's entropy (over classes: divided by their number) where the logits agree.
    """
    rows, goal = (t.reshape(-1, t.shape[-1]).float() for t in (student, teacher))
    if counted is not None:
        rows, goal = rows[counted.reshape(-1)], goal[counted.reshape(-1)]
    each = -(torch.softmax(goal / temperature, -1) * torch.log_softmax(rows / temperature, -1))
    return each.sum(-1).mean() if over == "rows" else each.mean()


@dataclass(frozen=True)
class SoftTargets(Part):
    """Follows the teacher's softened answer by cross entropy, without T**2 and without labels.

    R = mean over rows of - softmax(t / T) . log softmax(z / T). With one output (regression) the squared
    difference of the outputs.
    """

    weight: float = knob(1.0, "weight of this loss; the task loss then gets 0", low=0, high=100)
    temperature: float = knob(1.0, "softening of both distributions", low=0.1, high=100, log=True)
    over: str = knob(
        "rows",
        "mean over rows, or over rows and classes as in some released code",
        choices=("rows", "classes"),
    )

    title: ClassVar[str] = "soft targets, without labels"
    needs_teacher: ClassVar[bool] = True
    own_teacher: ClassVar[bool] = False

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        return over_heads(
            ctx, lambda z, t: soft_cross_entropy(z, t, self.temperature, self.over, ctx.counted)
        )
