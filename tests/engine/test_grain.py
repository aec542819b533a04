"""GRAIN in the engine: what its score sees of a step, what it cuts, and the heads of unequal size."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from torch import nn

from analysis import spec as specs
from analysis.engine import compact, guiding, train
from analysis.engine.guiding import Guide
from analysis.engine.pruner import Pruner
from analysis.engine.ragged import RaggedAttention
from analysis.engine.setup import Setup, prepare
from analysis.engine.sites import Site, find_sites
from analysis.parts.budget import density
from analysis.parts.taylor import Taylor
from analysis.parts.units import Column
from analysis.recipes import RECIPES, build
from analysis.spec import RunSpec
from analysis.store.layout import write_json
from tests.engine.test_compact import HEADS, answer, count
from tests.engine.test_compact import build as build_model
from tests.engine.test_train import Control, events, masks

LINEUP = RECIPES["grain"].lineup
NOW = Taylor(horizon=0, beta=0, alpha=0)  # the score of one step


def bert(**sizes: int) -> nn.Module:
    torch.manual_seed(0)
    config = hf.BertConfig(
        **{
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 12,
            **sizes,
        },
        vocab_size=50,
    )
    model = hf.BertForSequenceClassification(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


IDS = torch.arange(1, 13).view(2, 6)
REAL = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])


def loss_of(model: nn.Module) -> torch.Tensor:
    loss: torch.Tensor = model(IDS, attention_mask=REAL, labels=torch.tensor([0, 1])).loss
    return loss


def observed(model: nn.Module, score: Taylor = NOW) -> Pruner:
    """Attaches the recipe to a model and shows it one gradient."""
    pruner = Pruner.attach(find_sites(model), dataclasses.replace(LINEUP, score=score), 0.5, seed=0)
    pruner.states = [s.double() for s in pruner.states if s is not None]
    loss_of(model).backward()
    guiding.watch(pruner, None, 10)
    return pruner


def state(pruner: Pruner, kind: str, layer: int = 0) -> torch.Tensor:
    found = next(
        s for g, s in zip(pruner.groups, pruner.states, strict=True) if g.kind == kind and g.layer == layer
    )
    assert found is not None
    return found


SELF = "attention.self."
WAYS = [  # a unit, and the tensors that are scaled with it
    ("neurons", ["output.dense.weight"]),
    ("query-key dims", [SELF + "query.weight", SELF + "query.bias"]),
    ("query-key dims", [SELF + "key.weight", SELF + "key.bias"]),
    ("value dims", [SELF + "value.weight", SELF + "value.bias"]),
    ("value dims", ["attention.output.dense.weight"]),
]


@pytest.mark.parametrize(("kind", "names"), WAYS)
def test_the_score_is_what_scaling_the_unit_does(kind: str, names: list[str]) -> None:
    """Central differences of the loss: dL / dlog(a) for scaling one side of a unit by a."""
    found, model, h = state(observed(bert()), kind, 1), bert(), 1e-5
    stored = dict(model.named_parameters())
    for unit in (0, 3, 11):
        ends = []
        for factor in (1 + h, 1 - h):
            pieces = [stored["bert.encoder.layer.1." + name] for name in names]
            pieces = [p[:, unit] if "output.dense" in names[0] else p[unit] for p in pieces]
            with torch.no_grad():
                before = [p.clone() for p in pieces]
                for p in pieces:
                    p.mul_(factor)
                ends.append(float(loss_of(model)))
                for p, old in zip(pieces, before, strict=True):
                    p.copy_(old)
        slope = (ends[0] - ends[1]) / (2 * h)
        assert float(found[unit]) == pytest.approx(abs(slope), abs=1e-9, rel=1e-5)


def test_both_sides_of_attention_say_the_same_and_the_key_bias_nothing() -> None:
    model = bert()
    loss_of(model).backward()
    for layer in model.bert.encoder.layer:
        own, out = layer.attention.self, layer.attention.output.dense

        def rows(linear: nn.Linear) -> torch.Tensor:
            assert linear.weight.grad is not None and linear.bias.grad is not None
            return (linear.weight * linear.weight.grad).sum(1) + linear.bias * linear.bias.grad

        torch.testing.assert_close(rows(own.query), rows(own.key), atol=1e-12, rtol=0)
        torch.testing.assert_close(rows(own.value), (out.weight * out.weight.grad).sum(0), atol=1e-12, rtol=0)
        assert own.key.bias.grad.abs().max() < 1e-12
        into, back = layer.intermediate.dense, layer.output.dense
        apart = rows(into) - (back.weight * back.weight.grad).sum(0)
        assert apart.abs().max() > 1e-3  # the activation is not homogeneous


def test_scores_go_with_their_units() -> None:
    """Units permuted inside a head have permuted scores; a unit without weights scores 0."""
    plain, moved = bert(), bert()
    swap = torch.tensor([2, 0, 3, 1, *range(4, 16)])
    with torch.no_grad():
        own, out = (
            moved.bert.encoder.layer[0].attention.self,
            moved.bert.encoder.layer[0].attention.output.dense,
        )
        for linear in (own.query, own.key, own.value):
            linear.weight.copy_(linear.weight[swap])
            linear.bias.copy_(linear.bias[swap])
        out.weight.copy_(out.weight[:, swap])
        for model in (plain, moved):
            model.bert.encoder.layer[1].output.dense.weight[:, 5] = 0
    first, second = observed(plain), observed(moved)
    for kind in ("query-key dims", "value dims"):
        torch.testing.assert_close(state(second, kind), state(first, kind)[swap], atol=1e-12, rtol=0)
    assert state(first, "neurons", 1)[5] == 0 and state(first, "neurons", 1).count_nonzero() == 11


def test_only_losses_that_guide_are_seen() -> None:
    """w = (1, 2, -1) under .1 w0 + .01 w1 + .05 w2, and w1 that shall have no say; one share or two."""
    found = {}
    for separated in (True, False):
        for shares in (1, 2):
            linear = nn.Linear(3, 1, bias=False)
            with torch.no_grad():
                linear.weight.copy_(torch.tensor([[1.0, 2.0, -1.0]]))
            lineup = dataclasses.replace(LINEUP, score=NOW, units=Column())
            pruner = Pruner.attach([Site("block.0.lin", linear, "other", 0, None)], lineup, 0.5, seed=0)
            guide = Guide(pruner) if separated else None
            for _ in range(shares):
                w = linear.weight[0]
                answers, hidden = (w * torch.tensor([0.1, 0.01, 0.05])).sum() / shares, w[1] / shares
                if guide is not None:
                    guide.hear(answers)
                (answers + hidden).backward()
            guiding.watch(pruner, guide, 10)
            assert pruner.sites[0].weight.grad is not None
            assert pruner.sites[0].weight.grad[0].tolist() == pytest.approx([0.1, 1.01, 0.05])
            assert pruner.states[0] is not None
            found[separated, shares] = pruner.states[0].tolist()
    for shares in (1, 2):
        assert found[True, shares] == pytest.approx([0.1, 0.02, 0.05])
        assert found[False, shares] == pytest.approx([0.1, 2.02, 0.05])


def test_a_gradient_that_is_not_finite_is_not_shown() -> None:
    model = bert()
    pruner = observed(model)
    before = [s.clone() for s in pruner.states if s is not None]
    site = pruner.sites[3].weight
    for broken in (math.nan, math.inf):
        assert site.grad is not None
        site.grad[0, 0] = broken
        guiding.watch(pruner, None, 10)
        assert all(torch.equal(a, b) for a, b in zip(before, pruner.states, strict=True) if b is not None)


def test_what_is_cut_stays_cut_and_keeps_its_score() -> None:
    pruner = observed(bert(), Taylor(horizon=0, beta=0.5))
    generator = torch.Generator().manual_seed(3)
    earlier, scores = pruner.masks(), None
    for progress in (0.25, 0.3, 0.35, 0.4, 0.5, 1.0):
        pruner.states = [
            torch.rand(s.shape, generator=generator).double() for s in pruner.states if s is not None
        ]
        pruner.refresh(progress)
        now = pruner.masks()
        assert not any(bool((n & ~e).any()) for n, e in zip(now, earlier, strict=True))
        if progress > 0.4:  # the schedule has ended: nothing moves
            assert scores is None or all(torch.equal(n, e) for n, e in zip(now, earlier, strict=True))
            scores = now
        earlier = now
    kept = [
        float(pruner.gates[m.site].mask.flatten(1).any(int(m.grid[0] > 1)).sum())
        for g in pruner.groups
        for m in g.members[:1]
    ]
    costs = sum(g.units * g.cost for g in pruner.groups)
    assert 0.5 * costs - 34 < density(kept, pruner.groups) * costs <= 0.5 * costs
    before = [s.clone() for s in pruner.states if s is not None]
    loss_of(pruner_model(pruner)).backward()
    guiding.watch(pruner, None, 10)
    for group, old, new in zip(pruner.groups, before, pruner.states, strict=True):
        member = group.members[0]
        alive = pruner.gates[member.site].mask.flatten(1).any(1)
        assert new is not None and torch.equal(new[~alive], old[~alive])
        assert (new[alive] != old[alive]).all()


def pruner_model(pruner: Pruner) -> nn.Module:
    """A model of the same sizes whose modules are those that the pruner masks."""
    model = bert()
    for site in pruner.sites:
        model.set_submodule(site.name, site.module)
    return model


def test_an_output_bias_survives_when_all_that_it_reads_is_gone() -> None:
    model = bert()
    pruner = observed(model)
    pruner.write([torch.zeros(g.units, dtype=torch.bool) for g in pruner.groups])
    for layer in model.bert.encoder.layer:
        assert not layer.attention.self.value.bias.any() and not layer.intermediate.dense.bias.any()
        assert layer.attention.output.dense.bias.all() and layer.output.dense.bias.all()


@torch.no_grad()
def cut(model: nn.Module, biases: bool) -> None:
    """Masks of every kind: layer 0 has a whole head, one without query-key dimensions, one thin and one gone;
    layer 1 has heads of two sizes and no neuron.
    """
    inner = {0: [range(4, 8), range(8, 11), range(12, 16)], 1: [range(2, 4), range(6, 8), range(9, 10)]}
    outer = {0: [range(8, 10), range(12, 16)], 1: [range(0, 2), range(5, 6), range(12, 13)]}
    neurons = {0: [range(3, 9)], 1: [range(0, 32)]}
    plan = {"query": inner, "key": inner, "value": outer, "attention output": outer}
    for site in find_sites(model):
        rows = site.role not in ("attention output", "ffn out")
        for units in plan.get(site.role, neurons)[site.layer]:
            weight = site.weight if rows else site.weight.T
            weight[list(units)] = 0
            if rows and biases and site.module.bias is not None:
                site.module.bias[list(units)] = 0


@pytest.mark.parametrize("how", ["sdpa", "eager"])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "vit"])
def test_removing_dimensions_changes_nothing(family: str, biases: bool, how: str, tmp_path: Path) -> None:
    model = build_model(family)
    model.set_attn_implementation(how)
    cut(model, biases)
    before, size = answer(model, family), count(model)
    layers = compact.compact(model)
    torch.testing.assert_close(answer(model, family), before, atol=1e-5, rtol=0)
    assert count(model) < size
    assert [la.heads for la in layers] == [(0, 1, 2), (0, 1, 2, 3)]
    dims = [[len(d) for d in la.value_dims] for la in layers]
    assert dims == [[4, 4, 2], [2, 3, 4, 3]]
    # Where a query keeps its bias, empty keys still make the dimension one number for all tokens.
    assert [[len(d) for d in la.query_dims] for la in layers] == [[4, 0, 1], [2, 2, 3, 4]]
    compact.save(tmp_path / "compact", model, layers)
    again = build_model(family)
    again.set_attn_implementation(how)
    compact.load(tmp_path / "compact", again)
    assert torch.equal(answer(again.eval(), family), answer(model, family))
    assert count(again) == count(model)


def test_an_attention_without_heads_leaves_its_output_bias() -> None:
    model = build_model("bert")
    with torch.no_grad():
        for site in find_sites(model):
            if site.layer == 0 and "ffn" not in site.role:
                site.weight.zero_()
                if site.role != "attention output":
                    site.module.bias.zero_()
    before = answer(model, "bert")
    layers = compact.compact(model)
    assert layers[0].heads == () and layers[1].heads == tuple(range(HEADS))
    first, second = (la.attention.self for la in model.bert.encoder.layer)
    assert isinstance(first, RaggedAttention) and not isinstance(second, RaggedAttention)
    assert sum(p.numel() for p in first.parameters()) == 0
    torch.testing.assert_close(answer(model, "bert"), before, atol=1e-5, rtol=0)


def test_equal_heads_are_computed_together_at_the_old_scale() -> None:
    model = build_model("bert")
    cut(model, True)
    compact.compact(model)
    first, second = (la.attention.self for la in model.bert.encoder.layer)
    assert first.groups == [(1, 0, 4), (1, 1, 2), (1, 4, 4)]
    assert second.groups == [(1, 2, 2), (1, 2, 3), (1, 3, 4), (1, 4, 3)]
    assert first.scale == second.scale == 0.5  # heads of 4


def test_rotated_positions_keep_whole_heads() -> None:
    model = build_model("llama")
    with torch.no_grad():
        for site in find_sites(model):
            if site.role in ("query", "key"):
                site.weight[1:3] = 0
    before = answer(model, "llama")
    layers = compact.compact(model)
    assert [(la.heads, la.query_dims) for la in layers] == [(tuple(range(HEADS)), ())] * 2
    torch.testing.assert_close(answer(model, "llama"), before, atol=1e-6, rtol=0)


@pytest.fixture
def staged(tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]) -> RunSpec:
    plan = {
        "training.batch": 8,
        "training.precision": "fp32",
        "optimizer.lr": 0.01,
        "training.evaluations": 2,
    }
    data = str(write("data.jsonl", sentences * 3))
    return build("grain", str(tiny_bert), data, keep=0.25, steps=20, settings=plan)


def folder(tmp_path: Path, name: str, spec: RunSpec) -> Path:
    path = tmp_path / "runs" / name
    path.mkdir(parents=True)
    write_json(path / "spec.json", specs.to_dict(spec))
    write_json(path / "state.json", {"state": "done", "pid": 1})
    return path


def pruning(spec: RunSpec, tmp_path: Path, **settings: Any) -> Setup:
    """The stage that prunes, taught by a dense model that is there already."""
    plan = {k.replace("__", "."): v for k, v in settings.items()}
    changed = specs.with_settings(dataclasses.replace(spec, teacher=spec.model), plan)
    setup = prepare(changed, tmp_path)
    setup.model.eval()  # without dropout, so that only what is asked about differs
    assert setup.teacher is not None
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # a teacher like the student has nothing to say
        for p in setup.teacher.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)
    return setup


def seen(s: Setup) -> list[torch.Tensor]:
    train.one_step(s, np.arange(8), 0.0, 0)
    return [x.clone() for x in s.pruner.states if x is not None]


def test_shares_of_a_batch_give_the_score_of_the_whole(staged: RunSpec, tmp_path: Path) -> None:
    whole = seen(pruning(staged, tmp_path))
    ahead = {"lookahead__type": "Extrapolation", "lookahead__rule": "rho", "lookahead__rho": 0}
    for plan in ({"training__accumulate": 4}, {**ahead, "lookahead__workers": 2}, {"optimizer__clip": 1e-4}):
        for a, b in zip(seen(pruning(staged, tmp_path, **plan)), whole, strict=True):
            torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-3)
    assert all(bool(s.any()) for s in whole)


def test_hidden_states_have_no_say_unless_asked(staged: RunSpec, tmp_path: Path) -> None:
    alone = seen(pruning(staged, tmp_path, hidden__type="none"))
    separated = seen(pruning(staged, tmp_path))
    mixed = seen(pruning(staged, tmp_path, score__separation=False))
    for a, b in zip(separated, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-3)
    assert any(float((a - b).abs().max()) > 1e-4 for a, b in zip(mixed, alone, strict=True))


def test_a_look_at_the_start_is_not_counted(staged: RunSpec, tmp_path: Path) -> None:
    """With a hidden loss of weight 0 what is heard is the gradient of the step, ahead of the weights."""
    ahead = {"lookahead__type": "Extrapolation", "lookahead__rule": "rho", "lookahead__rho": 1.0}
    for source in ("global", "local"):
        s = pruning(
            staged, tmp_path, **ahead, lookahead__source=source, lookahead__workers=2, hidden__weight=0
        )
        assert s.guide is not None and s.lookahead is not None

        def backward(rows: np.ndarray, whole: int, s: Setup = s) -> dict[str, float]:
            return train._backward(s, 1.0, rows, whole)

        s.lookahead.gradient(backward, np.arange(8), iter([np.arange(8, 16)]))
        for p, heard in zip(s.guide.parameters, s.guide.take(), strict=True):
            assert p.grad is not None and heard is not None
            torch.testing.assert_close(heard, p.grad, atol=1e-7, rtol=1e-4)


def test_a_run_ends_with_a_smaller_model_that_computes_the_same(staged: RunSpec, tmp_path: Path) -> None:
    path = folder(tmp_path, "grain", staged)
    train.execute(path, Control())
    assert [e["name"] for e in events(path, "stage")] == ["teach", "prune"]
    losses = events(path, "loss")
    assert set(losses[0]["terms"]) == {"task"} and set(losses[6]["terms"]) == {
        "task",
        "distillation",
        "hidden",
    }
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5 and event["parameters"] < event["parameters_before"]
    weights = load_file(path / "compact" / "model.safetensors")
    assert sum(w.numel() for name, w in weights.items() if "position_ids" not in name) == event["parameters"]
    manifest = json.loads((path / "compact" / "manifest.json").read_text())["layers"]
    assert [[len(d) for d in la["query_dims"]] for la in manifest] == [
        la["query_dims"] for la in event["layers"]
    ]
    dense = hf.AutoModelForSequenceClassification.from_pretrained(path / "model").eval()
    again = compact.load(
        path / "compact", hf.AutoModelForSequenceClassification.from_pretrained(path / "model")
    )
    ids = torch.arange(5, 17).view(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids).logits, dense(ids).logits, atol=1e-5, rtol=0)


def test_labels_instead_of_a_teacher(staged: RunSpec, tmp_path: Path) -> None:
    plan = {"task.weight": 1, "distillation.type": "none", "hidden.type": "none"}
    spec = specs.with_settings(staged, plan)
    assert [leg.stage.name for leg in specs.legs(spec)] == ["prune"]  # nobody would listen
    path = folder(tmp_path, "labels", spec)
    train.execute(path, Control())
    assert set(events(path, "loss")[-2]["terms"]) == {"task"}
    assert events(path, "eval")[-1]["keep_prunable"] == pytest.approx(0.25, abs=0.02)


GRAFTED = {"graft.type": "Graft", "graft.rate": 0.2}  # often no layer that is trained is drawn


@pytest.mark.parametrize("plan", [{"score.type": "Random"}, {"select.closure_in_budget": False}, GRAFTED])
def test_ablations_run(staged: RunSpec, tmp_path: Path, plan: dict[str, Any]) -> None:
    path = folder(tmp_path, "ablation", specs.with_settings(staged, {**plan, "training.snapshots": 5}))
    train.execute(path, Control())
    assert masks(path) and events(path, "eval")[-1]["keep_prunable"] < 0.27
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5
