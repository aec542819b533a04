"""PELA in the engine: sizes of published models, both stages, what is exported, and what pages are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from analysis import frames
from analysis import spec as specs
from analysis.engine import compact, compute, factors, stages, terms, train
from analysis.engine.pruner import Pruner
from analysis.engine.setup import Setup
from analysis.engine.sites import find_sites
from analysis.errors import ModelError, SpecError
from analysis.parts.lowrank import LowRank, Perturbation
from analysis.parts.lowrank_gate import LowRankLinear
from analysis.recipes import RECIPES, build
from analysis.spec import RunSpec
from tests.engine.test_train import Control, Launch, events, launch

__all__ = ["launch"]  # the fixture

PART = LowRank()
CS = (1.5, 2, 3)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def on_meta(kind: type[nn.Module], config: hf.PretrainedConfig) -> nn.Module:
    with torch.device("meta"):
        return kind(config)  # type: ignore[call-arg]


def saved(shapes: list[tuple[int, int]], c: float) -> int:
    """Parameters that factors save over matrices of these shapes."""
    found = 0
    for rows, cols in shapes:
        r = PART.rank(find_shape(rows, cols), 1 / c)
        assert 0 < r * (rows + cols) < rows * cols
        found += rows * cols - r * (rows + cols)
    return found


def find_shape(rows: int, cols: int) -> Any:
    from analysis.parts.units import Shape

    return Shape("a", "other", 0, rows, cols)


def test_sizes_of_bert_base() -> None:
    model = on_meta(hf.BertModel, hf.BertConfig())
    sites = [s.shape for s in find_sites(model)]
    own = [(s.rows, s.cols) for s in sites]
    assert len(sites) == 72 and sum(r * c for r, c in own) == 84_934_656
    assert [84_934_656 - saved(own, c) for c in CS] == [56_567_808, 42_448_896, 28_237_824]
    assert parameters(model) == 109_482_240
    for c, whole in ((2, 66_996_480), (3, 52_785_408)):  # the pooler stays dense
        thin = on_meta(hf.BertModel, hf.BertConfig())
        factors.split(thin, {s.name: PART.rank(s, 1 / c) for s in sites})
        assert parameters(thin) == whole
        assert type(thin.pooler.dense) is nn.Linear  # type: ignore[union-attr]


def test_sizes_of_deit_b() -> None:
    """Separate query, key and value hold what the fused layer of the released model does."""
    config = hf.ViTConfig(num_labels=1000)
    for c, whole in zip(CS, (58_200_808, 44_081_896, 29_870_824), strict=True):
        model = on_meta(hf.ViTForImageClassification, config)
        assert parameters(model) == 86_567_656
        factors.split(model, {s.name: PART.rank(s.shape, 1 / c) for s in find_sites(model)})
        assert parameters(model) == whole
        assert model.classifier.out_features == 1000 and type(model.classifier) is nn.Linear  # type: ignore[union-attr]


def test_sizes_of_swin_b() -> None:
    """The released model fuses query, key and value; the floor of three ranks is not that of one."""
    config = hf.SwinConfig(
        embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=7, num_labels=1000
    )
    model = on_meta(hf.SwinForImageClassification, config)
    assert parameters(model) == 87_768_224
    part = LowRank(omit="downsample, o_proj")
    chosen = [s.shape for s in find_sites(model) if part.rank(s.shape, 0.5)]
    assert len(chosen) == 24 * 5 == len(find_sites(model)) - 24 - 3
    fused = [(3 * s.rows if s.role == "query" else s.rows, s.cols) for s in chosen]
    released = [f for f, s in zip(fused, chosen, strict=True) if s.role not in ("key", "value")]
    sizes = [87_768_224 - saved(released, c) for c in CS]
    assert sizes == [62_164_128, 49_291_936, 36_532_384]
    own = [87_768_224 - saved([(s.rows, s.cols) for s in chosen], c) for c in CS]
    assert own == [62_121_120, 49_291_936, 36_503_200]


CONFIG = hf.BertConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, vocab_size=50
)
IDS = torch.arange(1, 13).view(2, 6)


def attached(keep: float, **changes: Any) -> tuple[nn.Module, Pruner]:
    torch.manual_seed(0)
    model = hf.BertForSequenceClassification(CONFIG).eval()
    lineup = RECIPES["pela"].lineup
    return model, Pruner.attach(find_sites(model), lineup, keep, seed=0)


def test_no_layer_is_replaced_at_a_keep_of_one() -> None:
    torch.manual_seed(0)
    before = hf.BertForSequenceClassification(CONFIG).eval()(IDS).logits
    model, pruner = attached(1.0)
    assert torch.equal(model(IDS).logits, before)
    assert factors.ranks(pruner) == {} and pruner.kept == pruner.total == 4096


def test_factors_take_the_place_of_weights_until_the_end() -> None:
    model, pruner = attached(0.5)
    assert set(factors.ranks(pruner).values()) == {4, 5}
    assert pruner.kept == 2 * (4 * 4 * 32 + 2 * 5 * 48) and pruner.total == 4096
    assert all(bool(m.all()) for m in pruner.masks())
    thin = sum(p.numel() for p in model.parameters())
    pruner.refresh(1.0)
    assert pruner.kept == 2 * (4 * 4 * 32 + 2 * 5 * 48)
    before = model(IDS).logits
    pruner.finalise()
    torch.testing.assert_close(model(IDS).logits, before, atol=1e-5, rtol=0)
    assert sum(p.numel() for p in model.parameters()) - thin == 4096 - pruner.kept
    assert all(s.weight.shape == g.mask.shape for s, g in zip(pruner.sites, pruner.gates, strict=True))
    assert not any("parametriz" in name for name, _ in model.named_parameters())
    rank = [int(torch.linalg.matrix_rank(s.weight.detach(), rtol=1e-5)) for s in pruner.sites]
    assert rank == list(factors.ranks(pruner).values())


def test_a_model_without_linear_layers_is_refused() -> None:
    torch.manual_seed(0)
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], num_channels=1)
    net = hf.ResNetForImageClassification(config)
    with pytest.raises(SpecError, match=r"at a keep of 0\.5 none of the \d+ prunable weights has smaller"):
        Pruner.attach(find_sites(net), RECIPES["pela"].lineup, 0.5, seed=0)


def test_transposed_weights_are_trained_as_factors_but_not_split() -> None:
    torch.manual_seed(0)
    config = hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=16)
    model = hf.GPT2Model(config).eval()
    pruner = Pruner.attach(find_sites(model), RECIPES["pela"].lineup, 0.5, seed=0)
    before = model(IDS).last_hidden_state
    wanted = factors.ranks(pruner)
    pruner.finalise()
    torch.testing.assert_close(model(IDS).last_hidden_state, before, atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="is a Conv1D, whose weight does not lie as that of a linear layer"):
        factors.split(model, wanted)
    with pytest.raises(ModelError, match="has no layer nowhere"):
        factors.split(model, {"nowhere": 2})


def first_stage(path: Path, **changes: Any) -> Setup:
    spec = specs.from_dict(json.loads((path / "spec.json").read_text()))
    return train.prepare(specs.with_settings(spec, changes), path.parent)


def test_before_training_only_the_truncation_is_felt(launch: Launch) -> None:
    """Full rank is not smaller, so nothing is replaced: states agree, and there is nothing to perturb."""
    whole = first_stage(launch("pela", keep=1.0))
    whole.model.eval()
    values = terms.losses(whole, np.arange(8))
    assert values["hidden"] == 0 and values["penalty"] == 0
    thin = first_stage(launch("pela", keep=0.5))
    thin.model.eval()
    values = terms.losses(thin, np.arange(8))
    assert values["hidden"] > 0 and values["penalty"] > 0
    found = [p.weight - p.start for p in factors.products(thin.pruner, thin.start)]
    largest = torch.stack([f.abs().amax() for f in found])
    assert values["penalty"].item() == pytest.approx((largest - 1e-3).square().mean().item())
    assert factors.residuals(thin)["residuals"] == pytest.approx(largest.tolist())


def test_gradients_reach_the_factors_through_both_losses(launch: Launch) -> None:
    s = first_stage(launch("pela", keep=0.5))
    own = [site.weight for site in s.pruner.sites]
    for name in ("hidden", "penalty"):
        s.optimizer.zero_grad()
        terms.losses(s, np.arange(8))[name].backward()  # type: ignore[no-untyped-call]
        assert all(w.grad is not None and w.grad.any() for w in own[:-1])
    touched = [int(w.grad.count_nonzero()) for w in own if w.grad is not None]
    assert touched == [2 * gate.rank for gate in s.pruner.gates]  # one row of B, one column of A
    assert s.teacher is not None and not any(p.requires_grad for p in s.teacher.parameters())


def test_the_teacher_is_the_pre_trained_model_and_stays_so(launch: Launch, tiny_bert: Path) -> None:
    s = first_stage(launch("pela", keep=0.5))
    assert s.teacher is not None and not s.teacher.training
    before = {name: value.clone() for name, value in s.teacher.state_dict().items()}
    original = hf.BertModel.from_pretrained(tiny_bert).state_dict()
    assert all(torch.equal(before[f"bert.{n}"], v) for n, v in original.items() if "pooler" not in n)
    s.model.train()
    for step in range(5):
        train.one_step(s, np.arange(8), step / 5, step)
    assert all(torch.equal(value, before[name]) for name, value in s.teacher.state_dict().items())


def test_the_student_comes_nearer_in_states_and_weights(launch: Launch) -> None:
    s = first_stage(launch("pela", keep=0.25, steps=120))
    apart = []
    for steps in (60, 0):
        s.model.eval()  # with dropout in the student alone the states would never agree
        with torch.no_grad():
            apart.append(terms.losses(s, np.arange(40)))
        for step in range(steps):
            train.one_step(s, np.arange(40), step / steps, step)
    assert apart[1]["hidden"] < 0.5 * apart[0]["hidden"]
    assert apart[1]["penalty"] < apart[0]["penalty"]


def test_the_second_stage_is_the_task_alone(launch: Launch) -> None:
    path = launch("pela", keep=0.25, steps=60)
    train.execute(path, Control())
    losses = events(path, "loss")
    assert set(losses[0]["terms"]) == {"task", "hidden", "penalty"} and set(losses[30]["terms"]) == {"task"}
    first = losses[0]["terms"]
    assert losses[0]["loss"] == pytest.approx(first["hidden"] + first["penalty"])  # the task has weight 0
    assert all(len(row["residuals"]) == 12 for row in losses)
    assert [(e["name"], e["step"]) for e in events(path, "stage")] == [("intermediate", 0), ("fine-tune", 30)]


def test_the_second_stage_begins_with_the_same_products(launch: Launch) -> None:
    path = launch("pela", keep=0.5)
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=12))
    carry = stages.load(path / "checkpoints", 1)
    spec = specs.from_dict(json.loads((path / "spec.json").read_text()))
    s = train.prepare(spec, path.parent, specs.legs(spec)[1], carry)
    assert s.teacher is None and carry.previous is not None
    for i, site in enumerate(s.pruner.sites):
        before = carry.previous[f"{site.name}.weight"]
        torch.testing.assert_close(s.pruner.weight(i), before, atol=1e-6, rtol=0)
        assert not torch.equal(s.start[i], before)  # what the penalty would compare with is the pre-trained
    # A stage counts with its factors and its teacher, who has the whole matrices.
    first = train.prepare(spec, path.parent)
    (thin, dense) = (compute.example_macs(first, m) for m in (first.model, first.teacher) if m is not None)
    assert thin < 0.7 * dense and carry.macs == 10 * 8 * (3 * thin + dense)


def test_two_thin_layers_are_saved_beside_the_dense_folder(launch: Launch) -> None:
    path = launch("pela", keep=0.5)
    train.execute(path, Control())
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5 and event["layers"] == []
    assert event["parameters_before"] - event["parameters"] == 4096 - 2 * (4 * 4 * 32 + 2 * 5 * 48)
    assert event["seconds"] > 0 and event["seconds_before"] > 0
    assert [(r["rows"], r["cols"], r["rank"]) for r in event["ranks"][:5]] == [
        *[(16, 16, 4)] * 4,
        (32, 16, 5),
    ]
    dense = hf.AutoModelForSequenceClassification.from_pretrained(path / "model").eval()
    fresh = hf.AutoModelForSequenceClassification.from_config(dense.config)
    thin = compact.load(path / "compact", fresh).eval()
    assert sum(isinstance(m, LowRankLinear) for m in thin.modules()) == 12
    assert parameters(thin) == event["parameters"]
    ids = torch.arange(5, 17).view(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(thin(ids).logits, dense(ids).logits, atol=1e-5, rtol=0)
    other = hf.BertForSequenceClassification(CONFIG)
    with pytest.raises(ModelError, match="was compacted from another model"):
        compact.load(path / "compact", other)
    card = (path / "model" / "README.md").read_text()
    assert "12 matrices are products of two factors" in card and "exact zeros" not in card


def test_pages_tell_parameters_of_factors_from_zeros(launch: Launch) -> None:
    path, other = launch("pela", keep=0.5), launch("magnitude", keep=0.5)
    for run in (path, other):
        train.execute(run, Control())
    shown = frames.sites(path)
    assert list(shown["kept"][:5]) == [128.0] * 4 + [240.0]
    assert shown["kept"].sum() == 1984 and list(shown["sparsity"][3:5]) == [0.5, 1 - 240 / 512]
    said = frames.factors_sentence(path)
    assert said.startswith(
        "12 of 12 matrices are products of two factors of ranks 4 to 5: 1,984 parameters of"
    )
    assert "4,096 weights" in said and "not zeros" in said
    assert frames.factors_sentence(other) == ""
    assert frames.overlap(path, other).empty and not frames.overlap(other, other).empty
    assert "Two thin layers in place of each of 12 matrices" in frames.removal_sentence(path)
    assert frames.plane(path)["kept"].sum() == 4096


@pytest.mark.parametrize("stop", [3, 10, 17])
def test_a_run_stopped_in_either_stage_ends_the_same(launch: Launch, stop: int) -> None:
    plan = {"keep": 0.5, "penalty__every": 3, "training__accumulate": 2}
    straight, cut = launch("pela", **plan), launch("pela", **plan)
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(cut, Control(stop_at=stop))
    train.execute(cut, Control())
    assert (straight / "model" / "model.safetensors").read_bytes() == (
        cut / "model" / "model.safetensors"
    ).read_bytes()
    found = [row["terms"]["penalty"] > 0 for row in events(straight, "loss")[:10]]
    assert found == [step % 3 == 0 for step in range(10)]


def test_omitted_layers_stay_dense(launch: Launch) -> None:
    s = first_stage(launch("pela", keep=0.5), **{"reparam.omit": "attention.output, layer.1"})
    ranked = {name.removeprefix("bert.encoder.") for name in factors.ranks(s.pruner)}
    assert ranked == {
        *(f"layer.0.attention.self.{part}" for part in ("query", "key", "value")),
        "layer.0.intermediate.dense",
        "layer.0.output.dense",
    }
    assert s.pruner.kept == 4096 - 3 * 128 - 2 * (512 - 240)


def test_the_stages_of_the_spec() -> None:
    made: RunSpec = build("pela", "m", "t", settings={"penalty.eps": 0.002, "penalty.every": 4})
    first, last = specs.legs(made)
    assert first.spec.parts.penalty == Perturbation(eps=0.002, every=4) and first.spec.teacher == "m"
    assert first.spec.parts.task.weight == 0 and first.spec.parts.hidden is not None
    assert last.spec.parts.penalty is None and last.spec.parts.hidden is None
    assert last.spec.parts.task.weight == 1 and last.spec.teacher == ""
    assert build("pela", "m", "t").keep == 0.5


def test_digits_run_too(tmp_path: Path, write: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = hf.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1)
    hf.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    rng = np.random.default_rng(0)
    rows = [{"image": rng.random((8, 8)).round(3).tolist(), "label": i % 2} for i in range(60)]
    plan = {"training.batch": 8, "training.precision": "fp32", "training.threads": 1}
    data = str(write("pictures.jsonl", rows))
    spec = build("pela", str(tmp_path / "vit"), data, keep=0.5, steps=6, settings=plan)
    path = tmp_path / "run"
    path.mkdir()
    (path / "spec.json").write_text(json.dumps(specs.to_dict(spec)))
    train.execute(path, Control())
    (event,) = events(path, "removal")
    assert event["difference"] <= 1e-5 and len(event["ranks"]) == 6
