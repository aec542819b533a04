"""Physical removal against the masked model: exact where it claims to be, refused where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn

from analysis.engine import compact
from analysis.engine.pruner import Pruner
from analysis.engine.sites import find_sites
from analysis.errors import ModelError
from analysis.parts.units import Structure
from analysis.recipes import RECIPES

HEADS, INNER = 4, 32
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": HEADS, "vocab_size": 50}
MODELS = {
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**BERT, intermediate_size=INNER)),
    "roberta": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**BERT, intermediate_size=INNER)),
    "distilbert": lambda: hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(dim=16, n_layers=2, n_heads=HEADS, hidden_dim=INNER, vocab_size=50)
    ),
    "vit": lambda: hf.ViTForImageClassification(
        hf.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            image_size=8,
            patch_size=4,
        )
    ),
    "llama": lambda: hf.LlamaForSequenceClassification(
        hf.LlamaConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            intermediate_size=INNER,
            vocab_size=50,
            pad_token_id=0,
        )
    ),
}


def build(family: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[family]().eval()
    with torch.no_grad():  # wide weights and biases that are not zero, or a forgotten fold could go unseen
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


@torch.no_grad()
def answer(model: nn.Module, family: str) -> torch.Tensor:
    if family == "vit":
        return model(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))).logits
    ids = torch.arange(1, 13).view(2, 6)
    padded = torch.ones_like(ids)
    padded[1, 4:] = 0
    return model(ids, attention_mask=padded).logits


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def empty(model: nn.Module, kind: str, which: dict[int, list[int]]) -> None:
    """Zeroes units of some layers: heads by value or output, neurons by their way in or out."""
    role, rows = {
        "heads by value": ("value", True),
        "heads by output": ("attention output", False),
        "heads by query": ("query", True),
        "neurons in": ("ffn in", True),
        "neurons out": ("ffn out", False),
    }[kind]
    for site in (s for s in find_sites(model) if s.role == role):
        weight = site.weight if rows else site.weight.T
        pieces = weight.view(HEADS, -1, weight.shape[1]) if "heads" in kind else weight
        pieces[which.get(site.layer, [])] = 0.0


@pytest.mark.parametrize("kind", ["heads by value", "heads by output", "neurons in", "neurons out"])
@pytest.mark.parametrize("family", MODELS)
def test_removing_what_is_empty_changes_nothing(family: str, kind: str) -> None:
    model = build(family)
    which = {0: [0, 2], 1: [1]}
    empty(model, kind, which)
    before, size = answer(model, family), count(model)
    layers = compact.compact(model)
    torch.testing.assert_close(answer(model, family), before, atol=1e-5, rtol=0)
    assert count(model) < size
    total = HEADS if "heads" in kind else INNER
    for la in layers:
        kept = la.heads if "heads" in kind else la.neurons
        assert list(kept) == [i for i in range(total) if i not in which[la.layer]]


def test_forgetting_the_fold_would_be_seen() -> None:
    model = build("bert")
    which = {0: list(range(16)), 1: list(range(16))}
    empty(model, "neurons in", which)
    before = answer(model, "bert")
    empty(model, "neurons out", which)  # drops the constants that the dead neurons still send
    assert (answer(model, "bert") - before).abs().max() > 1e-3
    assert hf.activations.ACT2FN["gelu"](torch.tensor(0.5)).item() == pytest.approx(0.34573, abs=1e-5)


def test_a_head_without_query_is_not_removed() -> None:
    model = build("bert")
    empty(model, "heads by query", {0: [1], 1: [0]})
    before = answer(model, "bert")
    layers = compact.compact(model)
    assert all(len(la.heads) == HEADS for la in layers)
    torch.testing.assert_close(answer(model, "bert"), before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["heads by value", "heads by output", "neurons in", "neurons out"])
def test_a_layer_is_never_left_without(kind: str) -> None:
    model = build("bert")
    every = list(range(HEADS if "heads" in kind else INNER))
    empty(model, kind, {0: every, 1: every})
    before = answer(model, "bert")
    layers = compact.compact(model)
    assert all(len(la.heads if "heads" in kind else la.neurons) == 1 for la in layers)
    torch.testing.assert_close(answer(model, "bert"), before, atol=1e-5, rtol=0)


def test_saving_and_loading_gives_the_same_answers(tmp_path: Path) -> None:
    model = build("bert")
    empty(model, "heads by value", {0: [0, 1, 2], 1: [3]})
    empty(model, "neurons in", {1: list(range(5, 20))})
    layers = compact.compact(model)
    compact.save(tmp_path / "compact", model, layers)
    again = compact.load(tmp_path / "compact", build("bert"))
    assert torch.equal(answer(again.eval(), "bert"), answer(model, "bert"))
    with pytest.raises(ModelError, match="was compacted from another model"):
        compact.load(tmp_path / "compact", build("roberta"))
    with pytest.raises(ModelError, match="holds no compacted model"):
        compact.load(tmp_path, build("bert"))


@pytest.mark.parametrize("recipe", ["magnitude", "movement", "random"])
def test_structures_pruned_by_a_recipe_are_removed(recipe: str) -> None:
    model = build("bert")
    sites = find_sites(model)
    lineup = RECIPES[recipe].lineup
    lineup = type(lineup)(
        **{**{f: getattr(lineup, f) for f in lineup.__dataclass_fields__}, "units": Structure()}
    )
    pruner = Pruner.attach(sites, lineup, 0.5, seed=0)
    pruner.refresh(1.0)
    masked = answer(model, "bert")
    pruner.finalise()
    torch.testing.assert_close(answer(model, "bert"), masked, atol=0, rtol=0)
    before = sum(s.weight.numel() for s in sites)
    layers = compact.compact(model)
    torch.testing.assert_close(answer(model, "bert"), masked, atol=1e-5, rtol=0)
    assert [(len(la.heads), len(la.neurons)) for la in layers] == [(HEADS // 2, INNER // 2)] * 2
    assert sum(s.weight.numel() for s in find_sites(model)) == pruner.kept == before // 2


def test_a_model_with_transposed_weights_is_refused() -> None:
    config = hf.GPT2Config(n_embd=16, n_layer=1, n_head=4, vocab_size=50, pad_token_id=0)
    with pytest.raises(ModelError, match="lie transposed"):
        compact.compact(hf.GPT2ForSequenceClassification(config))


def test_removed_parameters_add_up_for_bert_base_widths() -> None:
    config = hf.BertConfig(num_hidden_layers=1, vocab_size=50)
    model = hf.BertForSequenceClassification(config).eval()
    size = count(model)
    for site in find_sites(model):
        with torch.no_grad():
            if site.role == "value":
                site.weight[:128] = 0.0  # two heads of 64
            if site.role == "ffn out":
                site.weight[:, :10] = 0.0
    compact.compact(model)
    assert size - count(model) == 2 * (196_608 + 192) + 10 * (2 * 768 + 1)
