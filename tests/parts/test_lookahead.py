"""Look-aheads on problems small enough for pencil and paper: every iterate is a literal number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from analysis.engine.lookahead import Lookahead, displaced, statistics_untouched
from analysis.errors import SpecError
from analysis.parts.lookahead import SOURCES, Extrapolation, adam_direction, noise
from analysis.parts.optim import LARS, SGD, AdamW, Optimizer, trust_ratio
from analysis.recipes import build

Gradient = Callable[[torch.Tensor, int], torch.Tensor]


class Toy:
    """A point in a few dimensions, its gradient by formula, and every place at which it was asked for."""

    def __init__(
        self, part: Extrapolation, optimizer: Optimizer, gradient: Gradient, start: Sequence[float]
    ) -> None:
        self.x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.optimizer = optimizer.build([self.x], [], [], 0.0)
        clip = lambda: optimizer.clip_gradients(self.optimizer)  # noqa: E731
        self.clip, self.of = clip, gradient
        self.lookahead = Lookahead(part, self.optimizer, nn.Module(), clip)
        self.asked: list[float] = []

    def backward(self, rows: np.ndarray, whole: int) -> dict[str, float]:
        for row in rows:
            self.asked.append(float(self.x.detach()[0]))
            found = self.of(self.x.detach(), int(row)) / whole
            self.x.grad = found if self.x.grad is None else self.x.grad + found
        return {"task": len(rows) / whole}

    def step(self, rows: Sequence[int] = (0,)) -> float:
        self.lookahead.gradient(self.backward, np.array(rows), iter([np.array(rows)]))
        self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(self.x.detach()[0])


def ratio(source: str, rho: float, **more: object) -> Extrapolation:
    return Extrapolation(source=source, rule="rho", rho=rho, **more)  # type: ignore[arg-type]


def sgd(lr: float = 0.1, momentum: float = 0.0, nesterov: bool = False) -> SGD:
    return SGD(lr=lr, momentum=momentum, nesterov=nesterov, clip=0)


def bowl(curvature: float) -> Gradient:
    return lambda x, _: curvature * x


def walk(toy: Toy, steps: int) -> list[float]:
    return [toy.step() for _ in range(steps)]


@pytest.mark.parametrize(
    ("source", "rho", "iterates"),
    [
        ("global", 0.0, [0.9, 0.81, 0.729]),
        ("global", 1.0, [0.91, 0.8281, 0.753571]),
        ("local", 1.0, [0.91, 0.8281, 0.753571]),
        ("past", 1.0, [0.9, 0.82, 0.746, 0.6788]),
        ("past_avg", 1.0, [0.9, 0.82, 0.746, 0.6788]),
    ],
)
def test_iterates_on_a_parabola(source: str, rho: float, iterates: list[float]) -> None:
    assert walk(Toy(ratio(source, rho), sgd(), bowl(1), [1.0]), len(iterates)) == pytest.approx(iterates)


@pytest.mark.parametrize(("rho", "factor"), [(0.0, -0.5), (1.0, 1.75), (0.2, -0.05)])
def test_a_steep_parabola_is_damped_and_a_long_look_ahead_diverges(rho: float, factor: float) -> None:
    assert walk(Toy(ratio("global", rho), sgd(), bowl(15), [1.0]), 1) == pytest.approx([factor])


@pytest.mark.parametrize(
    ("step", "ahead", "radius"),
    [(0.66, 0.66, 0.988), (0.67, 0.67, 1.006), (1.7, 0.2, 1.084), (1.9, 0.04, 0.981), (1.95, 0.04, 1.029)],
)
def test_the_edge_of_stability_of_past(step: float, ahead: float, radius: float) -> None:
    """One step is linear in (weight, last gradient): its matrix is read off at two points."""
    columns = []
    for weight, last in ((1.0, 0.0), (0.0, 1.0)):
        toy = Toy(ratio("past", ahead / step), sgd(step), bowl(1), [weight])
        toy.lookahead.past = [[torch.tensor([last], dtype=torch.float64)]]
        after = toy.step()
        (gradient,) = toy.lookahead.past[0]
        assert gradient is not None
        columns.append([after, float(gradient)])
    found = np.abs(np.linalg.eigvals(np.array(columns).T)).max()
    assert found == pytest.approx(radius, abs=6e-4)


@pytest.mark.parametrize(
    ("source", "rho", "norm"), [("global", 0, 1.6446), ("global", 1, 0.6081), ("past", 1, 0.6081)]
)
def test_a_game_spirals_out_without_and_in_with_a_look_ahead(source: str, rho: float, norm: float) -> None:
    game: Gradient = lambda x, _: torch.stack([x[1], -x[0]])  # noqa: E731
    toy = Toy(ratio(source, rho), sgd(), game, [1.0, 0.0])
    walk(toy, 1)
    if (source, rho) == ("global", 1):
        assert float(toy.x.detach().norm()) == pytest.approx(0.995038, abs=1e-6)
        assert 0.995038 == pytest.approx(math.sqrt(1 - 0.1**2 + 0.1**4), abs=1e-6)
    walk(toy, 99)
    assert float(toy.x.detach().norm()) == pytest.approx(norm, abs=5e-5)


def test_past_at_full_length_is_optimistic_descent_on_the_look_aheads() -> None:
    toy = Toy(ratio("past", 1), sgd(), bowl(1), [1.0])
    walk(toy, 5)
    assert toy.asked == pytest.approx([1, 0.8, 0.74, 0.672, 0.6116])
    for before, last, now in zip(toy.asked, toy.asked[1:], toy.asked[2:], strict=False):
        assert now == pytest.approx(last - 2 * 0.1 * last + 0.1 * before)


@pytest.mark.parametrize(
    ("source", "rho", "ahead", "after"),
    [("local", 1, [1.9, 1.1], 1.64), ("global", 1, [1.5, 1.5], 1.60), ("global", 0, [2, 2], 1.50)],
)
def test_two_workers(source: str, rho: float, ahead: list[float], after: float) -> None:
    two: Gradient = lambda x, row: x - 1 if row == 0 else 3 * (x + 1)  # noqa: E731
    toy = Toy(ratio(source, rho, workers=2), sgd(), two, [2.0])
    assert toy.step([0, 1]) == pytest.approx(after)
    assert (toy.asked[1::2] if source == "local" else toy.asked[-2:]) == pytest.approx(ahead)
    if source == "local":
        assert [float(two(torch.tensor(x), k)) for k, x in enumerate(ahead)] == pytest.approx([0.9, 6.3])


def test_past_gradients_belong_to_their_worker_and_are_not_shrunk_by_its_share() -> None:
    two: Gradient = lambda x, row: torch.full_like(x, (3.0, 5.0, 9.0)[row])  # noqa: E731
    each, mean = (Toy(ratio(s, 1, workers=2), sgd(), two, [0.0]) for s in ("past", "past_avg"))
    for toy in (each, mean):
        toy.step([0, 1, 2])  # the first worker gets two of the three examples
    assert [float(g) for (g,) in each.lookahead.past] == pytest.approx([4.0, 9.0])  # type: ignore[arg-type]
    assert [float(g) for (g,) in mean.lookahead.past] == pytest.approx([17 / 3])  # type: ignore[arg-type]


def test_heavy_ball_with_past() -> None:
    toy = Toy(ratio("past", 0.5), sgd(momentum=0.9), bowl(1), [1.0])
    assert walk(toy, 3) == pytest.approx([0.9, 0.725, 0.49925])
    assert toy.asked == pytest.approx([1, 0.85, 0.6825])


def test_nesterov_is_a_look_ahead_along_the_momentum() -> None:
    toy = Toy(Extrapolation(source="nesterov"), sgd(momentum=0.9), bowl(1), [1.0])
    assert walk(toy, 3) == pytest.approx([0.9, 0.729, 0.51759])
    assert toy.asked == pytest.approx([1, 0.81, 0.5751])
    # torch keeps the look-ahead itself as the parameter
    assert walk(Toy(ratio("past", 0), sgd(momentum=0.9, nesterov=True), bowl(1), [1.0]), 2) == pytest.approx(
        [0.81, 0.5751]
    )
    # LARS holds the learning rate inside its buffer; with a trust of 1 its pull is as long as the weight.
    lars = Toy(Extrapolation(source="nesterov"), LARS(lr=0.1, trust=1, clip=0), bowl(1), [1.0])
    assert (walk(lars, 1), lars.step()) == (pytest.approx([0.9]), pytest.approx(0.9 - 0.09 - 0.1 * 0.9))
    assert lars.asked == pytest.approx([1, 0.81])


@pytest.mark.parametrize(
    ("source", "ahead", "iterates"),
    [
        ("extra_adam", [1, 0.9000000003], [0.9004122279]),
        ("preview_adam", [1, 0.9000000003], [0.9000000003]),
        ("past_adam", [1, 0.8, 0.7023748400], [0.9, 0.8011874201, 0.7034904730]),
    ],
)
def test_the_three_forms_for_adam(source: str, ahead: list[float], iterates: list[float]) -> None:
    toy = Toy(ratio(source, 1), AdamW(lr=0.1, clip=0), bowl(4), [1.0])
    assert walk(toy, len(iterates)) == pytest.approx(iterates, abs=1e-8)
    assert toy.asked == pytest.approx(ahead, abs=1e-8)
    count = float(toy.optimizer.state[toy.x]["step"])
    assert count == len(iterates) * (2 if source == "extra_adam" else 1)


def test_adam_direction_is_that_of_torch() -> None:
    toy = Toy(ratio("past_adam", 0), AdamW(lr=0.1, clip=0), lambda x, _: x**3 - 1, [1.7, -0.3])
    walk(toy, 4)
    before, state = toy.x.detach().clone(), toy.optimizer.state[toy.x]
    toy.step()
    direction = adam_direction(state["exp_avg"], state["exp_avg_sq"], 5, (0.9, 0.999), 1e-8)
    torch.testing.assert_close(before - 0.1 * direction, toy.x.detach())


def test_noise_smooths_the_gradient() -> None:
    torch.manual_seed(0)
    for kind in ("gauss", "uniform"):
        drawn = noise(torch.zeros(4_000_000, dtype=torch.float64), kind, 0.5)
        assert float(drawn.mean()) == pytest.approx(0, abs=2e-3)
        assert float(drawn.std()) == pytest.approx(0.5, abs=2e-3)
        smoothed = float((4 * (1 + drawn) ** 3).mean())  # f = x^4: 4 x^3 + 12 x sigma^2
        assert smoothed == pytest.approx(7, abs=0.05)
    toy = Toy(ratio("uniform", 1, sigma=2.0, workers=4), sgd(), bowl(0), [1.0])
    toy.step([0, 1, 2, 3])
    assert len(set(toy.asked)) == 4 and all(abs(x - 1) <= 0.1 * 2 * math.sqrt(3) for x in toy.asked)


def test_lars_on_a_vector_of_length_five() -> None:
    weight, gradient = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.6, 0.8]])
    assert float(trust_ratio(weight, gradient, 1e-3, 1e-4)) == pytest.approx(0.0049975, abs=1e-7)
    assert float(trust_ratio(torch.zeros(2), gradient, 1e-3, 0)) == 1.0
    assert float(trust_ratio(weight, torch.zeros(2), 1e-3, 0)) == 1.0
    matrix, bias, score = (nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(3))
    optimizer = LARS(lr=1, trust=1e-3, weight_decay=1e-4).build([matrix], [bias], [score], 0.5)
    walked = []
    for _ in range(2):
        for p in (matrix, bias, score):
            p.grad = torch.tensor([0.6, 0.8])
        optimizer.step()
        walked.append(torch.tensor([3.0, 4.0]) - matrix.detach())
    torch.testing.assert_close(walked[0], torch.tensor([0.003, 0.004]), atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(walked[1], torch.tensor([0.0087, 0.0116]), atol=1e-5, rtol=1e-3)
    # biases and scores take the plain step: 1 + 1.9 times the gradient, at their own rate
    torch.testing.assert_close(bias.detach(), torch.tensor([3 - 2.9 * 0.6, 4 - 2.9 * 0.8]))
    torch.testing.assert_close(score.detach(), torch.tensor([3 - 1.45 * 0.6, 4 - 1.45 * 0.8]))


def test_a_look_ahead_on_the_scale_of_lars() -> None:
    for scale, first in (("plain", 3 - 0.5 * 1.2), ("lars", 3 - 0.5 * 1.2 * 1e-3 * 5 / 2)):
        toy = Toy(ratio("past", 0.5, extrap_scale=scale), LARS(lr=1, clip=0), lambda x, _: 0 * x, [3.0, 4.0])
        toy.lookahead.past = [[torch.tensor([1.2, 1.6], dtype=torch.float64)]]
        toy.step()
        assert toy.asked == pytest.approx([first])


def test_an_error_inside_leaves_the_weights_alone() -> None:
    def fails(x: torch.Tensor, row: int) -> torch.Tensor:
        if row == 1:
            raise RuntimeError("inside")
        return 0.3 * x

    toy = Toy(ratio("past", 1, workers=2), sgd(), fails, [0.1, 0.7])
    toy.lookahead.past = [[torch.tensor([0.3, 1e-9], dtype=torch.float64)]] * 2
    with pytest.raises(RuntimeError, match="inside"):
        toy.step([0, 1])
    assert toy.asked[0] == pytest.approx(0.07)
    assert toy.x.tolist() == [0.1, 0.7]


def test_weights_come_back_bit_for_bit() -> None:
    torch.manual_seed(0)
    x, d = nn.Parameter(torch.randn(1000)), torch.randn(1000)
    before = x.detach().clone()
    assert not torch.equal((before - 0.1 * d) + 0.1 * d, before)  # what adding back would give
    for _ in range(10):
        with displaced([x], [d], [0.1], [before.clone()]):
            assert not torch.equal(x, before)
    assert torch.equal(x, before)


def test_running_statistics_are_left_alone_by_an_extra_forward() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)).train()
    batch = torch.randn(8, 3) + 5
    with statistics_untouched(model):
        extra = model(batch)
    norm = model[0]
    assert norm.running_mean.tolist() == [0, 0, 0] and int(norm.num_batches_tracked) == 0
    assert torch.equal(model(batch), extra)  # the batch's own statistics were used both times
    assert int(norm.num_batches_tracked) == 1 and float(norm.running_mean[0]) > 0.1


def test_the_same_examples_see_the_same_dropout_and_others_do_not() -> None:
    draws: list[float] = []

    def random(x: torch.Tensor, _: int) -> torch.Tensor:
        draws.append(float(torch.rand(())))
        return x

    for source in ("global", "local"):
        torch.manual_seed(0)
        Toy(ratio(source, 1), sgd(), random, [1.0]).step()
    assert draws[0] == draws[1] == draws[2] != draws[3]


def test_a_direction_made_of_gradients_is_bounded_like_the_gradient() -> None:
    for source in ("global", "local", "past", "past_avg"):
        toy = Toy(ratio(source, 1), SGD(lr=0.1, momentum=0, clip=1), lambda x, _: 50 + 0 * x, [0.0])
        assert walk(toy, 2) == pytest.approx([-0.1, -0.2], abs=1e-6)
        assert toy.asked[-1] == pytest.approx(-0.2, abs=1e-6)


def test_the_ratio_and_what_a_step_costs() -> None:
    assert Extrapolation().ratio == 0.1 and Extrapolation(workers=8).ratio == 1 / 8
    assert Extrapolation(workers=8, rule="rho", rho=0.25).ratio == 0.25
    costs = {s: Extrapolation(source=s).evaluations for s in SOURCES}
    assert [s for s, cost in costs.items() if cost == 2] == ["local", "global", "extra_adam", "preview_adam"]
    assert Extrapolation(source="local", rho=0).evaluations == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer.type": "SGD"},
            "'past_adam', which reads the moments of AdamW, but the optimizer is SGD",
        ),
        ({"lookahead.source": "nesterov"}, "looks along a momentum, but the optimizer is AdamW without"),
        (
            {"lookahead.source": "nesterov", "optimizer.type": "SGD", "optimizer.nesterov": True},
            "the optimizer is SGD without a plain one",
        ),
        ({"lookahead.extrap_scale": "lars"}, "the optimizer is AdamW, which has no such ratio"),
        ({"lookahead.workers": 64}, "lookahead.workers is 64; they share a batch of 32"),
        ({"lookahead.source": "future"}, "Extrapolation.source is 'future'; allowed is one of 'local'"),
        ({"lookahead.rho": 2}, r"Extrapolation.rho is 2; allowed is a number in \[0, 1\]"),
        ({"optimizer.type": "SGD", "optimizer.nesterov": True, "optimizer.momentum": 0}, "SGD.momentum is 0"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("movement", "m", "t", settings={"lookahead.type": "Extrapolation", **settings})
