"""Grafting and its nested cuts against the literal numbers of the released code of SPD."""

from __future__ import annotations

import pytest
import torch

from analysis.errors import SpecError
from analysis.parts.graft import Graft, SoftClasses, replacing_rate
from analysis.parts.nested import NestedTopK, at_least, released_count
from analysis.parts.schedules import Events
from analysis.parts.select import count_kept
from analysis.recipes import build
from tests.parts.test_matching import STUDENT, TEACHER, context


@pytest.mark.parametrize(
    ("plan", "p0", "k", "n", "p1", "wanted"),
    [
        ("linear", 0.8, 0.05, 0, 0, [0.85, 0.9, 0.95, 1, 1, 1]),
        ("mixed", 0.8, 0.05, 4, 0, [0.8, 0.8, 0.8, 0.8, 0.85, 0.9, 0.95, 1, 1]),
        ("none", 0.5, 0, 3, 0, [0.5, 0.5, 1, 1]),
        ("gap", 0, 0.1, 3, 0.5, [0, 0, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1]),
    ],
)
def test_replacing_rates_after_each_step(
    plan: str, p0: float, k: float, n: float, p1: float, wanted: list[float]
) -> None:
    found = [replacing_rate(plan, c, p0, k, n, p1) for c in range(1, len(wanted) + 1)]
    assert found == pytest.approx(wanted)


def test_the_command_of_the_readme_never_reaches_one() -> None:
    """Linear with a slope of 0: four passes of five are the student's until the end."""
    assert {replacing_rate("linear", c, 0.8, 0.0, 0) for c in range(100_000)} == {0.8}


def test_the_ramp_of_rte() -> None:
    steps = 2490 / 32 * 10
    slope = (1 - 0.8) / steps
    assert (steps, slope) == (778.125, pytest.approx(0.000257028, abs=1e-9))
    assert replacing_rate("mixed", 2334, 0.8, slope, 2334) == 0.8
    assert replacing_rate("mixed", 2334 + 778, 0.8, slope, 2334) < 1
    assert replacing_rate("mixed", 2334 + 779, 0.8, slope, 2334) == 1


def test_the_ramp_is_a_share_of_the_run() -> None:
    graft = Graft()
    moments = (0, 0.39, 0.4, 0.45, 0.5, 0.6, 1)
    assert [graft.at(p) for p in moments] == pytest.approx([0.8, 0.8, 0.8, 0.85, 0.9, 1, 1])
    stages = ["prune", "prune", "ramp", "ramp", "ramp", "tune", "tune"]
    assert [graft.stage(p) for p in moments] == stages
    other = {"linear": [0.8, 0.9, 1, 1], "none": [0.8, 0.8, 1, 1], "gap": [0.8, 0.8, 0.5, 1]}
    for plan, wanted in other.items():
        assert [Graft(plan=plan).at(p) for p in (0, 0.1, 0.4, 0.6)] == pytest.approx(wanted)
    assert graft.at(160 / 400) == 0.8 and graft.stage(58 / 145) == "ramp"
    assert Graft(plan="none", begin=1.0).at(0.999) == 0.8


def test_the_learning_rate_runs_its_course_twice() -> None:
    parts = build("spd", "m", "t", settings={"optimizer.warmup": 0}).parts
    moments = (0, 0.2, 0.399999, 0.4, 0.7, 1)
    assert [parts.pace(p) for p in moments] == pytest.approx([1, 0.5, 0, 1, 0.5, 0], abs=1e-5)
    once = build("spd", "m", "t", settings={"optimizer.warmup": 0, "graft.rewind": False}).parts
    assert [once.pace(p) for p in moments] == pytest.approx([1 - p for p in moments])
    assert [Graft(begin=b).paced(0.3) for b in (0, 1)] == [0.3, 0.3]
    plain = build("movement", "m", "t").parts
    assert plain.pace(0.3) == plain.optimizer.factor(0.3)


S4 = [0.2238, 0.4071, 0.5538, 0.6681, 0.7539, 0.8155, 0.8567, 0.8817, 0.8946, 0.8993, 0.9]


