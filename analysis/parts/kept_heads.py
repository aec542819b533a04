"""Attention distillation over the heads that are left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import knob
from analysis.parts.losses import LossContext
from analysis.parts.matching import AttentionDistillation


@dataclass(frozen=True)
class KeptHeadsDistillation(AttentionDistillation):
    """Makes the attention maps of the heads that are left follow the teacher's.

    A pruned head looks at all tokens alike, whatever its weights: with heads = all, as in some released code,
    its constant distance from the teacher is part of the loss, and pulls on the scores.
    """

    heads: str = knob("kept", "whose maps are compared", choices=("kept", "all"))

    title: ClassVar[str] = "attention distillation, kept heads"

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar; the mean inside a layer is over the heads that count.

        Raises:
            SpecError: student and teacher have attention maps of other numbers or shapes, or none.
        """
        kept = ctx.heads() if self.heads == "kept" else ()
        if len(kept) != len(ctx.attentions) or len(ctx.attentions_teacher) != len(kept):
            return super().value(ctx)
        if any(s.shape != t.shape for s, t in zip(ctx.attentions, ctx.attentions_teacher, strict=True)):
            return super().value(ctx)  # refuses
        pairs = [
            (s[:, k], t[:, k])
            for s, t, k in zip(ctx.attentions, ctx.attentions_teacher, kept, strict=True)
            if k.any()
        ]
        if not pairs:
            return ctx.attentions[0].sum() * 0
        student, teacher = zip(*pairs, strict=True)
        return super().value(replace(ctx, attentions=student, attentions_teacher=teacher))
