"""One-shot cuts: exactly the largest stay, of the sites alone, and everything can be put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

from analysis.engine.oneshot import OneShot, stored_scores
from analysis.errors import ModelError

SIZE: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def model() -> torch.nn.Module:
    """A random BERT of two layers of width 8."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = BertConfig(vocab_size=11, intermediate_size=12, max_position_embeddings=8, **SIZE)
        return BertForSequenceClassification(config)


def slow(values: list[torch.Tensor], keep: float) -> list[torch.Tensor]:
    """Top-k the obvious way: everything in one list, sorted, the first so many; ties by place."""
    flat = torch.cat([v.flatten() for v in values]).tolist()
    order = sorted(range(len(flat)), key=lambda i: (-flat[i], i))
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[order[: int(keep * len(flat) + 1e-6)]] = True
    return [part.view(v.shape) for part, v in zip(chosen.split([v.numel() for v in values]), values)]  # noqa: B905


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.29, 0.01])
def test_exactly_the_largest_weights_stay(model: torch.nn.Module, keep: float, scope: str) -> None:
    cut = OneShot(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    start = [s.weight.detach().clone() for s in cut.sites]
    sizes = [w.abs() for w in start]
    wanted = slow(sizes, keep) if scope == "global" else [slow([s], keep)[0] for s in sizes]
    cut.cut(keep, scope)
    for site, mask, weight in zip(cut.sites, wanted, start, strict=True):
        assert torch.equal(site.weight.detach(), weight * mask), site.name
    assert cut.zeros == cut.counts.prunable - sum(int(m.sum()) for m in wanted)
    pruned = {f"{s.name}.weight" for s in cut.sites}
    assert len(pruned) == 12 and not any(
        "embeddings" in p or "classifier" in p or "pooler" in p for p in pruned
    )
    for name, p in model.named_parameters():
        assert name in pruned or torch.equal(p, before[name]), name
    cut.cut(0.5, "local")  # from the opened weights, not from what the cut before left
    cut.restore()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_scores_decide_and_what_is_not_a_number_goes_first(model: torch.nn.Module) -> None:
    cut = OneShot(model)
    scores = [-s.weight.detach().abs() for s in cut.sites]
    start = [s.weight.detach().clone() for s in cut.sites]
    cut.cut(0.25, "local", scores)
    for site, weight in zip(cut.sites, start, strict=True):
        left = site.weight.detach() != 0
        assert int(left.sum()) == weight.numel() // 4
        assert weight[left].abs().max() <= weight[~left].abs().min()
    cut.restore()
    with torch.no_grad():
        cut.sites[0].weight[0, 0] = torch.nan
    broken = OneShot(model)
    broken.cut(0.9, "global")
    assert all(bool(torch.isfinite(s.weight).all()) for s in broken.sites)


def test_stored_scores_are_found_with_and_without_the_prefix_of_the_body(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    sites = OneShot(model).sites
    made = {s.name: torch.randn_like(s.weight) for s in sites}
    for name, cutting in (("whole", ""), ("body", "bert.")):
        folder = tmp_path / name
        folder.mkdir()
        tensors = {f"{key.removeprefix(cutting)}.mask_scores": value for key, value in made.items()}
        save_file(tensors, folder / "model.safetensors")
        found = stored_scores(folder, sites, "bert", name)
        assert all(torch.equal(f, made[s.name]) for f, s in zip(found, sites, strict=True))


def test_scores_that_are_missing_or_of_another_shape_are_refused(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    sites = OneShot(model).sites
    save_file({"classifier.weight": torch.ones(2, 8)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"some stores no scores: .*\.mask_scores; choose by magnitude"):
        stored_scores(tmp_path, sites, "bert", "some")
    with pytest.raises(ModelError, match=r"\(a run keeps a sample of its scores, not all of them\)"):
        stored_scores(tmp_path, sites, "bert", "run:one")
    tensors = {f"{s.name}.mask_scores": torch.ones_like(s.weight) for s in sites[1:]}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=f"for 11 of 12 prunable matrices, not for {sites[0].name}"):
        stored_scores(tmp_path, sites, "bert", "some")
    tensors[f"{sites[0].name}.mask_scores"] = torch.ones(2, 2)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="are 2 × 2 and its weight is 8 × 8; only one score per weight"):
        stored_scores(tmp_path, sites, "bert", "some")
