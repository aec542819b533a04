"""GRAIN's parts against worked numbers: score, damping, average, budget with closure, schedule, losses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import transformers as hf

from analysis.engine.sites import find_sites
from analysis.errors import SpecError
from analysis.parts.budget import ParameterBudget, density
from analysis.parts.matching import masked_mse, soft_cross_entropy
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Piece, Standing
from analysis.parts.taylor import Taylor, damping, scaling
from analysis.parts.units import Group, Structure
from analysis.recipes import RECIPES, build

FFN = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3]
INNER = [0.5, 0.6, 0.7, 0.8, 0.45, 0.55, 0.65, 0.75]
OUTER = [0.01, 0.02, 0.03, 0.04, 0.95, 0.96, 0.97, 0.98]
# One layer of width 8 with two heads of 4 and six neurons: 382 parameters.
TOY = [
    Group("query-key dims", 0, 8, (), 16, 18, "attention", 2),
    Group("value dims", 0, 8, (), 16, 17, "attention", 2),
    Group("neurons", 0, 6, (), 16, 17, "ffn"),
]
TABLES = [torch.tensor(t) for t in (INNER, OUTER, FFN)]


def in_order(
    select: ParameterBudget, targets: Sequence[float], last: bool = False
) -> list[list[torch.Tensor]]:
    """Selections one after the other; what is cut is shown as -inf to the next."""
    alive, found = [torch.ones_like(t, dtype=torch.bool) for t in TABLES], []
    for target in targets:
        scores = [t.masked_fill(~a, -torch.inf) for t, a in zip(TABLES, alive, strict=True)]
        alive = select.pick(scores, target, TOY, last)
        found.append(alive)
    return found


def gone(kept: list[torch.Tensor]) -> list[list[int]]:
    return [(~k).nonzero().flatten().tolist() for k in kept]


def left(kept: list[torch.Tensor], groups: Sequence[Group] = TOY) -> float:
    return density([float(k.sum()) for k in kept], groups)


def test_faithful_budget_overshoots_by_the_closure() -> None:
    """The table of the reference: dimensions of query and key, of value, neurons that are gone."""
    found = in_order(ParameterBudget(closure_in_budget=False), [0.90, 0.75, 0.70, 0.50])
    assert [gone(f) for f in found] == [
        [[], [0, 1], []],
        [[0, 1, 2, 3], [0, 1, 2, 3], [1]],
        [[0, 1, 2, 3], [0, 1, 2, 3], [1]],
        [[0, 1, 2, 3], [0, 1, 2, 3], [1, 3]],
    ]
    assert [left(f) for f in found] == [348 / 382, 225 / 382, 225 / 382, 208 / 382]


def test_exact_budget_counts_the_closure_and_waits_for_it() -> None:
    """The fourth value dimension takes 72 parameters of query and key with it: 140 of 382 in all."""
    found = in_order(ParameterBudget(), [0.90, 0.75, 0.70, 0.50])
    assert [gone(f) for f in found] == [
        [[], [0, 1, 2], []],
        [[], [0, 1, 2], []],  # 95.5 may go, 113.5 with one unit more
        [[], [0, 1, 2], []],  # 114.6, and 132.6
        [[0, 1, 2, 3], [0, 1, 2, 3], [1, 3, 5]],
    ]
    assert left(found[-1]) == 0.5


@pytest.mark.parametrize("target", [0.9, 0.75, 0.7, 0.5, 0.31, 0.1])
def test_the_last_cut_meets_the_budget_to_within_a_unit(target: float) -> None:
    (kept,) = in_order(ParameterBudget(), [target], last=True)
    assert target * 382 - 18 < left(kept) * 382 <= target * 382
    if target == 0.75:  # the head that is too large is passed over
        assert gone(kept) == [[], [0, 1, 2], [1, 3, 5]]


def test_the_budget_is_nested_whatever_the_scores_do() -> None:
    generator = torch.Generator().manual_seed(0)
    for exact in (True, False):
        alive = [torch.ones(g.units, dtype=torch.bool) for g in TOY]
        for target in (0.9, 0.8, 0.6, 0.4, 0.2):
            fresh = [torch.rand(g.units, generator=generator) for g in TOY]
            scores = [t.masked_fill(~a, -torch.inf) for t, a in zip(fresh, alive, strict=True)]
            now = ParameterBudget(closure_in_budget=exact).pick(scores, target, TOY)
            assert not any(bool((n & ~a).any()) for n, a in zip(now, alive, strict=True))
            alive = now
            for head in (0, 1):  # no head without value dimensions keeps any of query and key
                piece = slice(4 * head, 4 * head + 4)
                assert alive[1][piece].any() or not alive[0][piece].any()


def test_ties_nothing_and_everything() -> None:
    flat = [torch.zeros(g.units) for g in TOY]
    assert gone(ParameterBudget().pick(flat, 1.0, TOY)) == [[], [], []]
    assert gone(ParameterBudget().pick(flat, 0.95, TOY)) == [[], [], [4, 5]]  # of equal scores the later goes
    assert left(ParameterBudget().pick(flat, 1e-9, TOY)) == 0
    nan = [torch.full((g.units,), torch.nan) for g in TOY]
    assert left(ParameterBudget().pick(nan, 0.5, TOY)) <= 0.5
    plain = ParameterBudget().choose([torch.tensor([0.3, 0.1]), torch.tensor([0.2])], 0.5, [10, 30])
    assert [k.tolist() for k in plain] == [[True, False], [False]]


def test_costs_of_bert_base() -> None:
    with torch.device("meta"):
        model = hf.BertModel(hf.BertConfig())
    groups = Structure(attention="dims", ffn="neurons").groups([s.shape for s in find_sites(model)])
    found = {kind: {g.cost for g in groups if g.kind == kind} for kind in {g.kind for g in groups}}
    assert found == {"neurons": {2 * 768 + 1}, "query-key dims": {2 * 768 + 2}, "value dims": {2 * 768 + 1}}
    units = {kind: sum(g.units for g in groups if g.kind == kind) for kind in found}
    assert units == {"neurons": 36_864, "query-key dims": 9_216, "value dims": 9_216}
    assert sum(g.units * g.cost for g in groups) == 84_999_168
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert encoder == 85_054_464 and encoder - 84_999_168 == 55_296
    assert {g.heads for g in groups if g.part == "attention"} == {12}


@pytest.mark.parametrize(
    ("heads", "inner", "outer", "width", "wanted"),
    [(95, 9.8, 8.2, 87.9, 0.0500), (25, 28.6, 28.5, 106.1, 0.0488)],
)
def test_density_of_the_papers_structures(
    heads: int, inner: float, outer: float, width: float, wanted: float
) -> None:
    """QNLI at 5 %, without and with damping: sizes that the paper prints come to the density it asked for."""
    kinds = [("query-key dims", 9_216, 1538), ("value dims", 9_216, 1537), ("neurons", 36_864, 1537)]
    whole = [Group(kind, 0, units, (), 1536, cost) for kind, units, cost in kinds]
    assert density([heads * inner, heads * outer, 12 * width], whole) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (200, 1.0),
        (201, 0.985821),
        (250, 0.450781),
        (300, 0.16875),
        (350, 0.064844),
        (399, 0.0500001),
        (400, 0.05),
        (900, 0.05),
    ],
)
def test_schedule(step: int, wanted: float) -> None:
    schedule = RECIPES["grain"].lineup.schedule
    assert schedule == Cubic(warmup=0.2, cooldown=0.6)
    assert schedule.value(step / 1000, 1.0, 0.05) == pytest.approx(wanted, abs=5e-7)


def test_a_last_cut_comes_even_when_few_are_made() -> None:
    """Cutting at every 50th step alone would end at 0.0648; from 0.4 on the schedule itself says 0.05."""
    schedule = RECIPES["grain"].lineup.schedule
    assert schedule.value(350 / 1000, 1.0, 0.05) == pytest.approx(0.064844, abs=1e-6)
    assert schedule.value(1.0, 1.0, 0.05) == 0.05


def test_damping() -> None:
    """D of 1, .75, .5, .25, 0 of four value dimensions a head, and of a head with one in ten."""
    alive = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    found = damping(alive.flatten(), 5, 0.3).view(5, 4)
    assert torch.equal(found, found[:, :1].expand(5, 4))
    assert found[:, 0].tolist() == pytest.approx([0.99746, 0.98661, 0.93111, 0.68226, 0], abs=5e-6)
    thin = torch.arange(10) < 1
    assert damping(thin, 1, 0.3)[0].item() == pytest.approx(0.32151, abs=5e-6)
    assert damping(alive.flatten(), 5, 0.0).tolist() == [1.0] * 20


def piece(weight: Sequence[float], gradient: Sequence[float], role: str = "attention output") -> Piece:
    w, g = torch.tensor([list(weight)]), torch.tensor([list(gradient)])
    return Piece(w, (1, len(weight)), role, gradient=g)


def test_the_average_takes_in_damped_updates() -> None:
    score, state = Taylor(horizon=0, beta=0.998), torch.zeros(8)
    alive = torch.tensor([1, 1, 1, 1, 1, 0, 0, 0]).bool()
    ones = piece([1.0] * 8, [1.0] * 8)
    score.watch(state, [ones], Standing("value dims", 2, alive, 1000))
    assert state[:4].tolist() == pytest.approx([0.001995] * 4, abs=5e-7)
    assert state[4].item() == pytest.approx(0.001365, abs=5e-7)
    assert state[5:].tolist() == [0, 0, 0]  # what is cut keeps its last score
    other = torch.zeros(8)
    score.watch(other, [ones], Standing("neurons", 0, alive, 1000))
    assert other[:5].tolist() == pytest.approx([0.002] * 5)


def test_the_memory_is_a_share_of_the_run() -> None:
    assert Taylor().memory(1000) == pytest.approx(0.99)
    assert Taylor().memory(5000) == pytest.approx(0.998)
    assert Taylor().memory(5) == 0
    assert Taylor(horizon=0).memory(5) == 0.998


def test_the_sign_goes_after_the_sum() -> None:
    opposed = Piece(torch.tensor([[1.0], [1.0]]), (1, 1), "ffn out", gradient=torch.tensor([[2.0], [-2.0]]))
    assert scaling([opposed]).tolist() == [0]
    worked = piece([1.0, 2.0, -1.0], [0.1, 0.01, 0.05], "other")
    assert scaling([worked]).tolist() == pytest.approx([0.1, 0.02, 0.05])
    together = piece([1.0, 2.0, -1.0], [0.1, 1.01, 0.05], "other")  # with the loss w1, whose gradient is 1
    assert scaling([together]).tolist() == pytest.approx([0.1, 2.02, 0.05])


def test_the_side_that_is_read() -> None:
    """Neurons by the way out, value dimensions by the output, query-key dimensions by query and its bias."""
    one, two = torch.ones(2, 3), torch.full((2, 3), 2.0)
    rows = Piece(
        one, (2, 1), "query", gradient=two, bias=torch.tensor([1.0, -1.0]), bias_gradient=torch.ones(2)
    )
    key = Piece(one * 100, (2, 1), "key", gradient=two, bias=torch.ones(2), bias_gradient=torch.ones(2))
    assert scaling([rows, key]).tolist() == [7, 5]
    into, out = Piece(one, (2, 1), "ffn in", gradient=two), Piece(one.T, (1, 2), "ffn out", gradient=one.T)
    assert scaling([into, out]).tolist() == [3, 3]
    value = Piece(one, (2, 1), "value", gradient=two)
    output = Piece(one.T, (1, 2), "attention output", gradient=one.T * 5)
    assert scaling([value, output]).tolist() == [15, 15]
    nothing = Piece(one.T * 0, (1, 2), "ffn out", gradient=one.T)
    assert scaling([into, nothing]).tolist() == [0, 0]


def test_losses() -> None:
    student, teacher = torch.tensor([[2.0, 0, -1]]), torch.tensor([[1.0, 1, -2]])
    assert soft_cross_entropy(student, teacher, 8.0).item() == pytest.approx(1.0915728, abs=1e-6)
    assert soft_cross_entropy(student, teacher, 1.0).item() == pytest.approx(1.2184238, abs=1e-6)
    zeros, ones = torch.zeros(1, 3, 4), torch.ones(1, 3, 4)
    real = torch.tensor([[True, True, False]])
    assert masked_mse(zeros, ones, real).item() == 1.0
    ones[0, 2] = 5.0
    assert masked_mse(zeros, ones, real).item() == 1.0
    assert masked_mse(zeros, ones).item() == 9.0


def test_what_goes_with_it() -> None:
    loose = {"distillation.type": "none"}
    with pytest.raises(SpecError, match=r"sees the task and distillation losses only.*set task\.weight=1"):
        build("grain", "m", "t", settings=loose)
    build("grain", "m", "t", settings={**loose, "score.separation": False})
    with pytest.raises(SpecError, match=r"score is Taylor, measured on the weights as stored"):
        build("grain", "m", "t", settings={"reparam.type": "SignedPower"})
    for score in ("Random", "Magnitude", "Norm", "Movement"):
        build("grain", "m", "t", settings={"score.type": score})
