"""Schedules, penalties and distillation against the worked numbers of the published code."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import SpecError
from analysis.parts.losses import (
    GatePenalty,
    LogitDistillation,
    LossContext,
    SigmoidPenalty,
    Task,
    distillation,
)
from analysis.parts.optim import AdamW
from analysis.parts.schedules import Constant, Cubic, OneShot
from analysis.parts.scores import GateLogit, Magnitude, Movement, Piece, Random

# T = 100, warm-up 10 steps x 1, cool-down 10 steps x 2: step, kept fraction (1 to .1), tau (0 to .1), lambda
# (final 400)
TABLE = [
    (0, 1.0, 0.0, 0.0),
    (10, 1.0, 0.0, 0.0),
    (11, 0.961977, 0.004225, 16.899),
    (30, 0.427988, 0.063557, 254.227),
    (50, 0.170845, 0.092128, 368.513),
    (70, 0.102624, 0.099708, 398.834),
    (80, 0.1, 0.1, 400.0),
    (81, 0.1, 0.1, 400.0),
    (100, 0.1, 0.1, 400.0),
]


@pytest.mark.parametrize(("step", "keep", "tau", "weight"), TABLE)
def test_cubic_table(step: int, keep: float, tau: float, weight: float) -> None:
    cubic = Cubic(warmup=0.1, cooldown=0.2)
    assert cubic.value(step / 100, 1.0, 0.1) == pytest.approx(keep, abs=1e-6)
    assert cubic.value(step / 100, 0.0, 0.1) == pytest.approx(tau, abs=1e-6)
    assert 400 * cubic.value(step / 100, 0.0, 1.0) == pytest.approx(weight, abs=1e-3)


@given(st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0, 1), st.floats(0, 1))
def test_cubic_is_monotone_and_bounded(warmup: float, cooldown: float, a: float, b: float) -> None:
    cubic = Cubic(warmup=warmup, cooldown=cooldown)
    first, second = (cubic.value(p, 1.0, 0.1) for p in sorted((a, b)))
    assert 0.1 <= second <= first + 1e-12 <= 1.0 + 1e-12


@given(st.floats(0.01, 0.45), st.floats(0.01, 0.45))
def test_cubic_is_continuous_at_both_ends(warmup: float, cooldown: float) -> None:
    cubic = Cubic(warmup=warmup, cooldown=cooldown)
    for edge in (warmup, 1 - cooldown):
        assert cubic.value(edge + 1e-9, 1.0, 0.1) == pytest.approx(
            cubic.value(edge - 1e-9, 1.0, 0.1), abs=1e-6
        )


@pytest.mark.parametrize(("warmup", "cooldown"), [(0.5, 0.5), (0.9, 0.2), (1.0, 0.0)])
def test_cubic_without_room_to_prune_is_refused(warmup: float, cooldown: float) -> None:
    with pytest.raises(SpecError, match=r"Cubic\.warmup"):
        Cubic(warmup=warmup, cooldown=cooldown)


def test_plain_schedules() -> None:
    assert Constant().value(0.0, 1.0, 0.3) == 0.3
    assert [OneShot(at=0.5).value(p, 1.0, 0.3) for p in (0.49, 0.5, 1.0)] == [1.0, 0.3, 0.3]


def _context(**given: object) -> LossContext:
    empty = {"task": torch.zeros(()), "logits": {}, "teacher": {}, "scores": []}
    return LossContext(**{**empty, **given})  # type: ignore[arg-type]


def test_penalty_is_a_double_mean() -> None:
    scores = [torch.zeros(2, 2, requires_grad=True), torch.zeros(4, 2, requires_grad=True)]
    value = SigmoidPenalty().value(_context(scores=scores))
    assert value.item() == 0.5
    value.backward()
    assert torch.equal(scores[0].grad, torch.full((2, 2), 0.03125))
    assert torch.equal(scores[1].grad, torch.full((4, 2), 0.015625))


def test_penalty_pulls_large_matrices_less() -> None:
    # BERT-base's 48 attention and 24 feed-forward matrices at 1/1024 of their size; lambda 400, S = 0.
    scores = [torch.zeros(576, requires_grad=True) for _ in range(48)]
    scores += [torch.zeros(2304, requires_grad=True) for _ in range(24)]
    (400 * SigmoidPenalty().value(_context(scores=scores))).backward()
    assert scores[0].grad[0].item() / 1024 == pytest.approx(2.35e-6, abs=5e-9)
    assert scores[-1].grad[0].item() / 1024 == pytest.approx(5.89e-7, abs=5e-10)


def test_gate_penalty_counts_expected_open_gates() -> None:
    assert GatePenalty().value(_context(scores=[torch.zeros(3), torch.zeros(5)])).item() == pytest.approx(
        0.83182, abs=5e-5
    )


def test_distillation_numbers() -> None:
    student, teacher = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[2.0, 0.0, -2.0]])
    task = torch.nn.functional.cross_entropy(student, torch.tensor([0]))
    assert task.item() == pytest.approx(0.407606, abs=1e-6)
    kd = distillation(student, teacher, 2.0)
    assert kd.item() == pytest.approx(0.241076, abs=1e-6)
    assert (0.1 * task + 0.9 * kd).item() == pytest.approx(0.257729, abs=1e-6)


def test_distillation_vanishes_only_for_equal_logits_up_to_a_constant() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.2, 0.1, 0.0]])
    assert distillation(logits, logits + torch.tensor([[5.0], [-2.0]]), 2.0).item() == pytest.approx(
        0, abs=1e-6
    )
    assert distillation(logits, logits.flip(0), 2.0).item() > 1e-3


def test_distillation_of_several_heads_is_their_mean() -> None:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    context = _context(
        logits={"start_logits": a, "end_logits": a}, teacher={"start_logits": b, "end_logits": a}
    )
    value = LogitDistillation().value(context)
    assert value.item() == pytest.approx(distillation(a, b, 2.0).item() / 2)
    plain = _context(logits={"logits": torch.tensor([[1.0]])}, teacher={"logits": torch.tensor([[3.0]])})
    assert LogitDistillation().value(plain).item() == 4.0


def test_padding_does_not_change_what_a_teacher_pulls() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, 3, generator=generator) for _ in range(2))
    counted = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 1, 0]]).bool()
    plain = distillation(student[counted], teacher[counted], 2.0)
    assert distillation(student, teacher, 2.0, counted).item() == pytest.approx(plain.item())
    longer = [torch.cat([t, torch.full((2, 4, 3), 9.0)], 1) for t in (student, teacher)]
    padded = torch.cat([counted, torch.zeros(2, 4).bool()], 1)
    assert distillation(*longer, 2.0, padded).item() == pytest.approx(plain.item())


def test_task_loss_is_passed_on() -> None:
    assert Task().value(_context(task=torch.tensor(0.7))).item() == pytest.approx(0.7)


def test_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([[-2.0, 1.0]])
    one, tripled = (Magnitude().of([Piece(w, (1, 2))], None) for w in (weight, -3 * weight))
    assert one.tolist() == [2.0, 1.0] and torch.equal(tripled, 3 * one)
    drawn = Random().init(2, generator)
    assert drawn.shape == (2,) and torch.equal(Random().of([], drawn), drawn)
    assert Movement().init(2, generator).tolist() == [0.0, 0.0]
    noisy = Movement(init_spread=0.5).init(1000, generator)
    assert noisy.min() >= -0.5 and noisy.max() <= 0.5 and noisy.std() > 0.2
    assert GateLogit().init(1, generator).item() == pytest.approx(2.197, abs=1e-3)
    signed = torch.tensor([-1.0, 0.5])
    assert torch.equal(Movement().of([], signed), signed)  # never |S|


def test_optimizer_groups_and_learning_rate() -> None:
    weight, bias, score = (torch.nn.Parameter(torch.ones(s)) for s in ((2, 2), (2,), (2, 2)))
    part = AdamW(lr=1e-3, weight_decay=0.1, warmup=0.1)
    optimizer = part.build([weight], [bias], [score], 0.01)
    by = {id(g["params"][0]): g for g in optimizer.param_groups}
    assert (by[id(score)]["weight_decay"], by[id(score)]["peak"], by[id(score)]["scores"]) == (
        0.0,
        0.01,
        True,
    )
    assert (by[id(weight)]["weight_decay"], by[id(weight)]["peak"]) == (0.1, 1e-3)
    assert by[id(bias)]["weight_decay"] == 0.0
    assert [round(part.factor(p), 6) for p in (0.0, 0.05, 0.1, 0.55, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]
