"""Sites of the families that are promised, built small from their configurations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn

from analysis import frames
from analysis.engine.inspect.worker import inspect
from analysis.engine.sites import Counts, count_parameters, find_sites, role_of
from analysis.errors import SiteError

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 50,
}


def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "bert":
        return hf.BertForSequenceClassification(hf.BertConfig(**TINY))
    if name == "roberta":
        return hf.RobertaForSequenceClassification(hf.RobertaConfig(**TINY))
    if name == "distilbert":
        config = hf.DistilBertConfig(dim=16, n_layers=2, n_heads=4, hidden_dim=32, vocab_size=50)
        return hf.DistilBertForSequenceClassification(config)
    if name == "albert":
        return hf.AlbertForSequenceClassification(
            hf.AlbertConfig(**{**TINY, "num_hidden_layers": 4}, embedding_size=8)
        )
    if name == "vit":
        config = {k: v for k, v in TINY.items() if k != "vocab_size"}
        return hf.ViTForImageClassification(
            hf.ViTConfig(**config, image_size=8, patch_size=2, num_channels=1)
        )
    if name == "llama":
        return hf.LlamaForSequenceClassification(
            hf.LlamaConfig(**TINY, num_key_value_heads=2, pad_token_id=0)
        )
    config = hf.ResNetConfig(
        num_channels=3, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic"
    )
    return hf.ResNetForImageClassification(config)


ATTENTION = {"query": 2, "key": 2, "value": 2, "attention output": 2}
FAMILIES = {
    "bert": {**ATTENTION, "ffn in": 2, "ffn out": 2},
    "roberta": {**ATTENTION, "ffn in": 2, "ffn out": 2},
    "distilbert": {**ATTENTION, "ffn in": 2, "ffn out": 2},
    "vit": {**ATTENTION, "ffn in": 2, "ffn out": 2},
    "llama": {**ATTENTION, "ffn in": 4, "ffn out": 2},
    "albert": {"query": 1, "key": 1, "value": 1, "attention output": 1, "ffn in": 1, "ffn out": 1},
    "resnet": {"conv": 7},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_roles(family: str) -> None:
    sites = find_sites(_model(family))
    assert dict(Counter(s.role for s in sites)) == FAMILIES[family]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "vit", "llama"])
def test_layers_and_heads(family: str) -> None:
    sites = find_sites(_model(family))
    assert sorted({s.layer for s in sites}) == [0, 1]
    heads = {s.role: s.heads for s in sites}
    assert heads["query"] == heads["attention output"] == 4
    assert heads["key"] == heads["value"] == (2 if family == "llama" else 4)
    assert heads["ffn in"] is None


def test_resnet_layers_follow_depth() -> None:
    assert [s.layer for s in find_sites(_model("resnet"))] == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_by_hand(family: str) -> None:
    model = _model(family)
    sites = find_sites(model)
    counts = count_parameters(model, sites)
    assert counts.prunable == sum(s.weight.numel() for s in sites)
    assert counts.model == sum(p.numel() for p in model.parameters())
    assert counts.prunable < counts.encoder < counts.model
    if family == "bert":
        assert counts.prunable == 2 * (4 * 16 * 16 + 2 * 16 * 32)
        assert counts.encoder == sum(p.numel() for p in model.bert.encoder.parameters())
    if family == "albert":  # four layers share one set of weights
        assert counts.prunable == 4 * 16 * 16 + 2 * 16 * 32


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_has_the_denominators_of_the_run_that_made_it(family: str, tmp_path: Path) -> None:
    model = _model(family)
    counts = count_parameters(model, find_sites(model))
    model.save_pretrained(tmp_path / "model")
    inspect(tmp_path / "model", tmp_path / "out")
    totals = frames.denominators(tmp_path / "out").set_index("denominator")["total"]
    assert totals["prunable weights"] == counts.prunable
    assert totals["encoder"] == counts.encoder
    assert totals["whole model"] == counts.model


def test_bert_base_counts_and_effective_fractions() -> None:
    with torch.device("meta"):
        model = hf.BertForSequenceClassification(hf.BertConfig())
    counts = count_parameters(model, find_sites(model))
    assert (counts.prunable, counts.encoder) == (84_934_656, 85_054_464)
    for keep, effective in ((0.1, 10.1268), (0.03, 3.1366), (0.05, 5.1338), (0.15, 15.1197)):
        found = Counts(counts.prunable, counts.encoder, counts.model).keeps(round(keep * counts.prunable))
        assert 100 * found["keep_encoder"] == pytest.approx(effective, abs=6e-5)
        assert found["keep_prunable"] < found["keep_encoder"] < found["keep_model"]
    assert counts.keeps(round(0.03 * counts.prunable))["keep_model"] == pytest.approx(0.25, abs=0.01)


def test_nothing_found_says_what_to_do() -> None:
    with pytest.raises(SiteError, match=r"no prunable weight was found in a Linear.*choose a transformer"):
        find_sites(nn.Linear(3, 3))


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("encoder.layer.0.attention.output.dense", "attention output"),
        ("encoder.layer.0.output.dense", "ffn out"),
        ("h.3.attn.c_proj", "attention output"),
        ("h.3.mlp.c_proj", "ffn out"),
        ("block.1.layer.0.SelfAttention.o", "attention output"),
        ("block.1.layer.1.EncDecAttention.o", "attention output"),
        ("block.1.layer.1.DenseReluDense.wo", "ffn out"),
        ("block.1.layer.1.DenseReluDense.wi_0", "ffn in"),
        ("layers.0.something_new", "other"),
    ],
)
def test_role_of_names(path: str, role: str) -> None:
    assert role_of(path) == role
