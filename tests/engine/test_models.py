"""Models load by every kind of name with the right head, and what cannot be loaded says why at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from analysis.engine import models
from analysis.engine.data import TaskData, load_task
from analysis.engine.files import table
from analysis.engine.splits import Split
from analysis.errors import ModelError
from analysis.spec import TaskSpec

NAMES = ["no", "yes", "maybe"]


def task(kind: str = "classification", labels: int = 3) -> TaskData:
    """A task of a kind, as far as a model needs to know it."""
    problem = {"classification": "single_label_classification", "regression": "regression"}.get(kind, "")
    split = Split("train", table("t", {"text": ["a"]}))
    return TaskData(kind, "accuracy", labels, NAMES[:labels], 0.0, "", problem, split, split, split, 16, 0)


@pytest.fixture
def copy(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "copy"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_body_comes_from_the_file_and_the_head_from_the_seed(tiny_bert: Path) -> None:
    first, again, other = (models.load_model(str(tiny_bert), task(), seed) for seed in (3, 3, 4))
    stored = load_file(tiny_bert / "model.safetensors")
    state = first.state_dict()
    assert all(torch.equal(state[f"bert.{key}"], value) for key, value in stored.items())
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert first.classifier.weight.abs().sum() > 0
    assert first.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert first.training
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}


def test_loading_leaves_the_global_random_state_alone(tiny_bert: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    models.load_model(str(tiny_bert), task(), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_loading_is_silent(tiny_bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    models.load_tokenizer(str(tiny_bert))
    models.load_model(str(tiny_bert), task(), 5)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("classification", (3, 16)),
        ("regression", (1, 16)),
        ("token-classification", (3, 16)),
        ("question-answering", (2, 16)),
    ],
)
def test_the_head_fits_the_task(tiny_bert: Path, kind: str, shape: tuple[int, int]) -> None:
    data = task(kind, 1 if kind == "regression" else 3)
    model = models.load_model(str(tiny_bert), data, 0)
    head = model.qa_outputs if kind == "question-answering" else model.classifier
    assert head.weight.shape == shape
    if kind == "regression":
        assert model.config.problem_type == "regression"


def test_a_head_of_another_task_is_replaced(tiny_bert: Path, tmp_path: Path) -> None:
    five = models.load_model(str(tiny_bert), task(), 0)
    five.save_pretrained(tmp_path / "three")
    shutil.copy(tiny_bert / "tokenizer.json", tmp_path / "three")
    same = models.load_model(str(tmp_path / "three"), task(), 9)
    assert torch.equal(same.classifier.weight, five.classifier.weight)
    two = models.load_model(str(tmp_path / "three"), task(labels=2), 9)
    assert two.classifier.weight.shape == (2, 16)
    assert torch.equal(
        two.bert.embeddings.word_embeddings.weight, five.bert.embeddings.word_embeddings.weight
    )


def test_weights_missing_outside_the_head(copy: Path) -> None:
    stored = load_file(copy / "model.safetensors")
    lost = "encoder.layer.1.attention.self.query.weight"
    save_file(
        {key: value for key, value in stored.items() if key != lost},
        copy / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match=rf"lacks 1 weights, such as bert.{lost}"):
        models.load_model(str(copy), task(), 0)


def test_weights_of_another_shape(copy: Path) -> None:
    edit_config(copy, intermediate_size=48)
    with pytest.raises(ModelError, match=r"do not fit its config.json"):
        models.load_model(str(copy), task(), 0)


def test_a_truncated_weight_file(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"The model of .* cannot be loaded"):
        models.load_model(str(copy), task(), 0)


def test_pickled_weights_are_refused_unopened(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, copy / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"only in pytorch_model.bin, which can run code .* convert it to model.safetensors"
    ):
        models.load_model(str(copy), task(), 0)


def test_the_tokenizer_knows_the_models_longest_input(tiny_bert: Path) -> None:
    assert models.load_tokenizer(str(tiny_bert)).model_max_length == 48


def test_a_model_without_segments_gets_none(copy: Path, write: Any) -> None:
    edit_config(copy, type_vocab_size=1)
    rows = [{"sentence1": "good film", "sentence2": "bad film", "label": i % 2} for i in range(30)]
    data = load_task(TaskSpec(source=str(write("d.jsonl", rows))), models.load_tokenizer(str(copy)))
    assert data.train.batch(np.arange(2)).keys() == {"input_ids", "attention_mask", "labels"}


def test_a_tokenizer_of_another_model(copy: Path) -> None:
    edit_config(copy, vocab_size=20)
    with pytest.raises(ModelError, match=r"knows \d+ tokens but the model only 20"):
        models.load_tokenizer(str(copy))


def test_a_damaged_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"The tokenizer of .* cannot be loaded"):
        models.load_tokenizer(str(copy))


def test_a_text_model_has_no_head_for_pictures(tiny_bert: Path) -> None:
    with pytest.raises(
        ModelError, match=r"\(bert\) has no head for image-classification; it can do classification"
    ):
        models.load_model(str(tiny_bert), task("image-classification"), 0)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {**SMALL, "vocab_size": 60, "max_position_embeddings": 48}
FAMILIES: dict[str, tuple[Any, list[str]]] = {
    "bert": (
        lambda: transformers.BertModel(transformers.BertConfig(**TEXT)),
        ["classification", "question-answering"],
    ),
    "distilbert": (
        lambda: transformers.DistilBertModel(
            transformers.DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
        ),
        ["classification", "regression", "question-answering", "token-classification"],
    ),
    "roberta": (
        lambda: transformers.RobertaModel(transformers.RobertaConfig(**TEXT)),
        ["classification", "token-classification"],
    ),
    "albert": (
        lambda: transformers.AlbertModel(transformers.AlbertConfig(**TEXT, embedding_size=8)),
        ["classification", "question-answering"],
    ),
    "llama": (
        lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT, num_key_value_heads=1)),
        ["classification", "question-answering", "token-classification"],
    ),
    "vit": (
        lambda: transformers.ViTModel(
            transformers.ViTConfig(**SMALL, image_size=8, patch_size=4, num_channels=1)
        ),
        ["image-classification"],
    ),
    "resnet": (
        lambda: transformers.ResNetModel(
            transformers.ResNetConfig(
                num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"
            )
        ),
        ["image-classification"],
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, tmp_path: Path) -> None:
    build, kinds = FAMILIES[family]
    transformers.utils.logging.disable_progress_bar()
    original = build()
    original.save_pretrained(tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    sums = {round(float(value.double().sum()), 9) for value in kept.values() if value.numel() > 1}
    for kind in kinds:
        model = models.load_model(str(tmp_path), task(kind, 1 if kind == "regression" else 3), 1)
        loaded = {round(float(value.double().sum()), 9) for value in model.state_dict().values()}
        # pooler and language model head are not part of every head, everything else is the stored tensor.
        assert len(sums - loaded) <= 2
        with torch.no_grad():
            if kind == "image-classification":
                output = model(pixel_values=torch.zeros(2, 1, 8, 8))
            else:
                output = model(
                    input_ids=torch.tensor([[5, 6, 7], [5, 6, 0]]),
                    attention_mask=torch.tensor([[1, 1, 1], [1, 1, 0]]),
                )
        assert all(torch.isfinite(part).all() for part in output.to_tuple() if isinstance(part, torch.Tensor))


def test_a_decoder_gets_a_padding_token(tiny_bert: Path, tmp_path: Path, write: Any, sentences: Any) -> None:
    transformers.utils.logging.disable_progress_bar()
    build, _ = FAMILIES["llama"]
    build().save_pretrained(tmp_path / "llama")
    core = json.loads((tiny_bert / "tokenizer.json").read_text())
    (tmp_path / "llama" / "tokenizer.json").write_text(json.dumps(core))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[SEP]", "model_max_length": 512}
    (tmp_path / "llama" / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = models.load_tokenizer(str(tmp_path / "llama"))
    assert tokenizer.pad_token == "[SEP]"
    data = load_task(TaskSpec(source=str(write("d.jsonl", sentences))), tokenizer)
    model = models.load_model(str(tmp_path / "llama"), data, 0)
    assert model.config.pad_token_id == tokenizer.pad_token_id == 3
    assert torch.isfinite(model(**data.train.batch([0, 1, 2])).loss)
