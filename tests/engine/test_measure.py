"""Scores on demand inside a run: measured once per cut, cut for good, and without a trace in the training."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.engine import compact
from analysis.engine.measure import gradient
from analysis.engine.setup import Setup, prepare
from analysis.errors import SpecError
from analysis.recipes import build

Prepare = Callable[..., Setup]


@pytest.fixture
def setup(
    tmp_path: Path, tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]
) -> Prepare:
    """Prepares a run of gradient_flow on a tiny BERT with wide weights and forty sentences."""

    def make(rows: list[dict[str, Any]] = sentences, **settings: Any) -> Setup:
        data = write("data.jsonl", rows * 3)
        plan = {
            "training.precision": "fp32",
            "training.batch": 8,
            **{k.replace("__", "."): v for k, v in settings.items()},
        }
        made = prepare(build("gradient_flow", str(tiny_bert), str(data), keep=0.25, settings=plan), tmp_path)
        torch.manual_seed(1)
        with torch.no_grad():
            for site in made.pruner.sites:
                site.weight.normal_(0, 0.3)
        return made

    return make


ORDERS = [
    {"score__order": 0, "score__bias": "none"},
    {},
    {"score__order": 2, "score__absolute": "nowhere", "score__bias": "none", "score__temperature": 200},
]


@pytest.mark.parametrize("order", ORDERS)
def test_it_measures_once_per_cut_and_what_is_cut_stays_cut(setup: Prepare, order: dict[str, Any]) -> None:
    made = setup(**order)
    pruner, seen, calls = made.pruner, [made.pruner.masks()], 0
    inner = pruner.measure

    def counted(tensors: Any, passes: int) -> Any:
        nonlocal calls
        calls += 1
        assert inner is not None
        return inner(tensors, passes)

    pruner.measure = counted
    for step in range(101):
        with torch.no_grad():
            for site in pruner.sites:
                site.weight.add_(torch.randn(site.weight.shape) * 0.02)
        pruner.refresh(step / 100)
        seen.append(pruner.masks())
    assert calls == (0 if order.get("score__order") == 0 else 5)
    for before, after in pairwise(seen):
        assert all(bool((b | ~a).all()) for b, a in zip(before, after, strict=True))
    assert len({sum(int(m.sum()) for m in masks) for masks in seen}) == 6
    assert 1024 - 512 < pruner.kept <= 1024 and pruner.total == 4096
    assert all(torch.isfinite(s).all() and s.abs().sum() > 0 for s in pruner.states if s is not None)


def test_measuring_leaves_no_trace(setup: Prepare) -> None:
    made = setup(score__order=2, score__absolute="after")
    made.model.train()
    state = torch.get_rng_state()
    weights = [s.weight for s in made.pruner.sites]
    assert made.pruner.measure is not None
    first, second = (made.pruner.measure(weights, 2) for _ in range(2))
    assert made.model.training and torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in made.model.parameters())
    for a, b in zip(first, second, strict=True):
        assert a is not None and b is not None
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert all(float(x.abs().sum()) > 0 and not x.requires_grad for x in a)
    assert made.pruner.measure(weights, 0) == (None, None)


def test_the_sample_in_micro_batches_is_the_sample_at_once(setup: Prepare) -> None:
    found = []
    for batch in (8, 64):
        made = setup(training__batch=batch, score__examples=37)
        assert made.pruner.measure is not None
        found.append(made.pruner.measure([s.weight for s in made.pruner.sites], 1)[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_cut_weight_has_neither_gradient_nor_curvature(setup: Prepare) -> None:
    made = setup(score__order=2, score__absolute="after")
    made.pruner.refresh(1.0)
    assert made.pruner.measure is not None
    slopes, bends = made.pruner.measure([s.weight for s in made.pruner.sites], 2)
    assert slopes is not None and bends is not None
    for mask, g, bend in zip(made.pruner.masks(), slopes, bends, strict=True):
        assert float(g[~mask].abs().sum()) == float(bend[~mask].abs().sum()) == 0


def test_the_rebuilt_network_computes_what_the_masked_one_did(setup: Prepare) -> None:
    made = setup()
    made.pruner.refresh(0.4)
    made.pruner.refresh(1.0)
    model, batch = made.model.eval(), made.data.test.batch(np.arange(4))
    with torch.no_grad():
        masked = model(**batch).logits
        made.pruner.finalise()
        compact.compact(model)
        torch.testing.assert_close(model(**batch).logits, masked, atol=1e-5, rtol=0)
    assert sum(s.weight.numel() for s in made.pruner.sites) < 4096


def test_a_number_has_no_temperature(setup: Prepare, sentences: list[dict[str, Any]]) -> None:
    numbers = [{**row, "label": i / 7} for i, row in enumerate(sentences)]
    assert setup(numbers, score__order=1).pruner.measure is not None
    with pytest.raises(SpecError, match=r"score.temperature is 200, but the task predicts a number"):
        setup(numbers, score__temperature=200)


def test_unused_weights_have_a_gradient_of_zero() -> None:
    used, idle = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    assert [g.tolist() for g in gradient([(0.5, used.sum())], [used, idle])] == [[0.5, 0.5], [0, 0, 0]]
