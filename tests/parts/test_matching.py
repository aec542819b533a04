"""Losses inside the network, against slow loops and the literal numbers of the systems that use them."""

from __future__ import annotations

import pytest
import torch

from analysis.errors import SpecError
from analysis.parts.losses import LossContext
from analysis.parts.matching import (
    AttentionDistillation,
    HiddenDistillation,
    SoftTargets,
    masked_mse,
    soft_cross_entropy,
)

STUDENT, TEACHER = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]])


def context(**fields: object) -> LossContext:
    plain: dict[str, object] = {"task": torch.zeros(()), "logits": {}, "teacher": {}, "scores": ()}
    return LossContext(**(plain | fields))  # type: ignore[arg-type]


def test_soft_targets_reproduce_the_released_code_and_the_batch_mean() -> None:
    assert soft_cross_entropy(STUDENT, TEACHER, 1.0, "classes").item() == pytest.approx(0.3898481, abs=1e-6)
    assert soft_cross_entropy(STUDENT, TEACHER, 1.0, "rows").item() == pytest.approx(0.7796963, abs=1e-6)
    found = SoftTargets().value(context(logits={"logits": STUDENT}, teacher={"logits": TEACHER}))
    assert found.item() == pytest.approx(0.7796963, abs=1e-6)


def test_soft_targets_pull_as_the_divergence_does_without_its_factor() -> None:
    logits = STUDENT.clone().requires_grad_()
    soft_cross_entropy(logits, TEACHER, 4.0).backward()
    p, q = torch.softmax(STUDENT / 4, -1), torch.softmax(TEACHER / 4, -1)
    torch.testing.assert_close(logits.grad, (p - q) / 4 / len(STUDENT))


def test_hidden_states_differ_over_real_tokens_only() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    tokens = torch.tensor([[True, True, False], [True, False, False]])
    slow = [
        (student[b, t, d] - teacher[b, t, d]) ** 2
        for b in range(2)
        for t in range(3)
        if tokens[b, t]
        for d in range(4)
    ]
    torch.testing.assert_close(masked_mse(student, teacher, tokens), torch.stack(slow).mean())
    torch.testing.assert_close(masked_mse(student, teacher), (student - teacher).square().mean())


@pytest.mark.parametrize(
    ("layers", "over", "wanted"),
    [("all", "sum", 1 + 4 + 9 + 16), ("blocks", "mean", (4 + 9 + 16) / 3), ("even", "sum", 1 + 9)],
)
def test_which_states_are_matched(layers: str, over: str, wanted: float) -> None:
    student = [torch.full((1, 2, 3), float(k + 1)) for k in range(4)]
    ctx = context(hidden=student, hidden_teacher=[torch.zeros(1, 2, 3)] * 4)
    found = HiddenDistillation(layers=layers, over=over).value(ctx)
    assert found.item() == pytest.approx(wanted)


def test_a_learned_map_stands_between_the_widths() -> None:
    ctx = context(
        hidden=[torch.ones(1, 2, 3)],
        hidden_teacher=[torch.zeros(1, 2, 5)],
        project=lambda k, state: state.mean(-1, keepdim=True).expand(1, 2, 5) * 2,
    )
    assert HiddenDistillation().value(ctx).item() == pytest.approx(4)


def test_attention_maps_differ_over_rows_of_real_tokens() -> None:
    torch.manual_seed(0)
    student, teacher = torch.rand(2, 2, 3, 3), torch.rand(2, 2, 3, 3)
    tokens = torch.tensor([[True, True, False], [True, True, True]])
    apart = (student - teacher).square()
    slow = [
        apart[b, h, i, j]
        for b in range(2)
        for h in range(2)
        for i in range(3)
        for j in range(3)
        if tokens[b, i]
    ]
    ctx = context(attentions=[student] * 2, attentions_teacher=[teacher] * 2, tokens=tokens)
    torch.testing.assert_close(AttentionDistillation().value(ctx), 2 * torch.stack(slow).mean())
    plain = AttentionDistillation(over="mean", padding=True).value(ctx)
    torch.testing.assert_close(plain, apart.mean())


def test_what_does_not_pair_is_refused_in_words() -> None:
    deep = context(hidden=[torch.zeros(1, 1, 2)] * 3, hidden_teacher=[torch.zeros(1, 1, 2)] * 2)
    with pytest.raises(SpecError, match="3 hidden states and the teacher 2"):
        HiddenDistillation().value(deep)
    wide = context(hidden=[torch.zeros(1, 1, 2)], hidden_teacher=[torch.zeros(1, 1, 4)])
    with pytest.raises(SpecError, match="2 wide and the teacher's 4; set hidden"):
        HiddenDistillation().value(wide)
    with pytest.raises(SpecError, match="gives 0 attention maps"):
        AttentionDistillation().value(context())
    heads = context(attentions=[torch.zeros(1, 2, 1, 1)], attentions_teacher=[torch.zeros(1, 3, 1, 1)])
    with pytest.raises(SpecError, match="2 heads and the teacher's 3"):
        AttentionDistillation().value(heads)
