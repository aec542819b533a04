"""MLPruning: learned shares, the budget and its hinge, units of two levels, against worked numbers."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from analysis.errors import SpecError
from analysis.parts.gates import MaskGate
from analysis.parts.kept_heads import KeptHeadsDistillation
from analysis.parts.learned import (
    Budget,
    BudgetHinge,
    LearnedKeep,
    count_learned,
    expected_share,
    hinge_weight,
)
from analysis.parts.levels import MultiLevel
from analysis.parts.losses import LossContext
from analysis.parts.matching import AttentionDistillation
from analysis.parts.shares import Share, VotingBiasGate
from analysis.parts.units import Block, Shape, Window, expand, reduce
from analysis.recipes import build

D, F, HEADS = 768, 3072, 12
BERT = [
    Shape("q", "query", 0, D, D, HEADS, bias=True),
    Shape("k", "key", 0, D, D, HEADS, bias=True),
    Shape("v", "value", 0, D, D, HEADS, bias=True),
    Shape("o", "attention output", 0, D, D, HEADS, bias=True),
    Shape("in", "ffn in", 0, F, D, bias=True),
    Shape("out", "ffn out", 0, D, F, bias=True),
]


def logit(share: float) -> torch.Tensor:
    """A logit of a share; far out for 0 and 1."""
    return torch.tensor(math.log(share / (1 - share)) if 0 < share < 1 else (2 * share - 1) * 80.0)


def layer(h: float, o: float, f1: float, f2: float, target: float = 0.5) -> Budget:
    """The budget of one layer of BERT-base, its matrices and crossings taken from the units."""
    groups = MultiLevel().groups(BERT)
    kinds = {("heads", 0): h, ("rows", 3): o, ("neurons", 4): f1, ("rows", 5): f2}
    thetas = [logit(kinds[g.kind, next(m.site for m in g.members if m.ranks)]) for g in groups]
    reach = [tuple(n for n, g in enumerate(groups) if any(m.site == i for m in g.members)) for i in range(6)]
    sites = [(s.rows * s.cols, r) for s, r in zip(BERT, reach, strict=True)]
    return Budget(thetas, [g.units for g in groups], sites, target)


def context(budget: Budget | None) -> LossContext:
    return LossContext(torch.zeros(()), {}, {}, [], budget=budget)


def backward(theta: float, rule: str) -> tuple[torch.Tensor, torch.Tensor]:
    """M1: four units of one weight 1 each, upstream gradient (1, 2, 3, 4)."""
    gate = MaskGate(nn.Parameter(torch.tensor([0.4, -0.2, 0.1, 0.3])), torch.Size((4, 1)), (4, 1))
    gate.share = share = Share(theta, 4, LearnedKeep(rule=rule).rule == "consistent")
    assert gate.scores is not None
    (chosen,) = LearnedKeep().choose_by([gate.scores.detach()], [theta])
    assert chosen.tolist() == [True, False, False, True]
    share.chosen.copy_(chosen)
    gate.mask.copy_(chosen[:, None])
    weight = torch.ones(4, 1, requires_grad=True)
    (gate(weight) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])).sum().backward()
    assert weight.grad is not None and weight.grad.flatten().tolist() == [1, 0, 0, 4]
    assert gate.scores.grad is not None and share.theta.grad is not None
    return gate.scores.grad, share.theta.grad


def test_m1_half_of_four_and_both_gradients() -> None:
    assert count_learned(0.0, 4) == 2
    scores, theta = backward(0.0, "faithful")
    assert scores.tolist() == [1, 2, 3, 4] and theta.item() == 5
    scores, theta = backward(0.0, "consistent")
    assert scores.tolist() == [1, 2, 3, 4] and theta.item() == pytest.approx(5 * 0.25)


@pytest.mark.parametrize(
    ("theta", "n", "multiple", "k"),
    [
        *((10, n, 1, n) for n in (12, 768, 3072)),  # the published start keeps everything
        *((-1000, n, 1, 1) for n in (1, 12, 3072)),
        (-1000, 12, 32, 12),  # no multiple fits: all of them
        (4, 768, 1, 755),
        (4, 12, 1, 12),
    ],
)
def test_counts(theta: float, n: int, multiple: int, k: int) -> None:
    assert count_learned(theta, n, multiple) == k


def test_m2_the_share_of_a_layer_of_bert() -> None:
    found = [
        float(12 * expected_share(layer(*at)))
        for at in ((1, 1, 1, 1), (0.5, 0.5, 0.5, 0.5), (0.5, 1, 0.5, 1), (0, 0, 0, 0))
    ]
    assert found == pytest.approx([12, 4.75, 6, 0.251412], abs=2e-6)
    assert found[1] / 12 == pytest.approx(0.39583, abs=5e-6) and found[2] / 12 == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("p", "excess", "weight"),
    [(1, 0.25, 20000), (0.7, 0.04, 3200), (0.55, 0.0025, 200), (0.52, 0.0004, 50), (0.51, 0.0001, 10)],
)
def test_m3_the_coefficient_falls_with_the_gap(p: float, excess: float, weight: float) -> None:
    assert (p - 0.5) ** 2 == pytest.approx(excess)
    assert hinge_weight(excess, 0.5, 20000) == pytest.approx(weight)
    one = Budget([logit(p)], [10**9], [(100, (0,))], 0.5)
    assert BudgetHinge().value(context(one)).item() == pytest.approx(weight * excess, rel=1e-4)


def test_m3_switch_points() -> None:
    assert hinge_weight(0.0251**2, 0.5, 20000) > 50 == hinge_weight(0.0249**2, 0.5, 20000)
    assert (hinge_weight(0.01733**2, 0.5, 20000), hinge_weight(0.01731**2, 0.5, 20000)) == (50, 10)


def test_m3_the_start_is_the_strength_for_any_target() -> None:
    for target in (0.3, 0.5, 0.7):
        assert hinge_weight((1 - target) ** 2, target, 20000) == pytest.approx(20000)


def test_m4_all_logits_two() -> None:
    budget = dataclasses.replace(layer(0.5, 0.5, 0.5, 0.5), thetas=[torch.tensor(2.0)] * 4)
    p = float(expected_share(budget))
    excess = (p - 0.5) ** 2
    assert (p, excess) == (pytest.approx(0.837050, abs=1e-6), pytest.approx(0.113602, abs=1e-6))
    assert hinge_weight(excess, 0.5, 20000) == pytest.approx(9088.2, abs=0.1)


def test_the_coefficient_carries_no_gradient() -> None:
    theta = torch.tensor(2.0, requires_grad=True)
    BudgetHinge().value(context(Budget([theta], [1000], [(7, (0,))], 0.5))).backward()
    s = torch.sigmoid(torch.tensor(2.0))
    weight = 20000 * (s - 0.5) ** 2 / 0.25
    assert theta.grad is not None
    torch.testing.assert_close(theta.grad, weight * 2 * (s - 0.5) * s * (1 - s), rtol=1e-5, atol=0)


@pytest.mark.parametrize("share", [0.5, 0.4, 0.01])
def test_m9_no_gradient_once_the_budget_is_met(share: float) -> None:
    theta = logit(share).requires_grad_()
    value = BudgetHinge().value(context(Budget([theta], [1000], [(7, (0,))], 0.5)))
    value.backward()
    assert value.item() == 0 and theta.grad is not None and theta.grad.item() == 0


def test_a_target_of_everything_asks_nothing() -> None:
    theta = torch.tensor(3.0, requires_grad=True)
    BudgetHinge().value(context(Budget([theta], [10], [(7, (0,))], 1.3))).backward()
    assert theta.grad is not None and theta.grad.item() == 0


def test_a_hinge_without_shares_is_refused() -> None:
    with pytest.raises(SpecError, match="choose the select LearnedKeep"):
        BudgetHinge().value(context(None))


def test_m5_query_key_and_value_share_a_score_and_rows_cross_columns() -> None:
    heads, o, neurons, out = MultiLevel(tile=32).groups(BERT)
    assert [g.kind for g in (heads, o, neurons, out)] == ["heads", "rows", "neurons", "rows"]
    assert [(m.site, m.grid, m.ranks) for m in heads.members] == [
        *((i, (12, 1), True) for i in range(3)),
        (3, (1, 12), False),
    ]
    assert [(m.site, m.grid, m.ranks) for m in neurons.members] == [(4, (F, 1), True), (5, (1, F), False)]
    assert (o.units, o.members[0].site, out.units, out.members[0].site) == (D, 3, D, 5)
    assert [g.multiple for g in (heads, o, neurons, out)] == [1, 32, 32, 32]
    assert [g.multiple for g in MultiLevel(tile=32, round_up=False).groups(BERT)] == [1] * 4


def test_m7_rounding_up_revives_the_best_of_the_pruned() -> None:
    scores = torch.randn(D, generator=torch.Generator().manual_seed(0))
    theta = math.log(400.5 / (D - 400.5))
    (plain,), (rounded,) = (LearnedKeep().choose_by([scores], [theta], [m]) for m in (1, 32))
    assert (int(plain.sum()), int(rounded.sum())) == (401, 416)
    revived = rounded & ~plain
    assert not (plain & ~rounded).any()
    assert scores[revived].min() > scores[~rounded].max()


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_m8_windows_spread_and_collect_adjointly(rows: int, cols: int, side: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    own = [
        torch.randperm(n, generator=generator)[: max(1, n // 2)].sort().values.tolist() for n in (rows, cols)
    ]
    grid = Window(*own, side)
    units = torch.randn(grid[0] * grid[1], generator=generator, dtype=torch.float64)
    values = torch.randn(rows, cols, generator=generator, dtype=torch.float64)
    spread = expand(units, grid, rows, cols)
    assert (spread * values).sum().item() == pytest.approx(
        (units * reduce(values, grid)).sum().item(), abs=1e-12
    )
    inside = torch.zeros(rows, cols, dtype=torch.bool)
    inside[torch.tensor(own[0])[:, None], torch.tensor(own[1])] = True
    every = expand(torch.ones(len(units), dtype=torch.bool), grid, rows, cols)
    assert torch.equal(every, inside)  # all tiles kept leave what is inside as it was, and no more
    assert bool((values * every)[inside].eq(values[inside]).all())
    # Tiles cut the gathered matrix, not the dense one.
    gathered = spread[torch.tensor(own[0])][:, torch.tensor(own[1])]
    for i in range(len(own[0])):
        for j in range(len(own[1])):
            assert gathered[i, j] == units[(i // side) * grid[1] + j // side]


def test_m8_a_whole_matrix_is_tiled_like_blocks() -> None:
    tiles, blocks = MultiLevel(level="tiles", tile=32).groups(BERT), Block(32, 32).groups(BERT)
    assert [(g.units, g.members) for g in tiles] == [(g.units, g.members) for g in blocks]
    values = torch.randn(64, 96)
    window = Window(range(64), range(96), 32)
    torch.testing.assert_close(reduce(values, window), reduce(values, (2, 3)))
    assert torch.equal(expand(torch.arange(6.0), window, 64, 96), expand(torch.arange(6.0), (2, 3), 64, 96))


def test_tiles_lie_over_what_is_left_and_their_edges_may_be_smaller() -> None:
    left = dataclasses.replace(BERT[3], left=((0, 5, 7, 9, 10), tuple(range(64))))
    dead = dataclasses.replace(BERT[4], left=((), ()))
    groups = MultiLevel(level="tiles", tile=4).groups([left, dead])
    assert [(g.kind, g.units, g.members[0].grid) for g in groups] == [("tiles", 32, (2, 16))]
    assert reduce(torch.ones(D, D), groups[0].members[0].grid).tolist() == [16] * 16 + [4] * 16


def test_biases_count_for_the_rows_they_go_with() -> None:
    scores = nn.Parameter(torch.zeros(2))
    gate = VotingBiasGate(4, scores, share := Share(0.0, 2, False))
    gate.mask.copy_(torch.tensor([1.0, 1, 0, 0]))
    share.chosen.copy_(torch.tensor([1.0, 0]))
    bias = torch.tensor([1.0, 2, 3, 4], requires_grad=True)
    out = gate(bias)
    assert out.tolist() == [1, 2, 0, 0]
    (out * torch.tensor([1.0, 1, 1, 10])).sum().backward()
    assert bias.grad is not None and bias.grad.tolist() == [1, 1, 0, 0]
    assert scores.grad is not None and scores.grad.tolist() == [3, 43]
    assert share.theta.grad is not None and share.theta.grad.item() == 3


def test_attention_is_compared_where_a_head_is_left() -> None:
    torch.manual_seed(0)
    mine, theirs = (tuple(torch.rand(2, 3, 4, 4).softmax(-1) for _ in range(2)) for _ in range(2))
    kept = [torch.tensor([True, False, True]), torch.tensor([False, False, True])]
    ctx = dataclasses.replace(context(None), attentions=mine, attentions_teacher=theirs, heads=lambda: kept)
    wanted = sum((a[:, k] - b[:, k]).square().mean() for a, b, k in zip(mine, theirs, kept, strict=True))
    assert KeptHeadsDistillation().value(ctx).item() == pytest.approx(float(wanted), rel=1e-5)
    every = AttentionDistillation().value(ctx)
    assert torch.equal(KeptHeadsDistillation(heads="all").value(ctx), every) and every > 0
    none = dataclasses.replace(ctx, heads=lambda: [torch.zeros(3, dtype=torch.bool)] * 2)
    assert KeptHeadsDistillation().value(none) == 0
    with pytest.raises(SpecError, match="teacher with as many heads"):
        KeptHeadsDistillation().value(
            dataclasses.replace(ctx, attentions_teacher=tuple(t[:, :2] for t in theirs))
        )


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("mlpruning", {"penalty.type": "none"}, "select is LearnedKeep, .* but penalty is empty"),
        ("mlpruning", {"select.type": "TopK"}, "penalty is BudgetHinge, .* but select is TopK"),
        ("mlpruning", {"score.type": "Magnitude"}, "select is LearnedKeep, which needs a learned score"),
        ("l0", {"units.type": "MultiLevel"}, "units is MultiLevel, .* but reparam is HardConcrete"),
    ],
)
def test_line_ups_that_cannot_work_are_refused(recipe: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(recipe, "m", "t", settings=settings)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(SpecError, match=r"units is MultiLevel .* conv \(conv\): choose the units Weight"):
        MultiLevel().groups([Shape("conv", "conv", 0, 6, 36, area=9)])
