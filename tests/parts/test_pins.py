"""PINS: the score, its smoothing, the schedule, the cut and the gated loss against worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from analysis.errors import SpecError
from analysis.parts.floor import GlobalCut
from analysis.parts.gates import ZeroGate
from analysis.parts.losses import LossContext
from analysis.parts.schedules import CubicEvery
from analysis.parts.scores import Piece
from analysis.parts.selfteach import SelfDistillation, confidence, gated, imitation
from analysis.parts.sensitivity import Sensitivity, advantage, smoothed

WEIGHT = torch.tensor([1.0, 1.0, -2.0, 0.0, 0.5])
SLOPE = torch.tensor([-3.0, 2.0, 1.0, 4.0, -0.1])


def top(scores: torch.Tensor, k: int) -> set[int]:
    return set(torch.topk(scores, k).indices.tolist())


def test_the_score_of_five_weights() -> None:
    found = advantage(WEIGHT, SLOPE, 0.01)
    torch.testing.assert_close(found, torch.tensor([3.09, -1.96, 2.01, 0.16, 0.0501]))
    torch.testing.assert_close(-WEIGHT * SLOPE, torch.tensor([3, -2, 2, 0, 0.05]))  # movement's increment
    assert top(found, 2) == top(found.abs(), 2) == {0, 2}
    assert (top(found, 3), top(found.abs(), 3)) == ({0, 2, 3}, {0, 2, 1})


def test_the_score_is_the_gradient_times_the_updated_weight() -> None:
    torch.manual_seed(0)
    w, g = torch.randn(2, 1000, dtype=torch.float64)
    torch.testing.assert_close(advantage(w, g, 0.3).abs(), (g * (w - 0.3 * g)).abs(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("w", "c", "score", "truth"), [(1, 2, 1.1, 1.595), (0, 2, 0.4, 0.38), (1, 0.5, -0.475, 0.024)]
)
def test_first_order_against_the_truth(w: float, c: float, score: float, truth: float) -> None:
    slope = w - c
    found = advantage(torch.tensor(float(w)), torch.tensor(float(slope)), 0.1)
    assert found.item() == pytest.approx(score, abs=1e-6)
    loss = lambda x: (x - c) ** 2 / 2  # noqa: E731
    assert loss(0) - loss(w - 0.1 * slope) == pytest.approx(truth, abs=6e-4)


STATES = [  # |S|, then m, I, U, I * U
    (4, 4, 0, 0, 0),
    (2, 3, 0, 0, 0),
    (6, 6, 1.5, 0.75, 1.125),
    (10, 8, 1.5, 0.75, 1.125),
    (1, 1, 4.75, 2.0, 9.5),
    (3, 2, 4.75, 2.0, 9.5),
    (5, 5, 3.375, 1.6875, 5.6953125),
]


def test_the_state_of_one_weight_over_seven_steps() -> None:
    part = Sensitivity(window=2, memory=0.5, doubt=0.5)
    state = part.init(1, torch.Generator())
    for step, (value, mean, average, deviation, score) in enumerate(STATES):
        # |S| of a weight at 1 with gradient -value and no learning rate is the value.
        piece = Piece(torch.ones(1, 1), (1, 1), gradient=torch.full((1, 1), float(-value)))
        part.observe(state, [piece], 0.0, step)
        assert state.flatten().tolist() == [mean, average, deviation]
        assert part.of([piece], state).tolist() == [score]
    assert Sensitivity(doubt=1.0).of([], state).tolist() == [3.375]
    assert Sensitivity(doubt=0.0).of([], state).tolist() == [pytest.approx(3.375 * abs(5 - 3.375))]


def test_a_unit_sums_before_the_sign_is_dropped_and_signed_keeps_it() -> None:
    piece = Piece(torch.ones(2, 2), (2, 1), gradient=torch.tensor([[1.0, -3.0], [2.0, 1.0]]))
    seen = {}
    for part in (Sensitivity(window=1), Sensitivity(window=1, sign="signed", doubt=1.0)):
        state = part.init(2, torch.Generator())
        part.observe(state, [piece], 0.1, 0)
        seen[part.sign] = state[0].tolist()
    assert seen["signed"] == pytest.approx([3.0, -2.5]) and seen["abs"] == pytest.approx([3.0, 2.5])
    with pytest.raises(SpecError, match=r"Sensitivity.sign is 'signed' with Sensitivity.doubt 0.95"):
        Sensitivity(sign="signed")
    assert smoothed(torch.zeros(3, 1), torch.ones(1), 0, 0.5, 0.5).flatten().tolist() == [1, 0, 0]


SCHEDULE = [  # step, density, applied
    (200, 1.0, None),
    (201, 0.998605, False),
    (210, 0.986127, True),
    (630, 0.5375, True),
    (1060, 0.30, True),
    (1490, 0.2125, True),
    (1920, 0.2, True),
    (1921, 0.2, True),
    (1923, 0.2, True),
]


@pytest.mark.parametrize(("step", "density", "applied"), SCHEDULE)
def test_schedule_table(step: int, density: float, applied: bool | None) -> None:
    part = CubicEvery(warmup=200 / 3120, cooldown=1200 / 3120, every=10)
    assert part.value(step / 3120, 1.0, 0.2) == pytest.approx(density, abs=1e-6)
    if applied is not None:
        assert part.due(step / 3120, step) == applied


def test_the_cut_exactly_and_as_the_reference_makes_it() -> None:
    ten = torch.tensor([5.0, 1, 4, 2, 3, 8, 7, 6, 10, 9])
    exact, faithful = GlobalCut(), GlobalCut(rule="faithful")
    assert exact.choose([ten], 0.3)[0].nonzero().flatten().tolist() == [5, 8, 9]
    assert faithful.choose([ten], 0.3)[0].nonzero().flatten().tolist() == [5, 6, 8, 9]
    thousand = list(torch.randperm(1000, generator=torch.Generator().manual_seed(0)).float().split(300))
    assert sum(int(m.sum()) for m in exact.choose(thousand, 0.1)) == 100
    assert sum(int(m.sum()) for m in faithful.choose(thousand, 0.1)) == 101
    tied = torch.tensor([0.0, 0, 0, 0, 0, 8, 7, 6, 10, 9])
    assert int(faithful.choose([tied], 0.7)[0].sum()) == 10  # nothing is strictly below the tie
    assert int(exact.choose([tied], 0.7)[0].sum()) == 7
    for part in (exact, faithful):
        assert part.choose([ten], 0.9999)[0].sum() == (9 if part is exact else 10)  # k = 0 is no cut
        assert bool(part.choose([ten], 1.0)[0].all())


STUDENT = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.5, -0.5], [5.0, -5.0]])
TEACHER = torch.tensor([[1.0, -1.0]]).expand(4, 2)
LABELS = torch.tensor([0, 1, 0, 0])


def test_the_gated_loss_of_four_examples() -> None:
    close = {"atol": 5e-5, "rtol": 0}
    torch.testing.assert_close(confidence(STUDENT), torch.tensor([0.4729, 0, 0.1601, 0.9993]), **close)
    kd = imitation(STUDENT, TEACHER, 2.0)
    torch.testing.assert_close(kd, torch.tensor([2.3288, 2.7726, 2.4342, 5.4057]), **close)
    ce = nn.functional.cross_entropy(STUDENT, LABELS, reduction="none")
    torch.testing.assert_close(ce, torch.tensor([0.1269, 0.6931, 0.3133, 0.0000454]), **close)
    rows = gated(STUDENT, TEACHER, LABELS, 2.0)
    torch.testing.assert_close(rows, torch.tensor([1.1683, 0.6931, 0.6527, 5.4018]), **close)
    assert rows.mean().item() == pytest.approx(1.9790, abs=5e-5)
    entropy = 4 * -(torch.softmax(TEACHER / 2, -1) * torch.log_softmax(TEACHER / 2, -1)).sum(-1)
    torch.testing.assert_close(kd - entropy, torch.tensor([0, 0.4438, 0.1054, 3.0769]), **close)


def test_confidence_has_no_gradient_and_ignores_constants() -> None:
    logits = torch.randn(5, 4, requires_grad=True)
    found = confidence(logits)
    assert not found.requires_grad and float(found.min()) >= 0
    torch.testing.assert_close(confidence(logits + 3.0), found)
    assert confidence(torch.zeros(1, 4)).item() == pytest.approx(0, abs=1e-6)
    assert confidence(torch.tensor([[50.0, 0, 0, 0]])).item() == pytest.approx(1, abs=1e-6)


def context(**given: object) -> LossContext:
    plain = {"task": torch.tensor(7.0), "logits": {"logits": STUDENT}, "teacher": {}, "scores": []}
    return LossContext(**{**plain, **given})  # type: ignore[arg-type]


def test_the_loss_is_the_labels_until_there_is_a_teacher_and_padding_does_not_count() -> None:
    part = SelfDistillation()
    assert part.value(context()).item() == 7.0
    taught = context(teacher={"logits": TEACHER}, targets={"logits": LABELS})
    assert part.value(taught).item() == pytest.approx(1.9790, abs=5e-5)
    padded = context(teacher={"logits": TEACHER}, targets={"logits": torch.tensor([0, -100, 0, -100])})
    assert part.value(padded).item() == pytest.approx((1.1683 + 0.6527) / 2, abs=5e-5)
    two = {"start_logits": STUDENT, "end_logits": STUDENT}
    places = {"start_logits": LABELS, "end_logits": torch.tensor([9, 9, 9, 9])}  # ends outside the window
    answers = context(logits=two, teacher=dict.fromkeys(two, TEACHER), targets=places)
    assert part.value(answers).item() == pytest.approx(1.9790, abs=5e-5)
    none = context(teacher={"logits": TEACHER}, targets={"logits": torch.full((4,), -100)})
    assert part.value(none).item() == 7.0


def test_which_evaluations_make_a_teacher() -> None:
    best, latest, third = (SelfDistillation(policy=p, every=3) for p in ("best", "latest", "every"))
    assert not any(p.takes(0.9, -math.inf, 1, 0.05) for p in (best, latest, third))  # too early
    assert [best.takes(v, 0.8, 2, 0.5) for v in (0.8, 0.81)] == [False, True]
    assert latest.takes(0.1, 0.9, 2, 0.5)
    assert [third.takes(0.1, 0.9, n, 0.5) for n in range(1, 7)] == [False, False, True] * 2


def test_the_forward_is_whole_in_training_and_masked_outside_of_it() -> None:
    layer = nn.Linear(2, 2, bias=False)
    nn.init.ones_(layer.weight)
    gate = ZeroGate(None, layer.weight.shape, (2, 2))
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    gate.mask.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert layer.train()(torch.ones(1, 2)).tolist() == [[2, 2]]
    assert layer.eval()(torch.ones(1, 2)).tolist() == [[1, 1]]
    assert gate.final(torch.ones(2, 2)).tolist() == [[1, 0], [0, 1]]
