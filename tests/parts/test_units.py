"""Units: groups of every kind on a small transformer and a convolution, expansion and its adjoint, shared
scores.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import SpecError
from analysis.parts.gates import BiasGate, StraightThrough
from analysis.parts.losses import BalancedPenalty, LossContext, SigmoidPenalty
from analysis.parts.scores import Magnitude, Norm, Piece
from analysis.parts.select import SigmoidThreshold, TopK
from analysis.parts.units import Block, Column, Row, Shape, Structure, Units, Weight, expand, reduce

HIDDEN, INNER, HEADS = 8, 12, 2
LAYER = [
    Shape("q", "query", 0, HIDDEN, HIDDEN, HEADS, bias=True),
    Shape("k", "key", 0, HIDDEN, HIDDEN, HEADS, bias=True),
    Shape("v", "value", 0, HIDDEN, HIDDEN, HEADS, bias=True),
    Shape("o", "attention output", 0, HIDDEN, HIDDEN, HEADS, bias=True),
    Shape("in", "ffn in", 0, INNER, HIDDEN, bias=True),
    Shape("out", "ffn out", 0, HIDDEN, INNER, bias=True),
]
CONV = Shape("conv", "conv", 0, 6, 4 * 9, area=9)
BLOCK = [  # a bottleneck of widths 4 inside 16, and its shortcut
    Shape("one", "conv", 0, 4, 16, norm=True),
    Shape("two", "conv", 0, 4, 4 * 9, area=9, norm=True, reads="one"),
    Shape("three", "conv", 0, 16, 4, reads="two"),
    Shape("shortcut", "conv", 0, 16, 16),
]
EVERY = [Weight(), Block(rows=2, cols=4), Row(), Column(), Structure(), Structure(attention="dims")]


def test_a_block_score_governs_its_block_and_sums_its_gradients() -> None:
    scores = torch.tensor([1.0, -1.0, 0.5, 2.0], requires_grad=True)
    (chosen,) = SigmoidThreshold(tau=0.6, min_keep=0).choose([scores.detach()], 0.6)
    assert chosen.tolist() == [True, False, True, True]
    mask = expand(chosen, (2, 2), 4, 4)
    assert mask.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    weight = torch.arange(16.0).view(4, 4).requires_grad_()
    (StraightThrough.apply(weight, scores, mask.float(), (2, 2)) * torch.ones(4, 4)).sum().backward()
    assert scores.grad is not None and scores.grad.tolist() == [10, 18, 42, 50]
    assert weight.grad is not None and weight.grad.tolist() == mask.float().tolist()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31 - 1))
def test_reduce_is_the_adjoint_of_expand(down: int, across: int, p: int, q: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    units = torch.randn(down * across, generator=generator, dtype=torch.float64)
    values = torch.randn(down * p, across * q, generator=generator, dtype=torch.float64)
    one = (expand(units, (down, across), down * p, across * q) * values).sum()
    two = (units * reduce(values, (down, across))).sum()
    assert one.item() == pytest.approx(two.item(), abs=1e-12)


@pytest.mark.parametrize("units", EVERY, ids=lambda u: f"{type(u).__name__} {getattr(u, 'attention', '')}")
def test_every_weight_belongs_to_one_unit_and_costs_add_up(units: Units) -> None:
    groups = units.groups(LAYER)
    seen = [m.site for g in groups for m in g.members]
    assert sorted(seen) == list(range(len(LAYER)))
    for g in groups:
        assert all(m.grid[0] * m.grid[1] == g.units for m in g.members)
        assert all(LAYER[m.site].rows % m.grid[0] == LAYER[m.site].cols % m.grid[1] == 0 for m in g.members)
    assert sum(g.units * g.weights for g in groups) == sum(s.rows * s.cols for s in LAYER)


def test_a_head_spans_four_matrices_and_a_neuron_two() -> None:
    heads, neurons = Structure().groups(LAYER)
    assert (heads.kind, heads.units, heads.weights) == ("heads", HEADS, 4 * HIDDEN * HIDDEN // HEADS)
    assert heads.cost == heads.weights + 3 * HIDDEN // HEADS  # biases of query, key and value
    assert [m.grid for m in heads.members] == [(2, 1), (2, 1), (2, 1), (1, 2)]
    assert (neurons.kind, neurons.units) == ("neurons", INNER)
    assert (neurons.weights, neurons.cost) == (2 * HIDDEN, 2 * HIDDEN + 1)
    dims = Structure(attention="dims", ffn="none").groups(LAYER)
    assert [(g.kind, g.units, g.cost) for g in dims] == [
        ("query-key dims", HIDDEN, 2 * HIDDEN + 2),
        ("value dims", HIDDEN, 2 * HIDDEN + 1),
    ]


def test_units_of_bert_base_cost_what_is_published() -> None:
    d, f = 768, 3072
    roles = [("query", d, d), ("key", d, d), ("value", d, d), ("attention output", d, d)]
    roles += [("ffn in", f, d), ("ffn out", d, f)]
    shapes = [
        Shape(f"{layer}.{role}", role, layer, rows, cols, 12 if "ffn" not in role else None, bias=True)
        for layer in range(12)
        for role, rows, cols in roles
    ]
    heads, neurons = Structure().groups(shapes)[:2]
    assert (heads.weights, heads.cost - heads.weights) == (196_608, 192)
    assert (neurons.weights, neurons.cost) == (2 * d, 2 * d + 1)
    fine = Structure(attention="dims").groups(shapes)
    count = {kind: sum(g.units for g in fine if g.kind == kind) for kind in {g.kind for g in fine}}
    assert count == {"neurons": 36_864, "query-key dims": 9_216, "value dims": 9_216}
    assert sum(g.units * g.cost for g in fine) == 84_999_168
    assert sum(g.units for g in Block(32, 32).groups(shapes[:1])) == 576


def test_blocks_of_the_attention_output_lie_the_other_way_round() -> None:
    q, *_, o = Structure(attention="blocks", ffn="none", rows=2, cols=4).groups(LAYER)
    assert q.members[0].grid == (4, 2) and o.members[0].grid == (2, 4)


def test_a_filter_is_a_row_and_a_channel_a_piece_of_columns() -> None:
    (filters,), (channels,) = Row().groups([CONV]), Column().groups([CONV])
    assert (filters.units, filters.weights) == (6, 36)
    assert (channels.units, channels.weights) == (4, 54)
    weight = torch.zeros(6, 4, 3, 3)
    weight[:, 1] = 1.0
    pieces = [Piece(weight.flatten(1), channels.members[0].grid)]
    assert Norm(norm="l1").of(pieces, None).tolist() == [0, 54, 0, 0]


def test_a_filter_goes_with_the_channel_that_reads_it_and_one_of_them_ranks_it() -> None:
    one, two = Structure().groups(BLOCK)
    assert (one.kind, one.units, one.weights, one.cost) == ("filters", 4, 16 + 4 * 9, 16 + 4 * 9 + 2)
    assert [(m.site, m.grid, m.ranks) for m in one.members] == [(0, (4, 1), True), (1, (1, 4), False)]
    assert (two.weights, two.cost) == (4 * 9 + 16, 4 * 9 + 16 + 2)
    assert [(m.site, m.grid, m.ranks) for m in two.members] == [(1, (4, 1), True), (2, (1, 4), False)]
    channels = Structure(conv="channels").groups(BLOCK)
    assert [[m.ranks for m in g.members] for g in channels] == [[False, True]] * 2
    ranked = [m.site for g in (*channels, one, two) for m in g.members if m.ranks]
    assert ranked == [1, 2, 0, 1]  # never two groups for one site


def test_norms_may_order_filters_oppositely() -> None:
    filters = torch.tensor([[3, 0, 0, 0], [1.2, 1.2, 1.2, 1.2], [0, -2.6, 0, 0], [1, 1, 1, -1.0]])
    found = {n: Norm(norm=n).of([Piece(filters, (4, 1))], None) for n in ("l1", "l2", "mean")}
    torch.testing.assert_close(found["l1"], torch.tensor([3, 4.8, 2.6, 4]))
    torch.testing.assert_close(found["l2"], torch.tensor([3, 2.4, 2.6, 2]))
    torch.testing.assert_close(found["mean"], found["l1"] / 4)
    kept = {n: TopK().choose([s], 0.5)[0].nonzero().flatten().tolist() for n, s in found.items()}
    assert (kept["l1"], kept["l2"]) == ([1, 3], [0, 2])


def test_the_magnitude_of_a_coupled_unit_counts_all_its_weights() -> None:
    into, out = torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[4.0, 2.0]])
    pieces = [Piece(into, (2, 1)), Piece(out, (1, 2))]
    torch.testing.assert_close(Magnitude().of(pieces, None), torch.tensor([5.0, 5.0**0.5]))
    torch.testing.assert_close(Norm(norm="mean").of(pieces, None), torch.tensor([7 / 3, 3 / 3]))


@pytest.mark.parametrize(
    ("units", "shapes", "sentence"),
    [
        (Block(rows=3), LAYER, "blocks of 3 x 32 do not divide q, whose weight is 8 x 8"),
        (Structure(), [CONV], "have the roles conv and make up no such structure; choose the units Weight"),
        (Structure(conv="none"), BLOCK, "conv 'none', but the model's prunable weights have the roles conv"),
        (Structure(), LAYER[:3] + LAYER[4:], "needs separate query, key and value weights"),
        (Structure(), LAYER[:5], "needs weights into and out of the feed-forward layer"),
        (Structure(), [LAYER[0], Shape("k", "key", 0, 4, 8, 1), *LAYER[2:]], r"k \(1 heads\)"),
    ],
)
def test_units_that_a_model_does_not_have_are_refused(
    units: Units, shapes: list[Shape], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        units.groups(shapes)


def test_no_units_at_all_are_refused() -> None:
    with pytest.raises(SpecError, match="nothing could be pruned"):
        Structure(attention="none", ffn="none", conv="none")


def test_a_masked_bias_is_zero_where_its_row_is_dead() -> None:
    gate = BiasGate(3)
    gate.mask.copy_(torch.tensor([1.0, 0.0, 1.0]))
    assert gate(torch.tensor([1.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 3.0]


def test_the_balanced_penalty_weighs_parts_not_tensors() -> None:
    dead = torch.full((4,), -1e4)
    scores, parts = [torch.zeros(2), torch.zeros(6), dead], ["attention", "attention", "ffn"]
    ctx = LossContext(task=torch.tensor(0.0), logits={}, teacher={}, scores=scores, parts=parts)
    assert BalancedPenalty().value(ctx).item() == pytest.approx(0.25)
    assert BalancedPenalty(attention=0.1).value(ctx).item() == pytest.approx(0.025)
    assert SigmoidPenalty().value(ctx).item() == pytest.approx(1 / 3)
