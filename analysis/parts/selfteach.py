"""Distillation from an earlier student: every example weighs its label against the teacher by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from analysis.lazy import torch
from analysis.parts.base import Part, knob
from analysis.parts.losses import LossContext


def confidence(logits: torch.Tensor) -> torch.Tensor:
    """1 - H(softmax(z)) / ln C, without gradient.

    Args:
        logits: z, shape [rows, C] with C at least 2.

    Returns:
        values in [0, 1], shape [rows]: 0 for a uniform answer, 1 for a certain one.
    """
    with torch.no_grad():
        log = torch.log_softmax(logits, dim=-1)
        return 1 + (log.exp() * log).sum(-1) / math.log(logits.shape[-1])


def imitation(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T**2 times the cross entropy of softmax(z / T) against softmax(z' / T), one per row.

    It exceeds the divergence by the teacher's entropy, so it is not zero for equal logits; the gradient of
    the student is the same.

    Args:
        student: z, shape [rows, C].
        teacher: z', same shape.
        temperature: T > 0.

    Returns:
        shape [rows].
    """
    wanted = torch.softmax(teacher / temperature, dim=-1)
    return -(wanted * torch.log_softmax(student / temperature, dim=-1)).sum(-1) * temperature**2


def gated(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Mixes a KD + (1 - a) CE, a the student's confidence: sure rows imitate, unsure ones learn the label.

    Args:
        student: logits, shape [rows, C].
        teacher: logits, same shape.
        labels: class of each row, shape [rows].
        temperature: T > 0 of the imitation.

    Returns:
        shape [rows].
    """
    sure = confidence(student)
    label = torch.nn.functional.cross_entropy(student, labels, reduction="none")
    return sure * imitation(student, teacher, temperature) + (1 - sure) * label


@dataclass(frozen=True)
class SelfDistillation(Part):
    """The mean over examples of a KD + (1 - a) CE, where the teacher is the student at an earlier evaluation.

    It holds the loss of the labels in itself, so the weight of the task loss belongs at 0. Until there is a
    teacher it is the task loss. Rows without a label do not count.
    Source: Ren and Zhu 2023, arXiv:2305.12394.
    """

    weight: float = knob(1.0, "weight of this loss; the task loss then gets 0", low=0, high=100)
    temperature: float = knob(2.0, "softening of both distributions", low=0.1, high=100, log=True)
    policy: str = knob(
        "best",
        "evaluations after which the student becomes the teacher: a new best one, each, or each n-th",
        choices=("best", "latest", "every"),
    )
    every: int = knob(2, "n of the policy every", unit="evaluations", low=1, high=1000)
    after: float = knob(0.1, "share of the run before the first snapshot", unit="of the run", low=0, high=1)

    title: ClassVar[str] = "self-distillation, gated by confidence"
    needs_teacher: ClassVar[bool] = False
    own_teacher: ClassVar[bool] = True

    def value(self, ctx: LossContext) -> torch.Tensor:
        """Returns the unweighted scalar."""
        if not ctx.teacher:
            return ctx.task
        terms = []
        for name, logits in ctx.logits.items():
            classes = logits.shape[-1]
            labels = ctx.targets[name].reshape(-1)
            known = (labels >= 0) & (labels < classes)  # others are padding, or lie outside the window
            student = logits.reshape(-1, classes).float()[known]
            teacher = ctx.teacher[name].reshape(-1, classes).float()[known]
            terms.append(gated(student, teacher, labels[known], self.temperature))
        return torch.cat(terms).mean() if any(t.numel() for t in terms) else ctx.task

    def takes(self, value: float, best: float, number: int, progress: float) -> bool:
        """Whether the student of an evaluation becomes the teacher.

        Args:
            value: the metric now; higher is better.
            best: the best metric of a teacher so far, -inf before the first.
            number: number of the evaluation, from 1.
            progress: position in the run, in [0, 1].
        """
        if progress < self.after:
            return False
        if self.policy == "best":
            return value > best
        return self.policy == "latest" or number % self.every == 0
