"""The bundled models: they load offline, are small, and can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer

from analysis import bundle
from analysis.bundle import build, cards, documents, grammar, pretrain, words
from analysis.bundle.lexicon import lexicon
from analysis.engine.sites import find_sites
from analysis.errors import ModelError


def test_everything_bundled_takes_four_megabytes_at_most() -> None:
    assert sum(path.stat().st_size for folder in bundle.MODELS.values() for path in folder.iterdir()) <= 4e6


@pytest.mark.parametrize("name", bundle.MODELS)
def test_stored_in_half_precision_and_described(name: str) -> None:
    folder = bundle.MODELS[name]
    weights = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    facts = json.loads((folder / "pretraining.json").read_text())
    assert (folder / "README.md").read_text() == cards.CARDS[name].format(**facts)
    assert facts["parameters"] == sum(weight.numel() for weight in weights.values())
    loader = AutoModelForSequenceClassification if name == "text" else AutoModelForImageClassification
    sites = find_sites(loader.from_pretrained(folder))
    assert facts["prunable"] == sum(site.weight.numel() for site in sites) > 0


def test_the_text_model_reads_every_row() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundle.MODELS["text"])
    texts = [row["text"] for split in bundle.SPLITS for row in bundle.rows("opinions", split)]
    ids = tokenizer(texts)["input_ids"]
    assert max(map(len, ids)) <= tokenizer.model_max_length
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert tokenizer.decode(tokenizer("I LOVED the soup")["input_ids"]) == "[CLS] i loved the soup [SEP]"
    pair = tokenizer("the soup", "was good")
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_the_text_model_loads_whole_in_single_precision_and_is_deterministic() -> None:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        bundle.MODELS["text"], output_loading_info=True
    )
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not report["unexpected_keys"]
    assert model.dtype == torch.float32
    matrices = [part for part in model.bert.encoder.modules() if isinstance(part, torch.nn.Linear)]
    assert len(matrices) == 18 and sum(part.weight.numel() for part in matrices) == 393_216
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    model.train()
    assert torch.equal(model(ids).logits, model(ids).logits), "there is no dropout"


def test_the_text_model_brings_what_it_knows_of_held_out_words() -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundle.MODELS["text"])
    model = AutoModelForSequenceClassification.from_pretrained(bundle.MODELS["text"]).bert
    texts = {
        word: [f"The {noun} was {word}." for noun in ("singer", "soup")]
        for word in ("good", "bad", "superb", "dreadful")
    }
    with torch.no_grad():
        said = {
            word: model(**tokenizer(pair, padding=True, return_tensors="pt")).pooler_output.mean(0)
            for word, pair in texts.items()
        }

    def alike(a: str, b: str) -> float:
        return torch.cosine_similarity(said[a], said[b], dim=0).item()

    assert alike("superb", "good") > alike("superb", "bad")
    assert alike("dreadful", "bad") > alike("dreadful", "good")


def test_the_digits_model_loads_without_a_head() -> None:
    model, report = AutoModelForImageClassification.from_pretrained(
        bundle.MODELS["digits"], num_labels=5, output_loading_info=True
    )
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert model.dtype == torch.float32
    assert model(pixel_values=torch.zeros(2, 1, 8, 8)).logits.shape == (2, 5)


def test_digits_are_split_once() -> None:
    rows = {split: bundle.rows("digits", split) for split in bundle.SPLITS}
    assert {split: len(part) for split, part in rows.items()} == {
        "train": 540,
        "validation": 136,
        "test": 220,
    }
    images = [np.array(row["image"]) for part in rows.values() for row in part]
    assert all(image.shape == (8, 8) for image in images)
    assert min(image.min() for image in images) == 0 and max(image.max() for image in images) == 1
    assert len({image.tobytes() for image in images}) == 896
    for part in rows.values():
        counts = np.bincount([row["label"] for row in part], minlength=5) / len(part)
        assert len(counts) == 5 and counts.min() > 0.12
    assert [row["label"] for row in rows["test"]][:7] == [3, 0, 1, 3, 2, 2, 1]


def test_documents_are_fixed_and_keep_away_from_the_task() -> None:
    written = documents.documents(3000, seed=1)
    assert written == documents.documents(3000, seed=1) != documents.documents(3000, seed=2)
    rows = {row["text"] for split in bundle.SPLITS for row in bundle.rows("opinions", split)}
    assert rows.isdisjoint(document.first for document in written)
    for text in (text for document in written for text in document):
        assert text[0].isupper() and text.endswith(".") and "  " not in text and " ," not in text, text
    nouns = {noun.word for group in lexicon().nouns.values() for noun in group}
    about = sum(not nouns.isdisjoint(document.first.rstrip(".").split()) for document in written)
    assert about / len(written) == pytest.approx(documents.OPINION_SHARE, abs=0.05)


def test_words_that_stand_together_get_similar_vectors() -> None:
    ids = [[5, 6, 7], [5, 6, 8], [9, 10, 7], [9, 10, 8], [11, 12]] * 20
    table = words.embeddings_from(ids, 14, 4, torch.Generator().manual_seed(0))
    assert table.shape == (14, 4) and bool(table.isfinite().all())
    assert table.std().item() == pytest.approx(words.EMBEDDING_STD, rel=1e-4)
    assert torch.cosine_similarity(table[7], table[8], dim=0) > 0.99
    assert torch.cosine_similarity(table[5], table[11], dim=0) < 0.5


def test_the_first_sentence_does_not_see_the_second() -> None:
    written = documents.documents(pretrain.BATCH, seed=3)
    tokenizer = words.tokenizer_for([text for document in written for text in document])
    batch = next(pretrain.batches(tokenizer, written, steps=1, seed=0))
    torch.manual_seed(0)
    reader = pretrain.Reader(len(tokenizer)).eval()
    other = batch.ids.masked_fill(batch.types.bool() & (batch.ids != words.PAD), 5)
    mask = pretrain.one_way(batch.ids, batch.types)
    with torch.no_grad():
        seen, hidden = (
            reader.bert(ids, attention_mask=mask, token_type_ids=batch.types) for ids in (batch.ids, other)
        )
    assert torch.equal(seen.pooler_output, hidden.pooler_output)
    assert not torch.equal(seen.last_hidden_state, hidden.last_hidden_state)
    assert batch.answers.shape == (int(batch.asked.sum()),)
    assert batch.following.sum(1).min() > 0 and not batch.following[:, : len(words.SPECIAL)].any()


def test_the_same_seed_makes_the_same_text_model(tmp_path: Path) -> None:
    losses = [pretrain.build_text(tmp_path / name, 5, 2, count=128) for name in "ab"]
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert losses[0] == losses[1]
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    vocabulary = len(AutoTokenizer.from_pretrained(tmp_path / "a"))
    assert a["embeddings.word_embeddings.weight"].shape == (vocabulary, pretrain.WIDTH)


@pytest.mark.slow
def test_pretraining_learns(tmp_path: Path) -> None:
    seen: list[float] = []
    pretrain.build_text(tmp_path, 0, 30, lambda done, steps, loss: seen.append(loss), count=600)
    assert len(seen) == 30 and np.mean(seen[-5:]) < np.mean(seen[:5]) - 0.3


def test_the_digits_model_is_made_into_the_folder_asked_for(tmp_path: Path) -> None:
    assert build.build("digits", seed=1, out=tmp_path, steps=3) == [tmp_path / "digits"]
    assert build.build("digits", seed=1, out=tmp_path / "again", steps=3) == [tmp_path / "again" / "digits"]
    one, two = (
        load_file(folder / "digits" / "model.safetensors") for folder in (tmp_path, tmp_path / "again")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert "with seed 1" in (tmp_path / "digits" / "README.md").read_text()


def test_an_unknown_model_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'speech' to build; choose one of: text, digits, all"):
        build.build("speech", out=tmp_path)  # type: ignore[arg-type]


def test_families_and_sizes_are_stated_once() -> None:
    assert sum(grammar.FAMILIES.values()) == pytest.approx(1)
    assert set(grammar.SIZES) == set(bundle.SPLITS)
