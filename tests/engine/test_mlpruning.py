"""MLPruning on real model classes: two levels of units, exact removal, learned shares in training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from analysis import spec as specs
from analysis.engine import compact, matcher, shares, stages, train
from analysis.engine.pruner import Pruner
from analysis.engine.sites import find_sites
from analysis.parts.learned import expected_share
from analysis.recipes import RECIPES, build
from analysis.spec import LineUp, RunSpec
from analysis.store.layout import write_json
from tests.engine.test_train import Control, events, masks

CONFIG = hf.BertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=32,
    vocab_size=50,
    hidden_dropout_prob=0.0,
)
IDS = torch.arange(1, 13).view(2, 6)
STEPS = 30


@pytest.fixture
def model() -> nn.Module:
    """A BERT whose biases are not zero, so that masking them is seen."""
    torch.manual_seed(0)
    made = hf.BertForSequenceClassification(CONFIG).eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.endswith("bias"):
                p.normal_(std=0.3)
    return made


def lineup(**settings: Any) -> LineUp:
    plan = {"units.tile": 4, **{k.replace("__", "."): v for k, v in settings.items()}}
    return build("mlpruning", "m", "t", settings=plan).parts


def set_shares(pruner: Pruner, kept: list[int]) -> None:
    """Sets every logit so that just so many units of its group are kept, and draws scores."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for theta, group, k in zip(shares.thetas_of(pruner), pruner.groups, kept, strict=True):
            share = (k - 1e-4) / group.units
            theta.fill_(math.log(share / (1 - share)))
        for scores in pruner.learned_scores():
            scores.copy_(torch.randn(scores.shape, generator=generator))


