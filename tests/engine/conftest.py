"""Tiny models and written data files for the engine's tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = (
    "good bad fine poor film plot actor scene the a is was not very it and who won when where did "
    "paris rome obama merkel visited lives in on of born city small large game cat dog sat mat ."
).split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
Write = Callable[[str, list[dict[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a .jsonl or .jsonl.gz file, or verbatim text under any other name."""

    def writer(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return writer


def save_tokenizer(folder: Path) -> None:
    """Write a word-level BERT tokenizer that knows WORDS."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT of width 16 without a head, with its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    save_tokenizer(folder)
    torch.manual_seed(7)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(SPECIAL) + len(WORDS), max_position_embeddings=48, **size)
    BertModel(config).save_pretrained(folder)
    return folder


# What a recipe needs beside its defaults to fit a model of width 16.
SMALL: dict[str, dict[str, Any]] = {
    "block_movement": {"units.rows": 4, "units.cols": 4},
    "mlpruning": {"units.tile": 4},
}
KEEPS = {"dense": 1.0, "compute_optimal": 0.5}  # of two heads no quarter can be kept; the others keep 0.25


@pytest.fixture(scope="session")
def tokenizer(tiny_bert: Path) -> Any:
    """The tokenizer of tiny_bert."""
    from analysis.engine.models import load_tokenizer

    return load_tokenizer(str(tiny_bert))


@pytest.fixture
def sentences() -> list[dict[str, Any]]:
    """Forty short labelled sentences of different lengths."""
    good, bad = ["good", "fine"], ["bad", "poor"]
    return [
        {
            "sentence": f"the {'film plot actor scene'.split()[i % 4]} is {(bad, good)[i % 2][i // 2 % 2]}"
            + " very" * (i % 5),
            "label": i % 2,
        }
        for i in range(40)
    ]


class Quiet:
    """The worker's side of the loop for a run that nobody stops."""

    def should_stop(self) -> bool:
        return False

    def report(self, step: int, progress: float) -> None:
        assert progress <= 1

    def elapsed(self) -> float:
        return 0.0


@pytest.fixture
def quiet() -> Quiet:
    """A control that never stops the run."""
    return Quiet()
