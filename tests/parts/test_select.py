"""Exact selection: literal tables, ties, NaN, and the slow way as an oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.parts.select import OpenGate, SigmoidThreshold, TopK, count_kept, keep_largest, kth_largest

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "k", "kept"),
    [
        ([3.0, 1.0, 2.0, 4.0], 2, [1, 0, 0, 1]),
        ([1.0, 1.0, 1.0, 1.0], 2, [1, 1, 0, 0]),  # ties: the lower index
        ([0.0, -0.0, 0.0, -0.0], 3, [1, 1, 1, 0]),  # zeros of both signs are equal
        ([2.0, 1.0, 1.0, 1.0, 0.0], 3, [1, 1, 1, 0, 0]),
        ([NAN, 1.0, NAN, 0.5], 1, [0, 1, 0, 0]),  # NaN is never ranked
        ([NAN, 1.0, NAN, 0.5], 3, [1, 1, 0, 1]),  # only when numbers run out
        ([-math.inf, math.inf, NAN, 0.0], 3, [1, 1, 0, 1]),
        ([-math.inf, NAN, -math.inf, NAN], 3, [1, 1, 1, 0]),
        ([5.0, 5.0], 0, [0, 0]),
        ([5.0, 5.0], 2, [1, 1]),
    ],
)
def test_keep_largest_tables(scores: list[float], k: int, kept: list[int]) -> None:
    assert keep_largest([torch.tensor(scores)], k)[0].int().tolist() == kept


def test_all_ties_of_a_matrix_fill_it_in_index_order() -> None:
    mask = keep_largest([torch.zeros(3, 4).reshape(-1)], 6)[0].view(3, 4)
    assert mask.int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]


def _slowly(scores: np.ndarray, k: int) -> np.ndarray:
    ranked = sorted(
        range(scores.size),
        key=lambda i: (math.isnan(scores[i]), -scores[i] if scores[i] == scores[i] else 0, i),
    )
    mask = np.zeros(scores.size, dtype=bool)
    mask[ranked[:k]] = True
    return mask


@given(
    hnp.arrays(
        np.float32, st.integers(1, 200), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, NAN, math.inf])
    ),
    st.floats(0, 1),
)
def test_keep_largest_is_the_slow_loop(scores: np.ndarray, share: float) -> None:
    k = int(share * scores.size)
    np.testing.assert_array_equal(keep_largest([torch.from_numpy(scores)], k)[0].numpy(), _slowly(scores, k))


@pytest.mark.parametrize("keep", [0.001, 0.03, 0.5, 0.97])
@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "spike", "rows", "heaps", "heaps and dust"])
def test_large_inputs_agree_with_sorting(kind: str, keep: float) -> None:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(300_000, generator=generator)
    if kind == "ties":
        x = (x * 3).round()
    elif kind == "sorted":
        x = x.sort().values
    elif kind == "spike":  # a sample of these sees almost nothing but zeros
        x = torch.where(torch.arange(300_000) < 299_000, torch.zeros(()), x)
    elif kind == "rows":  # one column of a matrix dominates
        x.view(300, 1000)[:, 7] += 100
    elif kind == "heaps":  # scores after three steps of Adam
        x = 0.15 * x.sign()
    elif kind == "heaps and dust":  # heaps on both edges of a bracket, numbers between them
        x = torch.where(x.abs() < 0.7, x, 1.5 * x.sign())
        x[::3] = 0.15 + 1e-8 * (x[::3] * 4).round()
    k = count_kept(keep, x.numel())
    mask = keep_largest([x], k)[0]
    assert int(mask.count_nonzero()) == k
    order = x.sort(descending=True, stable=True).indices  # stable: equal scores stay in index order
    expected = torch.zeros(300_000, dtype=torch.bool)
    expected[order[:k]] = True
    assert torch.equal(mask, expected)
    assert kth_largest([x.numpy()], k) == x[order[k - 1]].item()


def test_wrong_bracket_still_gives_the_exact_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.parts.select._bracket", lambda arrays, k, n: (5.0, 6.0))
    x = torch.arange(20_000.0)
    assert kth_largest([x.numpy()], 100) == 19_900.0


@pytest.mark.parametrize(
    ("keep", "n", "k"),
    [(0.29, 100, 29), (0.1, 100, 10), (0.03, 589_824, 17_694), (1.0, 7, 7), (0.001, 10, 0)],
)
def test_count_kept(keep: float, n: int, k: int) -> None:
    assert count_kept(keep, n) == k


@given(hnp.arrays(np.float32, 64, elements=st.floats(-8, 8, width=32), unique=True), st.integers(1, 63))
def test_selection_ignores_shift_scale_and_increasing_maps(scores: np.ndarray, k: int) -> None:
    s = torch.from_numpy(scores).double()
    mask = keep_largest([s], k)[0]
    for other in (s + 3, s * 7, torch.sigmoid(s)):
        if len(set(other.tolist())) == 64:
            assert torch.equal(keep_largest([other], k)[0], mask)


def test_global_and_local() -> None:
    low, high = torch.arange(10.0), torch.arange(10.0) + 100
    (one,) = TopK(scope="global").choose([low], 0.3)
    assert torch.equal(one, TopK(scope="local").choose([low], 0.3)[0])
    a, b = TopK(scope="global").choose([low, high], 0.5)
    assert (int(a.sum()), int(b.sum())) == (0, 10)  # disjoint ranges: everything in one matrix
    c, d = TopK(scope="local").choose([low, high], 0.5)
    assert int(c.sum()) + int(d.sum()) == int(a.sum()) + int(b.sum()) == 10


def test_sigmoid_threshold() -> None:
    select = SigmoidThreshold(min_keep=0.0)
    assert select.choose([torch.tensor([-2.19, -2.20])], 0.1)[0].tolist() == [True, False]
    assert select.choose([torch.tensor([-100.0, 100.0])], 0.0)[0].all()
    assert not select.choose([torch.tensor([NAN])], 0.1)[0].any()


@pytest.mark.parametrize(("n", "kept"), [(1000, 6), (768 * 768, 2950), (3072 * 768, 11_797)])
def test_floor_keeps_exactly_its_count(n: int, kept: int) -> None:
    select = SigmoidThreshold(min_keep=0.005)
    distinct = torch.linspace(-9, -5, n, dtype=torch.float64)
    assert int(select.choose([distinct], 0.1)[0].sum()) == kept
    assert int(select.choose([torch.full((n,), -7.0)], 0.1)[0].sum()) == kept  # the reference keeps none here


def test_open_gate() -> None:
    assert OpenGate().choose([torch.tensor([-2.39, -2.40])], 1.0)[0].tolist() == [True, False]


def test_spans() -> None:
    assert TopK().span(0.1) == (1.0, 0.1)
    assert SigmoidThreshold().span(0.1) == (0.0, 0.1)
    assert TopK().keeps_all(1.0) and not TopK().keeps_all(0.999)
    assert SigmoidThreshold().keeps_all(0.0) and not SigmoidThreshold().keeps_all(0.01)


def test_the_best_of_every_matrix_stays_however_small_the_keep() -> None:
    small, large = torch.tensor([1.0, 2.0]), torch.tensor([5.0, 7.0, 6.0, 8.0])
    kept = TopK(least=1).choose([small, large], 0.25)
    assert [k.int().tolist() for k in kept] == [[0, 1], [0, 0, 0, 1]]
    kept = TopK(scope="global", least=1).choose([small, large], 0.5)
    assert [k.int().tolist() for k in kept] == [[0, 1], [0, 1, 0, 1]]  # still three in all
    kept = TopK(scope="global", least=3).choose([small, large], 0.1)
    assert [k.int().tolist() for k in kept] == [[1, 1], [0, 1, 1, 1]]
    assert TopK().choose([small], 0.25)[0].tolist() == [False, False]
