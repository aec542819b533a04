"""Word embeddings as two factors: sizes, the start, training, and what is saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from torch import nn

from analysis.engine import compact, train
from analysis.engine.embedding import LowRankEmbedding, attach, fold
from analysis.errors import SpecError
from analysis.parts.embedding import FactorisedEmbedding, stored
from analysis.recipes import build
from tests.engine.test_stages import folder
from tests.engine.test_train import Control, events


def test_a_table_of_bert_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        table = nn.Embedding(30522, 768, padding_idx=0)
        thin = LowRankEmbedding.of(table, 192)
    assert table.weight.numel() == 23_440_896
    assert sum(p.numel() for p in thin.parameters()) == stored(30522, 768, 192) == 6_007_680


def test_factors_are_the_nearest_and_padding_has_no_gradient() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(20, 8, padding_idx=0)
    thin = LowRankEmbedding.of(table, 3)
    left = torch.linalg.svdvals(table.weight.detach())[3:]
    gap = (thin.weight - table.weight).square().sum()
    torch.testing.assert_close(gap, left.square().sum(), rtol=1e-4, atol=1e-6)
    words = torch.tensor([[0, 5, 7]])
    torch.testing.assert_close(thin(words), thin.weight[words])
    thin(words).sum().backward()
    assert not thin.table.grad[0].any() and thin.table.grad[5].any() and thin.projection.grad.any()


def test_folding_gives_the_same_model_back(tiny_bert: Path) -> None:
    model = hf.AutoModelForSequenceClassification.from_pretrained(tiny_bert).eval()
    ids = torch.arange(1, 9).view(1, -1)
    attach(FactorisedEmbedding(rank=4), model)
    with torch.no_grad():
        factored = model(ids).logits
    assert fold(model) == {"bert.embeddings.word_embeddings": 4}
    assert isinstance(model.get_input_embeddings(), nn.Embedding)
    torch.testing.assert_close(model(ids).logits, factored, atol=1e-6, rtol=0)


def test_a_rank_that_saves_nothing_and_a_model_without_words_are_refused(tiny_bert: Path) -> None:
    model = hf.AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    with pytest.raises(SpecError, match=r"embedding\.rank is 16; .* smaller only up to 1[0-5]"):
        attach(FactorisedEmbedding(rank=16), model)
    picture = hf.ResNetForImageClassification(hf.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1]))
    with pytest.raises(SpecError, match="has no table of word embeddings"):
        attach(FactorisedEmbedding(rank=2), picture)


@pytest.mark.parametrize("recipe", ["grain", "movement"])
def test_a_run_trains_saves_and_resumes_with_factors(
    tmp_path: Path, tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path], recipe: str
) -> None:
    data = str(write("data.jsonl", sentences * 3))
    plan = {
        "training.batch": 8,
        "training.precision": "fp32",
        "optimizer.lr": 0.01,
        "optimizer.freeze_embeddings": False,
        "embedding.type": "FactorisedEmbedding",
        "embedding.rank": 4,
    }
    spec = build(recipe, str(tiny_bert), data, keep=0.25, steps=20, settings=plan)
    straight, cut = folder(tmp_path, "straight", spec), folder(tmp_path, "cut", spec)
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(cut, Control(stop_at=14))
    train.execute(cut, Control())
    one, two = (load_file(p / "model" / "model.safetensors") for p in (straight, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)
    name = "bert.embeddings.word_embeddings.weight"
    before = load_file(tiny_bert / "model.safetensors")[name.removeprefix("bert.")]
    assert one[name].shape == before.shape
    assert int((torch.linalg.svdvals(one[name]) > 1e-5).sum()) == 4 and not torch.equal(one[name], before)
    (removal,) = events(straight, "removal")
    rows, cols = before.shape
    assert removal["embeddings"] == {"bert.embeddings.word_embeddings": 4}
    saved = rows * cols - stored(rows, cols, 4)
    assert removal["parameters_before"] - removal["parameters"] >= saved
    assert (removal["parameters_before"] - removal["parameters"] == saved) == (recipe == "movement")
    assert removal["difference"] < 1e-5
    dense = hf.AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    manifest = json.loads((straight / "compact" / "manifest.json").read_text())
    assert manifest["ranks"] == {"bert.embeddings.word_embeddings": 4}
    small = compact.load(straight / "compact", dense).eval()
    assert isinstance(small.get_input_embeddings(), LowRankEmbedding)
    whole = hf.AutoModelForSequenceClassification.from_pretrained(straight / "model").eval()
    ids = torch.arange(1, 9).view(1, -1)
    torch.testing.assert_close(small(ids).logits, whole(ids).logits, atol=1e-5, rtol=0)


def test_factors_are_trained_where_embeddings_are_not(
    tmp_path: Path, tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]
) -> None:
    data = str(write("data.jsonl", sentences * 3))
    plan = {"embedding.type": "FactorisedEmbedding", "embedding.rank": 4}
    spec = build("magnitude", str(tiny_bert), data, keep=0.25, steps=20, settings=plan)
    assert spec.parts.optimizer.freeze_embeddings
    setup = train.prepare(spec, tmp_path)
    trained = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
    table = setup.model.get_input_embeddings()
    assert {id(table.table), id(table.projection)} <= trained


@pytest.mark.parametrize("other", ["graft.type=Graft", "distillation.type=SelfDistillation"])
def test_what_shares_the_table_of_the_student_is_refused(other: str) -> None:
    name, _, value = other.partition("=")
    plan = {"embedding.type": "FactorisedEmbedding", name: value}
    with pytest.raises(SpecError, match=r"embedding is FactorisedEmbedding, but .* embedding\.type=none"):
        build("grain", "bundled:text", "bundled:opinions", settings=plan)
