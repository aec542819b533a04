"""Filling holes inside structures that live: what it touches, what it leaves, and a run that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from analysis import spec as specs
from analysis.engine import compact, refill, stages, train
from analysis.engine.sites import Site, find_sites
from analysis.errors import ModelError, SpecError
from analysis.recipes import RECIPES, VARIANT, build, configured, variant_of
from analysis.ui import plans
from tests.engine.test_compact import answer, empty
from tests.engine.test_compact import build as model_of
from tests.engine.test_stages import folder
from tests.engine.test_train import Control, events, masks


@pytest.fixture
def holed() -> nn.Module:
    """A BERT with a dead head and three dead neurons in its first layer, and holes everywhere else."""
    model = model_of("bert")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for site in find_sites(model):
            site.weight[torch.rand(site.weight.shape, generator=generator) < 0.5] = 0.0
    empty(model, "heads by value", {0: [1]})
    empty(model, "neurons in", {0: [3, 4, 9]})
    return model


def weights(sites: list[Site]) -> dict[str, torch.Tensor]:
    return {f"{s.layer} {s.role}": s.weight.detach().clone() for s in sites}


def test_filling_touches_only_zeros_of_structures_that_live(holed: nn.Module) -> None:
    sites = find_sites(holed)
    before, rest = weights(sites), {n: p.clone() for n, p in holed.named_parameters() if "bias" in n}
    held = refill.fill(holed, sites, seed=0)
    after = weights(sites)
    for name, old in before.items():
        assert torch.equal(after[name][old != 0], old[old != 0])
    assert all(torch.equal(p, rest[n]) for n, p in holed.named_parameters() if n in rest)
    # the head of 4 rows and the neurons are as dead as they were; every other hole is filled
    value, into, out = after["0 value"], after["0 ffn in"], after["0 attention output"]
    assert not value[4:8].any() and value[:4].all() and value[8:].all()
    assert not into[[3, 4, 9]].any() and int(into.any(1).sum()) == 29 and into[0].all()
    assert torch.equal(out[:, 4:8] == 0, before["0 attention output"][:, 4:8] == 0) and out[:, :4].all()
    assert all(after[f"1 {role}"].all() for role in ("query", "key", "value", "ffn in", "ffn out"))
    # what may be trained from now on is what is not zero
    assert all(torch.equal(m, s.weight != 0) for m, s in zip(held, sites, strict=True))
    layers = compact.compact(holed)
    assert [la.heads for la in layers] == [(0, 2, 3), (0, 1, 2, 3)]
    assert [len(la.neurons) for la in layers] == [29, 32]


def test_noise_is_a_hundredth_of_the_weights_around_it_and_centred(holed: nn.Module) -> None:
    sites = find_sites(holed)
    site = next(s for s in sites if s.layer == 1 and s.role == "ffn in")
    weight = site.weight.detach()
    holes, spread = weight == 0, float(weight[weight != 0].std())
    assert 200 < int(holes.sum()) < 312
    refill.fill(holed, sites, seed=0)
    noise = weight[holes]
    assert float(noise.std()) == pytest.approx(0.01 * spread, rel=0.1)
    assert abs(float(noise.mean())) < 3 * 0.01 * spread / len(noise) ** 0.5


def test_the_published_noise_lies_around_the_mean_of_the_living_weights() -> None:
    model = model_of("bert")
    sites = find_sites(model)
    site = next(s for s in sites if s.role == "ffn in")
    with torch.no_grad():
        site.weight.fill_(2.0)
        site.weight[:, ::2] = 0.0  # mean 1, deviation 1 where half of the weights are 2 and half 0
        site.weight[0] = 0.0  # a dead neuron, which does not count
    refill.fill(model, sites, seed=0, around="mean")
    filled = site.weight.detach()[1:, ::2]
    assert float(filled.mean()) == pytest.approx(1.0, abs=0.002)
    assert float(filled.std()) == pytest.approx(0.01, rel=0.15)
    assert not site.weight[0].any() and (site.weight[1:, 1::2] == 2).all()


def test_the_seed_decides_the_noise() -> None:
    made = []
    for seed in (3, 3, 4):
        model = model_of("bert")
        with torch.no_grad():
            for site in find_sites(model):
                site.weight[:, ::3] = 0.0
        refill.fill(model, find_sites(model), seed)
        made.append(torch.cat([s.weight.flatten() for s in find_sites(model)]))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_a_matrix_without_a_weight_stays_empty_and_a_dense_model_is_left_alone() -> None:
    model = model_of("bert")
    sites = find_sites(model)
    before = answer(model, "bert")
    assert all(bool(m.all()) for m in refill.fill(model, sites, seed=0))
    assert torch.equal(answer(model, "bert"), before)
    with torch.no_grad():
        sites[0].weight.zero_()
    refill.fill(model, sites, seed=0)
    assert not sites[0].weight.any()


def test_a_model_that_cannot_say_what_lives_is_refused() -> None:
    config = hf.GPT2Config(n_embd=16, n_layer=1, n_head=4, vocab_size=50, pad_token_id=0)
    model = hf.GPT2ForSequenceClassification(config)
    with pytest.raises(ModelError, match=r"lie transposed; choose stages\.variant=own"):
        refill.check(model, find_sites(model))


@pytest.fixture
def filled(tiny_bert: Path, sentences: list[dict[str, Any]], write: Any) -> specs.RunSpec:
    plan = {
        VARIANT: "filled",
        "units.rows": 4,
        "units.cols": 4,
        "training.batch": 8,
        "training.precision": "fp32",
        "optimizer.lr": 0.01,
        "score.lr": 0.5,
        "training.evaluations": 0,
    }
    data = str(write("data.jsonl", sentences * 3))
    return build("block_movement", str(tiny_bert), data, keep=0.3, steps=48, settings=plan)


def test_a_filled_run_keeps_dead_what_was_and_removal_changes_nothing(
    tmp_path: Path, filled: specs.RunSpec
) -> None:
    path = folder(tmp_path, "filled", filled)
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=40))
    carry = stages.load(path / "checkpoints", 2)
    setup = train.prepare(filled, path.parent, specs.legs(filled)[2], carry)
    before = [m.bool() for m in carry.masks]
    held = setup.pruner.masks()
    assert all(bool((new | ~old).all()) for old, new in zip(before, held, strict=True))
    assert sum(int(m.sum()) for m in held) > sum(int(m.sum()) for m in before)
    assert setup.spec.parts.penalty is None and set(setup.spec.parts.followers()) == {"distillation"}
    train.execute(path, Control())
    final = events(path, "eval")[-1]
    assert final["keep_prunable"] == pytest.approx(setup.pruner.kept / setup.pruner.total)
    (removal,) = events(path, "removal")
    assert removal["difference"] < 1e-5 and removal["parameters"] < removal["parameters_before"]
    straight = folder(tmp_path, "straight", filled)
    train.execute(straight, Control())
    assert masks(straight) == masks(path)


def test_a_variant_is_a_setting_and_comes_back_from_the_spec(filled: specs.RunSpec) -> None:
    assert variant_of(filled) == "filled" and [s.name for s in filled.stages] == ["teach", "prune", "fill"]
    assert plans.changes(filled)[VARIANT] == "filled"
    assert f"--set {VARIANT}=filled" in plans.command(filled)
    assert plans.address(specs.to_dict(filled))[f"block_movement:{VARIANT}"] == "filled"
    again = build(
        "block_movement",
        filled.model,
        filled.task.source,
        keep=filled.keep,
        settings=plans.changes(filled),
    )
    assert specs.fingerprint(again) == specs.fingerprint(filled)
    given = configured(build("block_movement", "m", "t", teacher="run:some"), {VARIANT: "filled"})
    assert [leg.stage.name for leg in specs.legs(given)] == ["prune", "fill"]
    mean = build("block_movement", "m", "t", settings={VARIANT: "filled-around-mean"})
    assert mean.stages[-1].begin == "fill around mean"
    assert build("block_movement", "m", "t", settings={VARIANT: "own"}).stages == ()


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_unknown_variant_is_refused(recipe: str) -> None:
    with pytest.raises(SpecError, match=f"stages.variant is 'full'; the recipe {recipe} has own"):
        build(recipe, "m", "t", settings={VARIANT: "full"})
