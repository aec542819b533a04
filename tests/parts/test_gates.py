"""The straight-through and hard-concrete gates against worked examples, autograd and exact repetition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from analysis.parts.concrete_gate import HardConcreteGate, hard_concrete
from analysis.parts.gates import MaskGate, StraightThrough
from analysis.parts.losses import GatePenalty
from analysis.parts.reparam import HardConcrete
from analysis.parts.select import keep_largest

W = torch.tensor([[0.5, -0.2], [0.1, -0.8]])
S = torch.tensor([[0.3, -0.1], [0.2, 0.0]])


def test_worked_gate() -> None:
    weight, scores = W.clone().requires_grad_(), S.reshape(-1).clone().requires_grad_()
    mask = keep_largest([S.reshape(-1)], 2)[0].view(2, 2)
    assert mask.tolist() == [[True, False], [True, False]]
    out = StraightThrough.apply(weight, scores, mask.float(), (2, 2)) @ torch.tensor([1.0, 2.0])
    torch.testing.assert_close(out, torch.tensor([0.5, 0.1]))
    loss = 0.5 * (out - torch.tensor([1.0, 1.0])).square().sum()
    assert loss.item() == pytest.approx(0.53)
    loss.backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-0.5, 0.0], [-0.9, 0.0]]))
    torch.testing.assert_close(scores.grad, torch.tensor([-0.25, 0.2, -0.09, 1.44]))


def test_gradient_agrees_with_autograd_through_a_real_valued_mask() -> None:
    generator = torch.Generator().manual_seed(1)
    raw, mask, x = (torch.randn(s, generator=generator) for s in ((5, 7), (5, 7), (3, 7)))
    mask = (mask > 0).float()
    weight, scores = raw.clone().requires_grad_(), torch.zeros(35, requires_grad=True)
    (x @ StraightThrough.apply(weight, scores, mask, (5, 7)).T).square().sum().backward()
    weight2, mask2 = raw.clone().requires_grad_(), mask.clone().requires_grad_()
    (x @ (weight2 * mask2).T).square().sum().backward()
    torch.testing.assert_close(weight.grad, weight2.grad)
    torch.testing.assert_close(
        scores.grad.view(5, 7), mask2.grad
    )  # dL/dS is dL/dM: identity through the step


def test_sgd_scores_accumulate_minus_gradient_times_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 4, bias=False)
    gate = MaskGate(nn.Parameter(torch.zeros(24)), torch.Size([4, 6]), (4, 6))
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    raw = layer.parametrizations.weight.original
    optimizer = torch.optim.SGD([raw, gate.scores], lr=0.1)
    total = torch.zeros(4, 6)
    for _ in range(5):
        gate.mask.copy_(keep_largest([gate.scores.detach()], 12)[0].view(4, 6))
        x, y = torch.randn(8, 6, generator=generator), torch.randn(8, 4, generator=generator)
        weight, mask = raw.detach().clone(), gate.mask.clone()
        effective = (
            weight * mask
        ).requires_grad_()  # the oracle: the same step, differentiated without our function
        (x @ effective.T - y).square().mean().backward()
        total += effective.grad * weight
        (x @ layer.weight.T - y).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(gate.scores.detach().view(4, 6), -0.1 * total, atol=1e-6, rtol=0)


def test_a_gradient_that_others_share_is_left_alone() -> None:
    """A loss on the effective weight itself hands one gradient tensor to two inputs of a sum."""
    generator = torch.Generator().manual_seed(4)
    raw, other, slope = (torch.randn(4, 6, generator=generator) for _ in range(3))
    mask = (torch.rand(4, 6, generator=generator) > 0.5).float()
    seen: list[torch.Tensor] = []
    for first in (True, False):
        weight, scores = raw.clone().requires_grad_(), torch.zeros(24, requires_grad=True)
        beside = other.clone().requires_grad_()
        effective = StraightThrough.apply(weight, scores, mask, (4, 6))
        whole = effective + beside if first else beside + effective
        whole.register_hook(lambda g: seen.append(g))
        (whole * slope).sum().backward()
        torch.testing.assert_close(beside.grad, slope)
        torch.testing.assert_close(seen[-1], slope)
        torch.testing.assert_close(weight.grad, slope * mask)
        torch.testing.assert_close(scores.grad.view(4, 6), slope * raw)


def test_score_gradient_is_dense_gradient_times_weight() -> None:
    generator = torch.Generator().manual_seed(3)
    raw, x = torch.randn(4, 6, generator=generator), torch.randn(8, 6, generator=generator)
    mask = (torch.rand(4, 6, generator=generator) > 0.5).float()
    weight, scores = raw.clone().requires_grad_(), torch.zeros(24, requires_grad=True)
    (x @ StraightThrough.apply(weight, scores, mask, (4, 6)).T).tanh().sum().backward()
    effective = (raw * mask).requires_grad_()
    (x @ effective.T).tanh().sum().backward()
    torch.testing.assert_close(scores.grad.view(4, 6), effective.grad * raw)
    torch.testing.assert_close(weight.grad, effective.grad * mask)
    assert scores.grad.view(4, 6)[mask == 0].abs().min() > 0


def test_magnitude_gives_pruned_weights_exactly_no_gradient() -> None:
    layer = nn.Linear(3, 3, bias=False)
    gate = MaskGate(None, torch.Size([3, 3]), (3, 3))
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    gate.mask.copy_(torch.eye(3))
    layer(torch.ones(2, 3)).square().sum().backward()
    gradient = layer.parametrizations.weight.original.grad
    assert (gradient[~torch.eye(3, dtype=torch.bool)] == 0).all()
    assert gradient.diagonal().abs().min() > 0


def test_movement_lets_a_pruned_weight_return() -> None:
    # One output, two inputs; the pruned weight 0.5 would help: G = out - target < 0 and W > 0, so its score
    # rises.
    weight = torch.tensor([[0.5, 0.4]])
    scores = torch.tensor([0.0, 0.1], requires_grad=True)
    x, target = torch.tensor([3.0, 0.1]), 2.0
    first = keep_largest([scores.detach()], 1)[0]
    assert first.tolist() == [False, True]
    out = (StraightThrough.apply(weight, scores, first.float().view(1, 2), (1, 2)) @ x).squeeze()
    (0.5 * (out - target) ** 2).backward()
    with torch.no_grad():
        scores -= 0.1 * scores.grad
    assert keep_largest([scores.detach()], 1)[0].tolist() == [True, False]


def test_keep_one_is_bit_identical() -> None:
    layer = nn.Linear(16, 8)
    x = torch.randn(4, 16)
    before = layer(x)
    gate = MaskGate(nn.Parameter(torch.zeros(128)), torch.Size([8, 16]), (8, 16))
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize(
    ("score", "gate", "penalty"),
    [(math.log(9), 0.97998, 0.97802), (0.0, 0.5, 0.83182), (-3.0, 0.0, 0.19759)],
)
def test_hard_concrete_values(score: float, gate: float, penalty: float) -> None:
    s = torch.tensor([score])
    assert hard_concrete(s).item() == pytest.approx(gate, abs=5e-5)
    assert torch.sigmoid(s + GatePenalty.shift).item() == pytest.approx(penalty, abs=5e-5)


def test_hard_concrete_constants() -> None:
    assert GatePenalty.shift == pytest.approx(1.598597, abs=1e-6)
    assert HardConcrete.closed_below == pytest.approx(-2.397895, abs=1e-6)
    edge = torch.tensor([-2.3979, -2.3978])
    assert (hard_concrete(edge) > 0).tolist() == [False, True]


def test_hard_concrete_is_random_in_training_and_fixed_at_evaluation() -> None:
    gate = HardConcreteGate(nn.Parameter(torch.zeros(2500)), torch.Size([50, 50]), (50, 50))
    weight = torch.ones(50, 50)
    assert not torch.equal(gate(weight), gate(weight))
    gate.eval()
    assert torch.equal(gate(weight), gate(weight))
    assert torch.equal(gate.final(weight), gate(weight))


def test_gate_gradient_agrees_with_finite_differences_for_fixed_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(200, generator=generator).double() * 0.9998 + 1e-4
    scores = torch.randn(200, generator=generator).double().requires_grad_()
    hard_concrete(scores, uniform).sum().backward()
    step = 1e-6
    numeric = (
        hard_concrete(scores.detach() + step, uniform) - hard_concrete(scores.detach() - step, uniform)
    ) / (2 * step)
    torch.testing.assert_close(scores.grad, numeric, atol=1e-5, rtol=1e-4)


def test_expected_open_gates_match_their_closed_form() -> None:
    torch.manual_seed(0)
    for score in (-2.0, 0.0, 1.5):
        uniform = torch.rand(200_000).clamp(1e-6, 1 - 1e-6)
        opened = (hard_concrete(torch.full((200_000,), score), uniform) > 0).float().mean().item()
        assert opened == pytest.approx(
            torch.sigmoid(torch.tensor(score + GatePenalty.shift)).item(), abs=5e-3
        )