def test_m5_a_head_has_one_mask_and_the_sum_of_three_gradients(model: nn.Module) -> None:
    pruner = Pruner.attach(find_sites(model), lineup(reparam__type="Masked"), 0.5, seed=0)
    by_role = {s.role: i for i, s in enumerate(pruner.sites) if s.layer == 0}
    set_shares(pruner, [2, 12, 20, 12] * 2)
    pruner.refresh(0.0)
    now = pruner.masks()
    q, k, v = (now[by_role[r]] for r in ("query", "key", "value"))
    assert torch.equal(q, k) and torch.equal(k, v) and q.sum() == 2 * 4 * 16
    assert torch.equal(now[by_role["attention output"]].any(0), v.any(1))  # its columns follow
    assert torch.equal(now[by_role["ffn out"]].any(0), now[by_role["ffn in"]].any(1))
    model(IDS).logits.square().sum().backward()
    (found, theta), share = (pruner.learned_scores()[0].grad, shares.thetas_of(pruner)[0]), pruner.shares[0]
    sites = [pruner.sites[by_role[r]] for r in ("query", "key", "value")]
    raw = [s.weight.detach().clone() for s in sites]
    pruner.finalise()
    model.zero_grad()
    model(IDS).logits.square().sum().backward()  # with the masks in the weights their gradient is dense
    slopes = [s.weight.grad for s in sites]
    wanted = sum((g * w).view(4, -1).sum(1) for g, w in zip(slopes, raw, strict=True) if g is not None)
    assert found is not None and theta.grad is not None and share is not None
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    slope = torch.sigmoid(theta) * (1 - torch.sigmoid(theta))
    torch.testing.assert_close(theta.grad, (found * share.chosen).sum() * slope, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kept", [[2, 16, 32, 16], [3, 12, 20, 4], [1, 4, 4, 4], [4, 16, 32, 16]])
def test_the_expected_share_is_what_is_kept_where_it_is_whole_units(
    model: nn.Module, kept: list[int]
) -> None:
    pruner = Pruner.attach(find_sites(model), lineup(), 0.5, seed=0)
    set_shares(pruner, kept * 2)
    pruner.refresh(0.0)
    found = shares.budget(pruner)
    assert found is not None and found.target == 0.5
    assert expected_share(found).item() == pytest.approx(pruner.kept / pruner.total, abs=1e-4)
    assert pruner.kept == sum(int(m.sum()) for m in pruner.masks())


def test_m6_real_removal_equals_the_masked_model(model: nn.Module) -> None:
    sites = find_sites(model)
    pruner = Pruner.attach(sites, lineup(), 0.5, seed=0)
    set_shares(pruner, [2, 12, 20, 8, 1, 16, 12, 12])
    pruner.refresh(0.0)
    masked = model(IDS).logits
    pruner.finalise()
    assert all(not s.module.bias[~s.weight.any(1)].any() for s in sites)  # type: ignore[union-attr,index]
    layers = compact.compact(model)
    assert [(len(la.heads), len(la.neurons)) for la in layers] == [(2, 20), (1, 12)]
    torch.testing.assert_close(model(IDS).logits, masked, atol=1e-5, rtol=0)
    assert sum(s.weight.numel() for s in find_sites(model)) < pruner.total


def test_m8_tiles_lie_inside_what_the_first_level_left(model: nn.Module) -> None:
    first = Pruner.attach(find_sites(model), lineup(), 0.5, seed=0)
    set_shares(first, [2, 12, 20, 8, 1, 16, 12, 12])
    first.refresh(0.0)
    held = first.masks()
    pruned = model(IDS).logits
    first.finalise()
    second = Pruner.attach(find_sites(model), lineup(units__level="tiles"), 0.2, seed=0, held=held)
    assert torch.equal(model(IDS).logits, pruned)  # all tiles kept change nothing
    tiles = [g.units for g in second.groups]
    assert tiles[:6] == [8, 8, 8, 6, 20, 10]  # 8x16 three times, 12x8, 20x16, 8x20, in tiles of 4x4
    assert [int(h.sum()) for h in held[:6]] == [16 * n for n in tiles[:6]]  # the rounding made them divide
    found = shares.budget(second)
    assert found is not None
    assert found.target == pytest.approx(0.2 * second.total / first.kept)
    set_shares(second, [max(1, n // 2) for n in tiles])
    second.refresh(0.0)
    now = second.masks()
    assert all(bool((h | ~m).all()) for h, m in zip(held, now, strict=True))  # what is gone stays gone
    assert [int(m.sum()) for m in now] == [16 * max(1, n // 2) for n in tiles]
    assert second.kept == sum(int(m.sum()) for m in now)
    assert expected_share(found).item() * second.open == pytest.approx(second.kept, rel=1e-3)
    assert all(bool(second.scores(i).isfinite().all()) for i in range(len(now)))
    masked = model(IDS).logits
    second.finalise()
    compact.compact(model)
    torch.testing.assert_close(model(IDS).logits, masked, atol=1e-5, rtol=0)


def test_a_tile_collects_the_gradient_of_its_gathered_weights(model: nn.Module) -> None:
    first = Pruner.attach(find_sites(model), lineup(), 0.5, seed=0)
    set_shares(first, [2, 12, 20, 8] * 2)
    first.refresh(0.0)
    held = first.masks()
    first.finalise()
    second = Pruner.attach(find_sites(model), lineup(units__level="tiles"), 0.2, seed=0, held=held)
    model(IDS).logits.square().sum().backward()
    weight, mask = second.sites[0].weight, held[0]
    assert weight.grad is not None
    rows = mask.any(1)
    moved = (weight.grad * weight)[rows].detach().view(2, 4, 4, 4).sum((1, 3)).flatten()
    score = second.learned_scores()[0].grad
    assert score is not None
    torch.testing.assert_close(score, moved, atol=1e-6, rtol=1e-4)
    assert not weight.grad[~rows].any()


def test_heads_left_are_those_with_query_key_and_value(model: nn.Module) -> None:
    pruner = Pruner.attach(find_sites(model), lineup(), 0.5, seed=0)
    set_shares(pruner, [2, 12, 20, 8, 1, 16, 12, 12])
    pruner.refresh(0.0)
    assert [int(h.sum()) for h in matcher.heads_left(pruner)] == [2, 1]
    key = next(i for i, s in enumerate(pruner.sites) if s.role == "key")
    pruner.gates[key].mask.zero_()
    assert [int(h.sum()) for h in matcher.heads_left(pruner)] == [0, 1]


def test_shares_far_down_leave_one_unit_of_every_group(model: nn.Module) -> None:
    pruner = Pruner.attach(find_sites(model), lineup(units__round_up=False), 0.01, seed=0)
    with torch.no_grad():
        for theta in shares.thetas_of(pruner):
            theta.fill_(-1000)
    pruner.refresh(0.0)
    assert [int(s.chosen.sum()) for s in pruner.shares if s is not None] == [1] * 8
    found = shares.budget(pruner)
    assert found is not None  # one head of four and one row each, as the floors of the formula have it
    assert expected_share(found).item() == pytest.approx(pruner.kept / pruner.total, abs=1e-6)


Launch = Callable[..., Path]


@pytest.fixture
def launch(
    tmp_path: Path, tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]
) -> Launch:
    """Writes a run folder of the recipe on a tiny BERT."""
    data = str(write("data.jsonl", sentences * 3))

    def make(keep: float = 0.4, steps: int = STEPS, **settings: Any) -> Path:
        plan = {
            "training.batch": 8,
            "training.precision": "fp32",
            "training.evaluations": 2,
            "optimizer.lr": 0.01,
            "units.tile": 4,
            "score.lr": 0.2,
            **{k.replace("__", "."): v for k, v in settings.items()},
        }
        spec = build("mlpruning", str(tiny_bert), data, keep=keep, steps=steps, settings=plan)
        path = tmp_path / "runs" / f"run-{len(list(tmp_path.glob('runs/*')))}"
        path.mkdir(parents=True)
        write_json(path / "spec.json", specs.to_dict(spec))
        write_json(path / "state.json", {"state": "done", "pid": 1})
        return path

    return make


def spec_of(path: Path) -> RunSpec:
    return specs.from_dict(json.loads((path / "spec.json").read_text()))


def test_a_run_goes_through_both_levels(launch: Launch) -> None:
    path = launch()
    train.execute(path, Control())
    assert [e["name"] for e in events(path, "stage")] == ["teach", "heads and rows", "tiles"]
    losses = events(path, "loss")
    assert "expected" not in losses[0]
    terms = {"task", "distillation", "hidden", "attention", "penalty"}
    rows = [row for row in losses[:-1] if "expected" in row]
    assert [len(row["shares"]) for row in rows] == [8] * 12 + [len(rows[-1]["shares"])] * 9
    assert all(set(row["terms"]) == terms and all(0 < s < 1 for s in row["shares"]) for row in rows)
    assert rows[0]["shares"] == pytest.approx([1 / (1 + math.exp(-4))] * 8)
    assert rows[11]["expected"] < 0.9 and rows[-1]["expected"] < rows[12]["expected"]
    (removal,) = events(path, "removal")
    assert removal["difference"] <= 1e-5
    assert all(la["heads"] >= 1 and la["neurons"] >= 1 for la in removal["layers"])


@pytest.mark.parametrize("stop", [15, 24])
def test_learned_shares_go_on_where_they_stopped(launch: Launch, stop: int) -> None:
    """In the first level, and in the second, whose units the first one's masks decide."""
    straight, cut = launch(), launch()
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(cut, Control(stop_at=stop))
    train.execute(cut, Control())
    assert masks(straight) == masks(cut)
    ours, theirs = ([row.get("shares") for row in events(p, "loss")] for p in (straight, cut))
    assert ours == [*theirs[:stop], *theirs[-(len(ours) - stop) :]]
    model = "model/model.safetensors"
    assert (straight / model).read_bytes() == (cut / model).read_bytes()


def test_shares_are_trained_beside_the_scores(launch: Launch) -> None:
    path = launch(select__pace=3.0)
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=10))
    setup = train.prepare(
        spec_of(path), path.parent, specs.legs(spec_of(path))[1], stages.load(path / "checkpoints", 1)
    )
    thetas = shares.thetas_of(setup.pruner)
    (own,) = [g for g in setup.optimizer.param_groups if any(p is thetas[0] for p in g["params"])]
    assert len(own["params"]) == 8 and own["scores"] and own["weight_decay"] == 0
    assert own["peak"] == pytest.approx(0.6)
    everywhere = [p for g in setup.optimizer.param_groups for p in g["params"]]
    assert len({id(p) for p in everywhere}) == len(everywhere)
    saved = [name for name in setup.model.state_dict() if name.endswith("share.theta")]
    assert len(saved) > 8  # with every gate, and every bias, that its group ranks


@pytest.mark.slow
def test_asking_for_less_or_pulling_harder_keeps_less(launch: Launch) -> None:
    """The penalty adapts itself, without a controller: what is kept is monotone in keep and in its weight."""

    def kept(**settings: Any) -> float:
        path = launch(steps=60, score__lr=0.4, training__evaluations=0, **settings)
        train.execute(path, Control())
        found: float = events(path, "eval")[-1]["keep_prunable"]
        return found

    by_keep = [kept(keep=keep) for keep in (0.8, 0.5, 0.2)]
    assert by_keep[0] > by_keep[1] > by_keep[2]
    by_weight = [kept(keep=0.3, penalty__weight=w) for w in (0, 1)]
    assert by_weight[0] > by_weight[1] + 0.2


def test_a_keep_of_one_is_dense(launch: Launch) -> None:
    path = launch(keep=1.0)
    train.execute(path, Control())
    assert events(path, "eval")[-1]["keep_prunable"] == 1
    assert all(row["kept"] == 1 for row in events(path, "loss"))


def test_the_recipe_is_the_published_split() -> None:
    plan = specs.legs(build("mlpruning", "m", "t"))
    assert [leg.spec.keep for leg in plan] == [1.0, pytest.approx(0.5, abs=1e-3), 0.2]
    assert [leg.spec.parts.units.replace() for leg in plan[1:]] == [
        RECIPES["mlpruning"].lineup.units,
        RECIPES["mlpruning"].lineup.units.replace(level="tiles"),
    ]
