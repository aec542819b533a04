"""Filters inside residual blocks: what is masked, what is removed, and that both train alike."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from analysis.engine import compact, scoring
from analysis.engine.chains import find_links
from analysis.engine.pruner import Pruner
from analysis.engine.sites import find_sites
from analysis.errors import ModelError, SpecError
from analysis.parts.optim import AdamW
from analysis.recipes import RECIPES, build

KINDS = ("basic", "bottleneck")


def build_net(kind: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 1], "num_labels": 3}
    model = hf.ResNetForImageClassification(hf.ResNetConfig(num_channels=1, layer_type=kind, **sizes))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # constants of empty filters must not be zero by chance
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.5)
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def pictures(seed: int = 1) -> torch.Tensor:
    return torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def answer(model: nn.Module) -> torch.Tensor:
    return model(pictures()).logits


def attach(model: nn.Module, keep: float = 0.5, **settings: Any) -> Pruner:
    lineup = build("compute_optimal", "m", "t", settings=settings).parts
    pruner = Pruner.attach(find_sites(model), lineup, keep, seed=0)
    pruner.refresh(0.0)
    return pruner


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def outer(model: nn.Module) -> list[torch.Tensor]:
    """Everything that is never cut: stem, shortcuts, the norms of block outputs, and the classifier."""
    named = model.state_dict().items()
    last = {"basic": "layer.1", "bottleneck": "layer.2"}[model.config.layer_type]
    return [
        v
        for k, v in named
        if "embedder" in k or "shortcut" in k or "classifier" in k or f"{last}.normalization" in k
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_links_are_the_inner_convolutions_with_their_norms(kind: str) -> None:
    links = find_links(build_net(kind))
    assert len(links) == 3 * (1 if kind == "basic" else 2)  # three blocks
    first = "resnet.encoder.stages.0.layers.0.layer"
    assert (links[0].writer, links[0].norm, links[0].reader) == (
        f"{first}.0.convolution",
        f"{first}.0.normalization",
        f"{first}.1.convolution",
    )
    assert not any("shortcut" in k.writer + k.reader or "embedder" in k.writer for k in links)


def test_what_breaks_a_chain() -> None:
    conv, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    assert len(find_links(nn.Sequential(conv, nn.Conv2d(4, 2, 1)))) == 1
    for between in (nn.GroupNorm(2, 4), nn.Linear(4, 4), nn.Conv2d(4, 4, 1, groups=2)):
        assert find_links(nn.Sequential(nn.Conv2d(4, 4, 1), between, nn.Conv2d(4, 2, 1))) == []
    early = nn.Sequential(nn.Sequential(norm, conv), nn.Sequential(nn.Conv2d(4, 2, 1)))
    assert find_links(early) == []  # a norm before its convolution acts on other channels
    assert find_links(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(2, 2, 1))) == []


@pytest.mark.parametrize("ranked", ["filters", "channels"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_the_inner_filters_are_cut_and_removed_exactly(kind: str, ranked: str) -> None:
    model = build_net(kind)
    size, untouched = count(model), [t.clone() for t in outer(model)]
    inner = {k.writer: model.get_submodule(k.writer).out_channels for k in find_links(model)}
    pruner = attach(model, **{"units.conv": ranked})
    assert {g.kind for g in pruner.groups} == {ranked}
    assert pruner.kept == sum(int(m.count_nonzero()) for m in pruner.masks())
    masked = answer(model)
    pruner.finalise()
    assert torch.equal(answer(model), masked)
    layers = compact.compact(model)
    torch.testing.assert_close(answer(model), masked, atol=1e-5, rtol=1e-6)
    assert {n: model.get_submodule(n).out_channels for n in inner} == {n: c // 2 for n, c in inner.items()}
    assert [la.filters_before for la in layers] == [
        tuple(c for n, c in inner.items() if f"stages.{s}.layers.{b}." in n)
        for s, b in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(torch.equal(a, b) for a, b in zip(outer(model), untouched, strict=True))
    assert model.classifier[1].in_features == 32 and count(model) < size
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert len(module.running_mean) == len(module.running_var) == module.num_features


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_looks_at_the_filter_or_at_the_channel_that_reads_it(kind: str) -> None:
    for ranked, dim in (("filters", 0), ("channels", 1)):
        model = build_net(kind)
        link = find_links(model)[0]
        weight = model.get_submodule((link.writer, link.reader)[dim]).weight
        wanted = weight.detach().square().sum([d for d in range(4) if d != dim]).sqrt()
        pruner = attach(model, **{"units.conv": ranked})
        torch.testing.assert_close(scoring.current(pruner, 0), wanted)
        left = wanted.topk(len(wanted) // 2).indices.sort().values.tolist()
        pruner.finalise()
        assert list(compact.compact(model)[0].filters[0]) == left


@pytest.mark.parametrize("kind", KINDS)
def test_masked_and_removed_train_alike(kind: str) -> None:
    """Batch norm in training mode, its running statistics, momentum and weight decay included."""
    # In float64, because Adam divides rounding errors by gradients that are hardly larger.
    masked, removed = build_net(kind).double(), build_net(kind).double()
    pruner, again = attach(masked), attach(removed)
    kept = [m.clone() for m in pruner.masks()]
    again.finalise()
    layers = compact.compact(removed)
    train(removed)
    train(masked, pruner)
    assert all(torch.equal(a, b) for a, b in zip(pruner.masks(), kept, strict=True))
    pruner.finalise()
    assert compact.compact(masked) == layers
    for (name, one), two in zip(masked.state_dict().items(), removed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-8, rtol=1e-8, msg=name)


def train(model: nn.Module, pruner: Pruner | None = None) -> None:
    """Six steps of AdamW with decay and clipping, selecting anew before each."""
    model.train()
    sizes = [[p for p in model.parameters() if (p.ndim >= 2) is large] for large in (True, False)]
    optimizer = AdamW(lr=0.01, weight_decay=0.1).build(*sizes, [], 0.0)
    for step in range(6):
        if pruner is not None:
            pruner.refresh(step / 6)
        model(pictures(step).double(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def test_masks_are_frozen_although_their_scores_move() -> None:
    for frozen in (True, False):
        model = build_net("basic")
        pruner = attach(model, **{"schedule.frozen": frozen})
        before = pruner.masks()
        with torch.no_grad():
            for site in pruner.sites:  # what is kept shrinks, so that another choice would be made now
                site.weight[pruner.gates[pruner.sites.index(site)].mask.bool()] *= 1e-3
        pruner.refresh(0.5)
        same = all(torch.equal(a, b) for a, b in zip(pruner.masks(), before, strict=True))
        assert same is frozen


def test_keeping_everything_changes_nothing_and_cutting_sees_no_data() -> None:
    model = build_net("bottleneck")
    before, seen = answer(model), []
    pruner = attach(model, keep=1.0)
    assert torch.equal(answer(model), before) and pruner.kept == pruner.total
    model = build_net("bottleneck")
    for module in model.modules():
        module.register_forward_hook(lambda *_: seen.append(1))
    attach(model, keep=0.5)
    assert seen == [] and all(p.grad is None for p in model.parameters())


def test_never_fewer_than_one_filter() -> None:
    model = build_net("bottleneck")
    pruner = attach(model, keep=0.01)
    masked = answer(model)
    pruner.finalise()
    layers = compact.compact(model)
    assert {len(kept) for la in layers for kept in la.filters} == {1}
    torch.testing.assert_close(answer(model), masked, atol=1e-5, rtol=1e-6)


def test_a_filter_of_zeros_still_sends_the_constant_of_its_norm() -> None:
    constant = nn.functional.batch_norm(
        torch.zeros(1, 1, 1, 1),
        torch.tensor([0.3]),
        torch.tensor([4.0]),
        torch.tensor([1.5]),
        torch.tensor([0.4]),
        eps=0.0,
    )
    assert constant.item() == pytest.approx(0.175)
    model = build_net("basic")
    with torch.no_grad():
        model.get_submodule(find_links(model)[0].writer).weight[0] = 0.0
    before = answer(model)
    assert len(compact.compact(model)[0].filters[0]) == 16  # so it is not removed
    assert torch.equal(answer(model), before)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading_gives_the_same_answers(kind: str, tmp_path: Path) -> None:
    model = build_net(kind)
    attach(model).finalise()
    layers = compact.compact(model)
    compact.save(tmp_path, model, layers)
    again = compact.load(tmp_path, build_net(kind))
    assert torch.equal(answer(again.eval()), answer(model))
    with pytest.raises(ModelError, match="was compacted from another model"):
        compact.load(tmp_path, build_net(next(k for k in KINDS if k != kind)))


def test_learned_scores_of_filters_get_the_dense_gradient_of_their_own_rows() -> None:
    model = build_net("bottleneck")
    pruner = Pruner.attach(find_sites(model), RECIPES["block_movement"].lineup, 0.5, seed=0)
    dense = copy.deepcopy(build_net("bottleneck"))
    for net in (model, dense):
        net(pictures(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    weight = dense.get_submodule(find_links(dense)[1].writer).weight
    wanted = (weight.grad * weight).sum((1, 2, 3))
    torch.testing.assert_close(pruner.learned_scores()[1].grad, wanted, atol=1e-6, rtol=1e-4)


def test_gates_drawn_by_chance_are_refused_where_two_sites_must_agree() -> None:
    lineup = build("l0", "m", "t", settings={"units.type": "Structure"}).parts
    with pytest.raises(SpecError, match=r"a unit of the kind filters must be open or shut in two sites"):
        Pruner.attach(find_sites(build_net("basic")), lineup, 0.5, seed=0)


def test_structures_a_network_does_not_have_are_refused() -> None:
    lineup = build("compute_optimal", "m", "t", settings={"units.conv": "none"}).parts
    with pytest.raises(SpecError, match="have the roles conv and make up no such structure"):
        Pruner.attach(find_sites(build_net("basic")), lineup, 0.5, seed=0)
