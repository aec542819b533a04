"""Low rank: ranks, balanced factors, the residual and its penalty, with the numbers of worked examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from analysis.errors import SpecError
from analysis.parts.losses import LossContext, Product
from analysis.parts.lowrank import (
    LowRank,
    Perturbation,
    SingularValue,
    balanced,
    factors,
    perturbation,
    product,
    rank,
)
from analysis.parts.lowrank_gate import LowRankGate, LowRankLinear
from analysis.parts.scores import Piece
from analysis.parts.units import Shape
from analysis.recipes import build

SQUARE = torch.tensor([[3.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
WIDE = torch.tensor([[4.0, 0.0, 0.0], [3.0, -5.0, 0.0]], dtype=torch.float64)
UNEVEN = torch.tensor([[2.0, -1.0], [-1.0, 0.5]], dtype=torch.float64)


def drawn(rows: int, cols: int) -> torch.Tensor:
    return torch.randn(rows, cols, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("rows", "cols", "ranks"),
    [
        (768, 768, (256, 192, 128, 96)),
        (768, 3072, (409, 307, 204, 153)),
        (3072, 768, (409, 307, 204, 153)),
        (2304, 768, (384, 288, 192, 144)),
    ],
)
def test_ranks(rows: int, cols: int, ranks: tuple[int, ...]) -> None:
    assert tuple(rank(rows, cols, 1 / c) for c in (1.5, 2, 3, 4)) == ranks
    assert all(r * (rows + cols) < rows * cols for r in ranks)


def test_no_rank_where_factors_would_not_be_smaller() -> None:
    assert rank(2, 2, 1 / 3) == 0  # the formula gives 0, the guard 1, which holds 4 of 4
    assert rank(64, 1000, 0.001) == 1  # the guard, where it saves
    assert rank(768, 3072, 1.0) == 0 and rank(768, 768, 1.0) == 0
    assert rank(5, 7, 0.9) == 2  # 24 of 35


def test_the_square_example() -> None:
    components = balanced(SQUARE, 1)
    residual = SQUARE - product(components, 2)
    torch.testing.assert_close(product(components, 2), torch.full((2, 2), 2.0, dtype=torch.float64))
    torch.testing.assert_close(residual, torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64))
    assert float(residual.square().mean()) == pytest.approx(1.0)
    assert float(residual.abs().amax()) == pytest.approx(1.0)
    found = perturbation([Product(product(components, 2), SQUARE)], 1e-3)
    assert float(found) == pytest.approx(0.998001)
    values = SingularValue().of([Piece(SQUARE, (1, 1))], None)
    torch.testing.assert_close(values, torch.tensor([4.0, 2.0], dtype=torch.float64))


def test_the_wide_example() -> None:
    residual = WIDE - product(balanced(WIDE, 1), 2)
    expected = torch.tensor([[2.0, 2.0, 0.0], [-1.0, -1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(residual, expected)
    squares = SingularValue().of([Piece(WIDE, (1, 1))], None).square()
    torch.testing.assert_close(squares, torch.tensor([40.0, 10.0], dtype=torch.float64))
    assert float(residual.square().mean()) == pytest.approx(10 / 6)
    assert float(residual.abs().amax()) == pytest.approx(2.0)


@pytest.mark.parametrize(("rows", "cols"), [(6, 9), (9, 6), (7, 7)])
def test_the_factors_are_balanced(rows: int, cols: int) -> None:
    weight = drawn(rows, cols)
    b, a = factors(balanced(weight, 4), rows)
    assert b.shape == (rows, 4) and a.shape == (4, cols)
    root = torch.linalg.svdvals(weight)[:4].sqrt()
    torch.testing.assert_close(a.norm(dim=1), root)
    torch.testing.assert_close(b.norm(dim=0), root)


@pytest.mark.parametrize(("rows", "cols"), [(6, 9), (9, 6)])
def test_at_full_rank_nothing_is_lost(rows: int, cols: int) -> None:
    dense = nn.Linear(cols, rows).double()
    thin = LowRankLinear.of(dense, min(rows, cols))
    values = drawn(5, cols)
    torch.testing.assert_close(thin(values), dense(values), atol=1e-12, rtol=0)
    same = Product(product(balanced(dense.weight.detach(), min(rows, cols)), rows), dense.weight.detach())
    assert float(perturbation([same], 1e-3)) == pytest.approx(1e-6, abs=1e-14)  # eps**2: L_wp - eps**2 = 0


def test_the_error_is_what_is_left_out_and_nothing_is_nearer() -> None:
    weight = drawn(8, 12)
    values = torch.linalg.svdvals(weight)
    errors = []
    for r in range(1, 8):
        error = float((weight - product(balanced(weight, r), 8)).square().sum())
        assert error == pytest.approx(float(values[r:].square().sum()))
        errors.append(error)
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            left = torch.randn(8, r, dtype=torch.float64, generator=generator)
            # The best right factor for a random left one.
            other = left @ torch.linalg.lstsq(left, weight).solution
            assert float((weight - other).square().sum()) >= error
    assert errors == sorted(errors, reverse=True)  # falls as c falls and the rank rises


def test_a_product_taken_apart_again_is_the_same_product() -> None:
    weight = drawn(16, 24).float()
    once = product(balanced(weight, 5), 16)
    torch.testing.assert_close(product(balanced(once, 5), 16), once, atol=2e-6, rtol=0)


def test_half_precision_is_decomposed_in_float32() -> None:
    weight = drawn(8, 8).bfloat16()
    components = balanced(weight, 3)
    assert components.dtype == torch.bfloat16
    torch.testing.assert_close(components, balanced(weight.float(), 3).bfloat16())


def penalty_of(residual: torch.Tensor, two_sided: bool = True) -> tuple[float, torch.Tensor]:
    start = torch.zeros_like(residual)
    weight = residual.clone().requires_grad_()
    value = perturbation([Product(weight, start)], 1e-3, two_sided)
    value.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    return float(value.detach()), weight.grad


def test_the_penalty_touches_one_entry() -> None:
    assert float(UNEVEN.abs().amax()) == 2.0
    assert float(torch.linalg.matrix_norm(UNEVEN, float("inf"))) == 3.0  # another thing of the same name
    value, gradient = penalty_of(UNEVEN)
    assert value == pytest.approx(3.996001)
    expected = torch.tensor([[3.998, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


def test_equal_entries_share_the_gradient() -> None:
    _, gradient = penalty_of(torch.tensor([[1.0, -1.0], [0.5, 1.0]], dtype=torch.float64))
    expected = torch.tensor([[0.666, -0.666], [0.0, 0.666]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


def test_the_gradient_of_an_entry_is_one_row_of_b_and_one_column_of_a() -> None:
    components = balanced(WIDE + 0.1 * drawn(2, 3), 1).requires_grad_()
    perturbation([Product(product(components, 2), WIDE)], 1e-3).backward()  # type: ignore[no-untyped-call]
    assert components.grad is not None
    b, a = factors(components.grad, 2)
    assert (b.count_nonzero().item(), a.count_nonzero().item()) == (1, 1)


def test_small_residuals_are_pushed_up_from_one_side_only_if_asked() -> None:
    small = torch.tensor([[4e-4, 0.0], [0.0, -1e-4]], dtype=torch.float64)
    value, gradient = penalty_of(small)
    assert value == pytest.approx(3.6e-7)
    assert float(gradient[0, 0]) == pytest.approx(-1.2e-3)  # descent makes it larger
    assert penalty_of(small, two_sided=False)[0] == 0
    assert penalty_of(UNEVEN, two_sided=False)[0] == pytest.approx(3.996001)


def test_a_residual_of_zero_has_a_penalty_and_no_gradient() -> None:
    value, gradient = penalty_of(torch.zeros(2, 2, dtype=torch.float64))
    assert value == pytest.approx(1e-6) and not gradient.any()


def test_layers_count_alike() -> None:
    zero = torch.zeros(2, 2, dtype=torch.float64)
    pair = [Product(UNEVEN, zero), Product(torch.ones(2, 2, dtype=torch.float64), zero)]
    assert float(perturbation(pair, 0.0)) == pytest.approx((4 + 1) / 2)


def test_the_penalty_counts_now_and_then_and_asks_for_products_only_then() -> None:
    asked: list[int] = []

    def context(step: int) -> LossContext:
        def products() -> list[Product]:
            asked.append(step)
            return [Product(UNEVEN, torch.zeros(2, 2))]

        return LossContext(torch.zeros(()), {}, {}, [], products=products, step=step)

    values = [float(Perturbation(every=3).value(context(step))) for step in range(7)]
    assert [step for step, value in enumerate(values) if value] == [0, 3, 6] == asked
    assert values[3] == pytest.approx(3.996001)
    assert float(Perturbation().value(LossContext(torch.zeros(()), {}, {}, []))) == 0  # every layer is dense


def test_a_layer_computes_through_its_factors_and_shows_their_product() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 10).double()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    gate = LowRankGate(weight.shape, 3)
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    gate.take(layer)
    values = drawn(4, 12)
    best = product(balanced(weight, 3), 10)
    torch.testing.assert_close(layer(values), values @ best.T + bias)
    torch.testing.assert_close(layer.weight, best)
    raw = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
    assert raw.shape == (3, 22) and sum(p.numel() for p in layer.parameters()) == 3 * 22 + 10
    layer(values).square().sum().backward()
    through = raw.grad.clone()
    raw.grad = None
    nn.functional.linear(values, layer.weight, layer.bias).square().sum().backward()
    torch.testing.assert_close(raw.grad, through)
    gate.leave(layer)
    assert "forward" not in vars(layer)


def test_two_layers_look_like_one() -> None:
    dense = nn.Linear(12, 10)
    thin = LowRankLinear.of(dense, 3)
    assert (thin.in_features, thin.out_features, thin.rank) == (12, 10, 3)
    torch.testing.assert_close(thin.weight, product(balanced(dense.weight.detach(), 3), 10))
    assert thin.bias is not None and torch.equal(thin.bias, dense.bias)
    assert set(thin.state_dict()) == {"first.weight", "second.weight", "second.bias"}
    assert LowRankLinear.of(nn.Linear(12, 10, bias=False), 3).bias is None
    with pytest.raises(KeyError, match="already exists"):
        thin.weight = nn.Parameter(torch.zeros(10, 12))  # type: ignore[misc,assignment]


def site(name: str, rows: int = 64, cols: int = 64, role: str = "other") -> Shape:
    return Shape(name, role, 0, rows, cols)


def test_what_stays_dense() -> None:
    part = LowRank(omit="attention.output, downsample")
    assert part.rank(site("layer.0.attention.self.query"), 0.5) == 16
    assert part.rank(site("layer.0.attention.output.dense"), 0.5) == 0
    assert part.rank(site("stages.1.downsample.reduction"), 0.5) == 0
    assert LowRank(omit="head").rank(site("layer.0.attention_heads_mix"), 0.5) == 16  # whole pieces only
    assert part.rank(site("layer.0.output.dense", role="conv"), 0.5) == 0
    assert part.rank(site("a", rows=9), 0.5) == 0 and part.rank(site("a", rows=10), 0.5) == 4
    assert LowRank(least=1).rank(site("a", rows=9), 0.5) == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.0, "the weight of layer.0 is all zeros"), (math.nan, "layer.0 holds values that are not finite")],
)
def test_weights_without_factors_are_refused(value: float, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        LowRankGate(torch.Size((4, 4)), 1, "layer.0").right_inverse(torch.full((4, 4), value))


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        (
            "pela",
            {"units.type": "Weight"},
            r"reparam is LowRank.*but units is Weight; choose units.type=Comp",
        ),
        ("pela", {"score.type": "Movement"}, r"reparam is LowRank.*score is Movement"),
        ("pela", {"score.type": "Magnitude"}, r"reparam is LowRank.*score is Magnitude"),
        ("pela", {"schedule.type": "Cubic"}, r"reparam is LowRank.*schedule is Cubic"),
        ("pela", {"select.scope": "global"}, r"reparam is LowRank.*scope 'global' and least 0"),
        ("pela", {"select.type": "GlobalCut"}, r"reparam is LowRank.*select is GlobalCut"),
        (
            "pela",
            {"reparam.type": "SignedPower"},
            r"units is Component, which belongs to weights stored as two",
        ),
        ("magnitude", {"reparam.type": "LowRank"}, r"reparam is LowRank.*but units is Weight"),
        ("magnitude", {"score.type": "SingularValue"}, r"score is SingularValue.*reparam is Masked"),
        ("magnitude", {"penalty.type": "Perturbation"}, r"penalty is Perturbation.*reparam is Masked"),
    ],
)
def test_what_does_not_go_together(recipe: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(recipe, "m", "t", settings=settings)