@pytest.mark.parametrize(
    ("examples", "stage", "every", "last"), [(3668, 3420, 286, 3146), (2490, 2310, 194, 2134)]
)
def test_the_cuts_of_mrpc_and_rte(examples: int, stage: int, every: int, last: int) -> None:
    assert (examples // 32 * 30, int(examples / 32 * 30 / 12)) == (stage, every)
    schedule = Events(interval=every / stage, cooldown=0)
    values = [1 - schedule.value(step / stage, 1.0, 0.1) for step in range(stage + 1)]
    moved = [step for step in range(1, stage + 1) if values[step] != values[step - 1]]
    assert moved == [every * k for k in range(1, 12)] and moved[-1] == last
    assert [values[step] for step in moved] == pytest.approx(S4, abs=6e-5)
    assert schedule.cuts == 11


def test_the_default_makes_the_same_cuts_in_the_first_stage() -> None:
    schedule = Events()
    values = [1 - schedule.value(step / 10_000, 1.0, 0.1) for step in range(10_001)]
    moved = [step for step in range(1, 10_001) if values[step] != values[step - 1]]
    assert [values[step] for step in moved] == pytest.approx(S4, abs=6e-5)
    assert (moved[0], moved[-1]) == (336, 3696)
    assert values[-1] == 0.9


def test_a_stage_that_the_interval_divides_needs_its_last_cut_forced() -> None:
    released, forced = (Events(interval=1 / 12, cooldown=0.5, forced=f) for f in (False, True))
    assert 1 - released.value(1.0, 1.0, 0.1) == pytest.approx(0.8995, abs=3e-5)
    assert 1 - released.value(1.0, 1.0, 0.1) == pytest.approx(0.9 * (1 - (1 / 12) ** 3))
    assert forced.value(0.4999, 1.0, 0.1) == released.value(1.0, 1.0, 0.1)
    assert forced.value(0.5, 1.0, 0.1) == forced.value(1.0, 1.0, 0.1) == 0.1
    assert Events(interval=1.0, cooldown=0.5).value(0.49, 1.0, 0.1) == 1.0
    assert Events(interval=1.0, cooldown=0.5).value(0.5, 1.0, 0.1) == 0.1


def test_three_of_six_by_magnitude() -> None:
    size = torch.tensor([0.3, -0.1, 0.2, -0.5, 0.4, 0.05]).abs()
    for rule in ("exact", "faithful"):
        (mask,) = NestedTopK(rule=rule).choose([size], 0.5)
        assert mask.int().tolist() == [1, 0, 0, 1, 1, 0]


def test_the_count_of_the_reference_loses_one() -> None:
    assert (released_count(0.1, 1000), count_kept(0.1, 1000)) == (99, 100)
    torch.manual_seed(0)
    scores = torch.randn(1000).abs()
    kept = {rule: int(NestedTopK(rule=rule).choose([scores], 0.1)[0].sum()) for rule in ("exact", "faithful")}
    assert kept == {"exact": 100, "faithful": 99}


def test_a_threshold_of_zero_takes_every_cut_back_unless_the_cut_ones_are_out() -> None:
    size = torch.tensor([5.0, 0, 0, 0, 0, 0])
    assert at_least([size], 3)[0].all()
    living = torch.tensor([5.0, 0, 0, -torch.inf, -torch.inf, -torch.inf])
    for rule in ("exact", "faithful"):
        assert NestedTopK(rule=rule).choose([living], 0.5)[0].int().tolist() == [1, 1, 1, 0, 0, 0]


def test_one_threshold_over_all_matrices() -> None:
    pair = [torch.tensor([4.0, 3.0]), torch.tensor([2.0, 1.0])]
    for rule in ("exact", "faithful"):
        chosen = NestedTopK(rule=rule, scope="global").choose(pair, 0.5)
        assert [m.tolist() for m in chosen] == [[True, True], [False, False]]


def test_classes_follow_the_teacher_and_a_number_its_label() -> None:
    ctx = context(
        logits={"logits": STUDENT}, teacher={"logits": TEACHER}, targets={"logits": torch.tensor([0, 1])}
    )
    assert SoftClasses().value(ctx).item() == pytest.approx(0.7796963, abs=1e-6)
    assert SoftClasses(over="classes").value(ctx).item() == pytest.approx(0.3898481, abs=1e-6)
    number = context(
        logits={"logits": torch.tensor([[1.0], [2.0]])},
        teacher={"logits": torch.tensor([[9.0], [9.0]])},
        targets={"logits": torch.tensor([3.0, 2.0])},
    )
    assert SoftClasses().value(number).item() == 2.0


def test_what_a_graft_does_not_go_with() -> None:
    with pytest.raises(
        SpecError, match=r"graft is Graft, which borrows .*SelfDistillation.*choose SoftTargets"
    ):
        build("spd", "m", "t", settings={"distillation.type": "SelfDistillation"})
    with pytest.raises(SpecError, match="graft needs a teacher"):
        build("movement", "m", "t", settings={"graft.type": "Graft"})
    with pytest.raises(SpecError, match=r"Graft\.plan is 'sudden'; allowed is one of 'mixed', 'linear'"):
        Graft(plan="sudden")
    with pytest.raises(SpecError, match=r"Graft\.ramp is 0; allowed is a number in \(0, 1\]"):
        Graft(ramp=0)
