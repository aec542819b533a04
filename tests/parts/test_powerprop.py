"""Powerpropagation and Top-KAST against their worked examples, autograd and the plain mask."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from analysis.errors import SpecError
from analysis.parts.gates import MaskGate, PowerGate
from analysis.parts.losses import LossContext, Reach
from analysis.parts.reparam import (
    SignedPower,
    power_pace,
    power_slope,
    power_step,
    signed_power,
    signed_root,
)
from analysis.parts.select import TopK, keep_largest
from analysis.parts.topkast import TopKast, TopKastPenalty, topkast_penalty
from analysis.recipes import build

THETA = torch.tensor([0.5, -0.2, 0.0])


def assert_close(found: torch.Tensor, wanted: list[float], within: float = 5e-5) -> None:
    torch.testing.assert_close(found.detach().flatten(), torch.tensor(wanted), atol=within, rtol=0)


def layer_with(theta: list[float], **choices: object) -> tuple[nn.Linear, PowerGate]:
    """One output whose stored parameters are theta; no correction of the learning rate unless asked for."""
    part = SignedPower(**{"alpha": 2.0, "lr_limit": 1.0, **choices})  # type: ignore[arg-type]
    layer = nn.Linear(len(theta), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(signed_power(torch.tensor([theta]), part.alpha))
    gate = part.gate(None, layer.weight.shape, (1, len(theta)))
    assert isinstance(gate, PowerGate)
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    return layer, gate


def raw_of(layer: nn.Linear) -> torch.Tensor:
    raw: torch.Tensor = layer.parametrizations.weight.original  # type: ignore[union-attr,index]
    return raw


def one_step(layer: nn.Linear, gate: MaskGate, optimizer: torch.optim.Optimizer, decay: float = 0.0) -> None:
    """A step with dL/dW = 1 everywhere, as the loop does it."""
    (layer.weight * torch.ones_like(layer.weight)).sum().backward()
    with torch.no_grad():
        gate.before_step(raw_of(layer))
        optimizer.step()
        gate.after_step(raw_of(layer), decay)
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("alpha", "weight", "slope"),
    [
        (1.0, [0.5, -0.2, 0.0], [1.0, 1.0, 1.0]),
        (1.5, [0.35355, -0.08944, 0.0], [1.0607, 0.6708, 0.0]),
        (2.0, [0.25, -0.04, 0.0], [1.0, 0.4, 0.0]),
        (3.0, [0.125, -0.008, 0.0], [0.75, 0.12, 0.0]),
    ],
)
def test_power_and_its_slope(alpha: float, weight: list[float], slope: list[float]) -> None:
    assert_close(signed_power(THETA, alpha), weight)
    assert_close(power_slope(THETA, alpha), slope)


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 3.0, 5.0])
def test_gradient_is_the_slope_and_never_nan(alpha: float) -> None:
    layer, _ = layer_with(THETA.tolist(), alpha=alpha, raw_moments=False)
    layer.weight.sum().backward()
    gradient = raw_of(layer).grad
    assert gradient is not None and gradient.isfinite().all()
    torch.testing.assert_close(gradient[0], power_slope(raw_of(layer).detach()[0], alpha))
    plain = raw_of(layer).detach()[0, :2].double().requires_grad_()  # the oracle has no zero among its values
    (plain.sign() * plain.abs() ** alpha).sum().backward()
    torch.testing.assert_close(gradient[0, :2].double(), plain.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "theta"),
    [(2.0, [0.3, -0.5, 0.04]), (3.0, [0.4481, -0.63, 0.117]), (4.0, [0.5477, -0.7071, 0.2])],
)
def test_root(alpha: float, theta: list[float]) -> None:
    weight = torch.tensor([0.09, -0.25, 0.0016])
    assert_close(signed_root(weight, alpha), theta)
    assert_close(signed_power(signed_root(weight, alpha), alpha), weight.tolist(), within=1e-7)


@pytest.mark.parametrize(
    ("alpha", "size"),
    [(1.25, 0.3277), (1.5, 0.2963), (2.0, 0.25), (3.0, 0.1925), (4.0, 0.1575), (5.0, 0.1337)],
)
def test_where_the_pace_is_one(alpha: float, size: float) -> None:
    assert alpha ** (-alpha / (alpha - 1)) == pytest.approx(size, abs=5e-5)
    assert_close(power_pace(torch.tensor([size]), alpha), [1.0], within=1e-3)  # the sizes have four digits


@pytest.mark.parametrize(
    ("size", "paces"),
    [
        (0.02, [0.327, 0.166, 0.080, 0.049, 0.045, 0.048]),
        (0.04, [0.431, 0.263, 0.160, 0.123, 0.128, 0.145]),
        (0.10, [0.622, 0.485, 0.400, 0.418, 0.506, 0.628]),
        (1.00, [1.5625, 2.25, 4.0, 9.0, 16.0, 25.0]),
    ],
)
def test_table_of_paces(size: float, paces: list[float]) -> None:
    found = [float(power_pace(torch.tensor([size]), a)) for a in (1.25, 1.5, 2.0, 3.0, 4.0, 5.0)]
    assert found == pytest.approx(paces, abs=5.1e-4)


@pytest.mark.parametrize("raw_moments", [True, False])
def test_a_step_of_gradient_descent(raw_moments: bool) -> None:
    layer, gate = layer_with([0.3, -0.5], raw_moments=raw_moments)
    assert_close(layer.weight, [0.09, -0.25], within=1e-6)
    one_step(layer, gate, torch.optim.SGD([raw_of(layer)], lr=0.1))
    assert_close(raw_of(layer), [0.24, -0.6], within=1e-6)
    assert_close(layer.weight, [0.0576, -0.36], within=1e-6)


@pytest.mark.parametrize(
    ("raw_moments", "theta", "moved"),
    [(False, [0.2, -0.6], [-0.05, -0.11]), (True, [0.24, -0.6], [-0.0324, -0.11])],
)
def test_first_step_of_adam(raw_moments: bool, theta: list[float], moved: list[float]) -> None:
    layer, gate = layer_with([0.3, -0.5], raw_moments=raw_moments)
    before = layer.weight.detach().clone()
    one_step(layer, gate, torch.optim.AdamW([raw_of(layer)], lr=0.1, weight_decay=0.0))
    assert_close(raw_of(layer), theta, within=1e-6)
    assert_close(layer.weight - before, moved, within=1e-6)


def test_adam_divides_the_slope_out_unless_its_moments_are_raw() -> None:
    steps: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for raw_moments, kept in steps.items():
        for alpha in (1.5, 2.0, 3.0):
            layer, gate = layer_with([0.3, -0.5], alpha=alpha, raw_moments=raw_moments)
            before = raw_of(layer).detach().clone()
            one_step(layer, gate, torch.optim.AdamW([raw_of(layer)], lr=0.01, weight_decay=0.0))
            step = raw_of(layer).detach() - before
            kept.append(step / power_slope(before, alpha) if raw_moments else step)
    for kept in steps.values():
        for other in kept[1:]:
            torch.testing.assert_close(other, kept[0], atol=2e-7, rtol=1e-5)
    assert_close(steps[False][0], [-0.01, -0.01], within=1e-6)


def test_second_steps_of_adam_keep_their_moments_on_the_raw_gradient() -> None:
    """Oracle: Adam written out on dL/dW, each finished step times the slope, over several gradients."""
    generator = torch.Generator().manual_seed(0)
    layer, gate = layer_with([0.3, -0.5, 0.8], alpha=3.0)
    optimizer = torch.optim.AdamW([raw_of(layer)], lr=0.01, weight_decay=0.0)
    theta = raw_of(layer).detach().double().clone()
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    for t in range(1, 6):
        g = torch.randn(1, 3, generator=generator)
        (layer.weight * g).sum().backward()
        with torch.no_grad():
            gate.before_step(raw_of(layer))
            optimizer.step()
            gate.after_step(raw_of(layer), 0.0)
        optimizer.zero_grad()
        first = 0.9 * first + 0.1 * g.double()
        second = 0.999 * second + 0.001 * g.double() ** 2
        adam = (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
        theta = theta - 0.01 * 3 * theta.abs() ** 2 * adam
    torch.testing.assert_close(raw_of(layer).detach().double(), theta, atol=1e-6, rtol=1e-5)


def test_weight_decay_takes_from_the_weight_what_it_would_without_the_power() -> None:
    theta = torch.tensor([0.3, -0.5])
    # Decay on theta as it is would act alpha times on W ...
    undivided = power_step(theta, theta, 2.0, decay=2e-3)
    assert_close(signed_power(undivided, 2.0) / signed_power(theta, 2.0), [0.998001] * 2, within=1e-6)
    # ... so theta gets a share of 1 / alpha, and W loses 1e-3.
    divided = power_step(theta, theta, 2.0, decay=1e-3)
    assert_close(signed_power(divided, 2.0) / signed_power(theta, 2.0), [0.999] * 2, within=1e-6)
    layer, gate = layer_with([0.3, -0.5])
    before = layer.weight.detach().clone()
    one_step(layer, gate, torch.optim.SGD([raw_of(layer)], lr=0.0), decay=1e-3)
    assert_close(layer.weight / before, [0.999, 0.999], within=1e-6)


def test_correction_of_the_learning_rate() -> None:
    weight = torch.tensor([[0.1, -0.1, 0.1]])
    assert SignedPower(alpha=2.0).factor(weight) == pytest.approx(1 / 0.4)
    assert SignedPower(alpha=2.0, raw_moments=False).factor(weight) == pytest.approx(1 / 0.4**0.5)
    assert SignedPower(alpha=2.0).factor(weight / 100) == 10.0
    assert SignedPower(alpha=2.0, lr_limit=1).factor(weight) == 1.0
    assert SignedPower(alpha=2.0).factor(torch.ones(3)) == pytest.approx(1 / 4)
    # With it, the first small step moves the weights of a uniform matrix as far as without the power.
    layer, gate = layer_with([0.1**0.5] * 3, lr_limit=10.0)
    one_step(layer, gate, torch.optim.SGD([raw_of(layer)], lr=1e-4))
    assert_close(layer.weight - 0.1, [-1e-4] * 3, within=1e-6)


def test_power_one_is_the_plain_mask() -> None:
    gate = SignedPower(alpha=1.0).gate(None, torch.Size([4, 6]), (4, 6))
    assert type(gate) is MaskGate and not gate.decays


def test_mask_by_weight_is_mask_by_parameter() -> None:
    theta = torch.randn(500, generator=torch.Generator().manual_seed(0))
    for alpha in (1.25, 2.0, 4.0):
        by_weight, by_theta = (
            keep_largest([s], 77)[0] for s in (signed_power(theta, alpha).abs(), theta.abs())
        )
        assert torch.equal(by_weight, by_theta)


def test_the_mask_comes_after_the_power() -> None:
    layer, gate = layer_with([0.3, -0.5, 0.7])
    gate.mask.copy_(torch.tensor([[1.0, 0.0, 1.0]]))
    assert_close(layer.weight, [0.09, 0.0, 0.49], within=1e-6)
    layer.weight.sum().backward()
    assert raw_of(layer).grad.tolist() == [[1.0, 0.0, 1.0]]  # dL/dW as it is; the slope comes with the step
    assert_close(raw_of(layer), [0.3, -0.5, 0.7], within=1e-6)  # what is cut is still stored
    assert_close(gate.final(raw_of(layer).detach()), [0.09, 0.0, 0.49], within=1e-6)


def test_learned_scores_see_the_effective_weight() -> None:
    part = SignedPower(alpha=3.0)
    layer, x = nn.Linear(6, 4, bias=False), torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    gate = part.gate(nn.Parameter(torch.zeros(24)), torch.Size([4, 6]), (4, 6))
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    gate.mask.copy_((torch.rand(4, 6) > 0.5).float())
    dense = gate.effective(raw_of(layer)).detach()
    layer(x).tanh().sum().backward()
    effective = (dense * gate.mask).requires_grad_()
    (x @ effective.T).tanh().sum().backward()
    assert effective.grad is not None and gate.scores is not None
    torch.testing.assert_close(gate.scores.grad.view(4, 6), effective.grad * dense)  # type: ignore[union-attr]
    torch.testing.assert_close(raw_of(layer).grad, effective.grad * gate.mask)


def test_a_matrix_of_zeros_is_refused() -> None:
    layer = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(layer.weight)
    gate = SignedPower().gate(None, layer.weight.shape, (2, 3))
    with pytest.raises(SpecError, match="shape 2 x 3 is all zeros, which a power of 2 can never leave"):
        parametrize.register_parametrization(layer, "weight", gate, unsafe=True)


EXPLORED = torch.tensor([0.9, -0.1, 0.4, -0.6, 0.05, 0.3])
X = torch.arange(1.0, 7.0)


def explored_layer() -> tuple[nn.Linear, MaskGate]:
    """The worked example: six weights, two kept, four reached."""
    layer, gate = nn.Linear(6, 1, bias=False), MaskGate(None, torch.Size([1, 6]), (1, 6))
    with torch.no_grad():
        layer.weight.copy_(EXPLORED)
    gate.widen()
    select, scores = TopKast(explore=1 / 3), [EXPLORED.abs()]
    gate.mask.copy_(select.choose(scores, 1 / 3)[0])
    reach = select.reach(scores, 1 / 3)
    assert reach is not None and gate.reach is not None
    gate.reach.copy_(reach[0])
    parametrize.register_parametrization(layer, "weight", gate, unsafe=True)
    return layer, gate


def test_topkast_computes_with_the_kept_and_teaches_the_reached() -> None:
    layer, gate = explored_layer()
    assert gate.mask.flatten().nonzero().flatten().tolist() == [0, 3]
    assert gate.reach is not None and gate.reach.flatten().nonzero().flatten().tolist() == [0, 2, 3, 5]
    out = layer(X)
    assert out.item() == pytest.approx(-1.5)
    out.sum().backward()
    assert_close(raw_of(layer).grad, [1.0, 0.0, 3.0, 4.0, 0.0, 6.0])  # type: ignore[arg-type]


def test_topkast_penalty() -> None:
    layer, gate = explored_layer()
    assert gate.reach is not None
    sites = [Reach(gate.effective(raw_of(layer)), gate.mask, gate.reach)]
    nothing = torch.zeros(())
    value = TopKastPenalty().value(LossContext(nothing, {}, {}, [], reach=lambda: sites))
    assert value.item() == pytest.approx(0.96)
    assert topkast_penalty(sites).item() == value.item()
    value.backward()
    assert_close(raw_of(layer).grad, [0.9, 0.0, 1.2, -0.6, 0.0, 0.9])  # type: ignore[arg-type]


def test_what_topkast_does_not_reach_is_frozen_against_momentum_and_decay() -> None:
    layer, gate = explored_layer()
    optimizer = torch.optim.AdamW([raw_of(layer)], lr=0.1, weight_decay=0.5)
    one_step(layer, gate, optimizer)
    assert gate.reach is not None
    gate.reach.copy_(torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0, 0.0]]))
    before = raw_of(layer).detach().clone()
    one_step(layer, gate, optimizer)
    still = (raw_of(layer).detach() == before).flatten()
    assert still.tolist() == [False, False, True, False, True, True]


def test_topkast_without_exploration_is_top_k_and_never_reaches_beyond_all() -> None:
    scores = [torch.randn(40).abs(), torch.randn(9).abs()]
    for scope in ("local", "global"):
        plain, none = TopK(scope=scope).choose(scores, 0.3), TopKast(scope=scope, explore=0.0)
        reach = none.reach(scores, 0.3)
        assert reach is not None and all(torch.equal(a, b) for a, b in zip(plain, reach, strict=True))
        everything = TopKast(scope=scope, explore=1.0).reach(scores, 0.3)
        assert everything is not None and all(bool(m.all()) for m in everything)
        wider = TopKast(scope=scope, explore=0.2).reach(scores, 0.3)
        assert wider is not None and all(bool((b | ~a).all()) for a, b in zip(plain, wider, strict=True))
    assert TopK().reach(scores, 0.3) is None


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("movement", {"select.type": "TopKast"}, "select is TopKast.* but the score is Movement.*Norm"),
        ("random", {"select.type": "TopKast"}, "the score is Random, which their growth does not raise"),
        ("powerprop", {"penalty.type": "TopKastPenalty"}, "needs explored weights, but select is TopK,"),
        (
            "powerprop",
            {"penalty.type": "SigmoidPenalty"},
            "pulls on learned scores, but the score is Magnitude",
        ),
        ("l0", {"select.type": "TopKast"}, "TopKast"),
        ("powerprop", {"reparam.alpha": 0.5}, r"SignedPower.alpha is 0.5; allowed is a number in \[1, 5\]"),
    ],
)
def test_what_does_not_fit_is_refused(recipe: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(recipe, "m", "t", settings=settings)


def test_what_fits_is_built() -> None:
    powered = build("movement", "m", "t", settings={"reparam.type": "SignedPower"})
    assert powered.parts.reparam == SignedPower() and powered.parts.score.learned
    explored = {"select.type": "TopKast", "penalty.type": "TopKastPenalty"}
    assert build("magnitude", "m", "t", settings=explored).parts.select == TopKast()


def trained(alpha: float) -> tuple[float, float]:
    """Kurtosis of the weights and accuracy at 5 % keep of a small network after gradient descent.

    The labels come from a network in which most weights are zero, so that few weights are worth having.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 128), (128, 128), (128, 10)]
    teacher = [torch.randn(o, i, generator=generator) / i**0.5 for i, o in sizes]
    for w in teacher:
        w *= 3 * (torch.rand(w.shape, generator=generator) < 0.1)

    def answer(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
        for w in weights[:-1]:
            x = (x @ w.T).relu()
        return x @ weights[-1].T

    gates, raws = [], []
    for i, o in sizes:
        start = torch.randn(o, i, generator=generator) * (2 / i) ** 0.5
        gate = SignedPower(alpha=alpha, lr_limit=1.0).gate(None, start.shape, (o, i))
        gates.append(gate)
        raws.append((gate.right_inverse(start) if isinstance(gate, PowerGate) else start).requires_grad_())
    optimizer = torch.optim.SGD(raws, lr=0.1)
    for _ in range(1500):
        x = torch.randn(64, 64, generator=generator)
        labels = answer(x, teacher).argmax(1)
        out = answer(x, [g(r) for g, r in zip(gates, raws, strict=True)])
        nn.functional.cross_entropy(out, labels).backward()
        with torch.no_grad():
            for g, r in zip(gates, raws, strict=True):
                g.before_step(r)
            optimizer.step()
            for g, r in zip(gates, raws, strict=True):
                g.after_step(r, 0.0)
        optimizer.zero_grad()
    with torch.no_grad():
        weights = [g.effective(r) for g, r in zip(gates, raws, strict=True)]
        flat = torch.cat([w.flatten() for w in weights])
        kept = keep_largest([flat.abs()], flat.numel() // 20)[0].split([w.numel() for w in weights])
        cut = [w * m.view_as(w) for w, m in zip(weights, kept, strict=True)]
        x = torch.randn(4000, 64, generator=generator)
        right = (answer(x, cut).argmax(1) == answer(x, teacher).argmax(1)).float().mean()
        kurtosis = (flat - flat.mean()).pow(4).mean() / flat.var(unbiased=False) ** 2
    return float(kurtosis), float(right)


@pytest.mark.slow
def test_the_power_gathers_weights_around_zero_and_survives_the_cut() -> None:
    (plain, accurate), (peaked, more_accurate) = trained(1.0), trained(2.0)
    assert peaked > 2 * plain
    assert more_accurate > accurate + 0.04
