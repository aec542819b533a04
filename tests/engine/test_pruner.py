"""The life of a mask on real model classes: attach, select, finalise, export."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from analysis.engine import moments
from analysis.engine.order import batches_from, epoch_batches
from analysis.engine.pruner import Pruner
from analysis.engine.setup import freeze_embeddings
from analysis.engine.sites import find_sites
from analysis.engine.snapshots import inner_edges, sample_indices
from analysis.engine.steer import Steer
from analysis.parts.reparam import SignedPower
from analysis.parts.schedules import Cubic
from analysis.parts.topkast import TopKast
from analysis.recipes import RECIPES, build
from tests.engine.conftest import SMALL

CONFIG = hf.BertConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=32,
    vocab_size=50,
    hidden_dropout_prob=0.0,
)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return hf.BertForSequenceClassification(CONFIG).eval()


IDS = torch.arange(1, 13).view(2, 6)


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r not in ("l0", "pela")])  # truncates
def test_attaching_changes_nothing(model: nn.Module, recipe: str) -> None:
    before = model(IDS).logits
    lineup = build(recipe, "m", "t", keep=1.0, settings=SMALL.get(recipe, {})).parts
    Pruner.attach(find_sites(model), lineup, 0.1, seed=0)
    if isinstance(lineup.reparam, SignedPower):  # the root of a float is not always a float
        torch.testing.assert_close(model(IDS).logits, before, atol=1e-6, rtol=0)
    else:
        assert torch.equal(model(IDS).logits, before)


def test_a_power_of_one_is_bit_for_bit_the_plain_mask(model: nn.Module) -> None:
    before = model(IDS).logits
    lineup = dataclasses.replace(RECIPES["powerprop"].lineup, reparam=SignedPower(alpha=1.0))
    pruner = Pruner.attach(find_sites(model), lineup, 0.3, seed=0)
    assert torch.equal(model(IDS).logits, before) and pruner.decaying() == []


def test_scores_see_the_effective_weight(model: nn.Module) -> None:
    sites = find_sites(model)
    start = [s.weight.detach().clone() for s in sites]
    pruner = Pruner.attach(sites, RECIPES["powerprop"].lineup, 0.3, seed=0)
    assert len(pruner.decaying()) == len(sites)
    for i, (site, weight) in enumerate(zip(sites, start, strict=True)):
        torch.testing.assert_close(pruner.weight(i), weight, atol=1e-7, rtol=0)
        assert torch.equal(pruner.scores(i), pruner.weight(i).abs())
        assert site.weight.abs().mean() > 2 * weight.abs().mean()  # what is stored is the root


def test_a_look_at_another_cut_leaves_both_masks_of_topkast(model: nn.Module) -> None:
    lineup = dataclasses.replace(
        RECIPES["powerprop"].lineup, select=TopKast(explore=0.2), schedule=Cubic(warmup=0.1, cooldown=0.1)
    )
    pruner = Pruner.attach(find_sites(model), lineup, 0.3, seed=0)
    pruner.refresh(0.4)
    before = moments.hold(pruner)
    reached = [r.reached.clone() for r in pruner.reach()]
    pruner.refresh(1.0)
    for r in pruner.reach():
        kept, reach = int(r.kept.count_nonzero()), int(r.reached.count_nonzero())
        n = r.kept.numel()
        assert (kept, reach) == (math.floor(0.3 * n + 1e-6), math.floor(0.5 * n + 1e-6))
    moments.put_back(pruner, before)
    assert all(torch.equal(r.reached, old) for r, old in zip(pruner.reach(), reached, strict=True))


@pytest.mark.parametrize("keep", [0.03, 0.29, 0.5])
@pytest.mark.parametrize("recipe", ["random", "magnitude", "movement", "powerprop"])
def test_exact_count_per_matrix(model: nn.Module, recipe: str, keep: float) -> None:
    pruner = Pruner.attach(find_sites(model), RECIPES[recipe].lineup, keep, seed=0)
    pruner.refresh(1.0)
    for mask in pruner.masks():
        assert int(mask.count_nonzero()) == math.floor(keep * mask.numel() + 1e-6)
    assert pruner.kept == sum(int(m.count_nonzero()) for m in pruner.masks())


@pytest.mark.parametrize("recipe", ["random", "magnitude", "movement", "soft_movement", "l0", "powerprop"])
def test_exported_model_computes_what_the_masked_one_did(
    model: nn.Module, recipe: str, tmp_path: Path
) -> None:
    pruner = Pruner.attach(find_sites(model), RECIPES[recipe].lineup, 0.3, seed=0)
    with torch.no_grad():
        for scores in pruner.learned_scores():
            scores.copy_(torch.randn(scores.shape) * 3)
    pruner.refresh(1.0)
    masked = model(IDS).logits
    pruner.finalise()
    assert not any("parametrizations" in name for name, _ in model.named_parameters())
    model.save_pretrained(tmp_path / "m")
    loaded = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()
    assert torch.equal(loaded(IDS).logits, masked)
    zeros = sum(int((s.weight == 0).sum()) for s in pruner.sites)
    assert zeros == pruner.total - pruner.kept > 0


def test_shared_weights_are_masked_once_for_all_layers() -> None:
    torch.manual_seed(0)
    config = hf.AlbertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=32,
        vocab_size=50,
        embedding_size=8,
    )
    albert = hf.AlbertForSequenceClassification(config).eval()
    pruner = Pruner.attach(find_sites(albert), RECIPES["magnitude"].lineup, 0.5, seed=0)
    pruner.refresh(1.0)
    masked = albert(IDS).logits
    pruner.finalise()
    assert torch.equal(albert(IDS).logits, masked)
    assert pruner.total == 2048


def test_same_seed_same_random_mask(model: nn.Module) -> None:
    def masks(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(5)
        fresh = hf.BertForSequenceClassification(CONFIG)
        pruner = Pruner.attach(find_sites(fresh), RECIPES["random"].lineup, 0.2, seed=seed)
        pruner.refresh(1.0)
        return pruner.masks()

    assert all(torch.equal(a, b) for a, b in zip(masks(1), masks(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(masks(1), masks(2), strict=True))


def test_embeddings_are_frozen(model: nn.Module) -> None:
    freeze_embeddings(model)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if ".embeddings." in n}


def test_batches_are_a_function_of_seed_and_step() -> None:
    lengths = np.random.default_rng(0).integers(3, 30, 1000).astype(np.int32)
    straight = [b.tolist() for b, _ in zip(batches_from(lengths, 32, 7, 0), range(70), strict=False)]
    resumed = [b.tolist() for b, _ in zip(batches_from(lengths, 32, 7, 40), range(30), strict=False)]
    assert straight[40:] == resumed
    assert straight[:31] != [
        b.tolist() for b, _ in zip(batches_from(lengths, 32, 8, 0), range(31), strict=False)
    ]
    one = np.concatenate(epoch_batches(lengths, 32, 7, 0))
    assert len(set(one.tolist())) == len(one) == 1000 // 32 * 32  # nothing twice
    padded = sum(int(lengths[b].max()) * len(b) for b in epoch_batches(lengths, 32, 7, 0))
    shuffled = np.random.default_rng(1).permutation(1000)[: len(one)].reshape(-1, 32)
    assert padded < 0.8 * sum(int(lengths[b].max()) * len(b) for b in shuffled)
    assert next(iter(epoch_batches(lengths[:5], 32, 0, 0))).tolist() != []


def test_edges_hold_every_value_and_samples_repeat() -> None:
    values = torch.cat([torch.randn(10_000), torch.tensor([50.0, -80.0])])
    edges = inner_edges(values)
    assert (np.diff(edges) > 0).all() and edges[0] > -80 and edges[-1] < 50
    assert len(inner_edges(torch.zeros(5))) == len(edges)
    first, second = sample_indices([1000, 50, 4], 100), sample_indices([1000, 50, 4], 100)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert [len(a) for a in first] == [95, 16, 4]


def test_steer_raises_the_penalty_while_too_much_is_kept() -> None:
    steer = Steer(base=10.0, keep=0.1, path=Cubic(warmup=0.2, cooldown=0.4), lr=0.05)
    steer.observe(1.0, 0.1)
    assert steer.weight() == pytest.approx(10.0)  # before the first cut nothing is learnt
    for _ in range(20):
        steer.observe(0.9, 0.9)
    high = steer.weight()
    assert high > 20
    for _ in range(200):
        steer.observe(0.001, 0.9)
    assert steer.weight() < high
    assert steer.wanted(0.0) == 1.0 and steer.wanted(1.0) == pytest.approx(0.1)
