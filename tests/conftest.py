"""Fixtures every test may use: a runs folder of its own, and real data where the environment says it is."""

from __future__ import annotations

import os

# Before torch or tokenizers are imported anywhere: several pytest workers share two cores, and nothing here
# may wait for a network that is not there.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = "false"

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("lab", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lab")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} is not set: no folder of {what}")
    path = Path(value).resolve()
    if not path.is_dir():
        pytest.skip(f"{variable}={value} is not a folder")
    return path


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of real Hugging Face model folders ($PRUNING_LAB_MODELS); skips without one."""
    return _folder("PRUNING_LAB_MODELS", "models")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data sets, one folder each ($PRUNING_LAB_DATA); skips without one."""
    return _folder("PRUNING_LAB_DATA", "data")


@pytest.fixture(scope="session")
def checkpoints_dir() -> Path:
    """Folder of other people's checkpoints ($PRUNING_LAB_CHECKPOINTS); skips without one."""
    return _folder("PRUNING_LAB_CHECKPOINTS", "checkpoints")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """An empty runs folder of this test's own."""
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _own_runs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default runs folder is a temporary one, so that no test can write into the clone."""
    monkeypatch.setenv("PRUNING_LAB_RUNS", str(tmp_path_factory.mktemp("default-runs")))


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone: the folder app.py is in."""
    return ROOT


WORDS = tuple("good bad fine poor film meal room the was not very a and but".split())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of a model (a random BERT of two narrow layers) and of a task (400 sentences)."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder / "model")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder / "model")
    draw = random.Random(0)
    with open(folder / "task.jsonl", "w", encoding="utf-8") as out:
        for _ in range(400):
            text = draw.choices(WORDS, k=8)
            row = {"text": " ".join(text), "label": int("good" in text or "fine" in text)}
            out.write(json.dumps(row) + "\n")
    return {"model": str(folder / "model"), "task": str(folder / "task.jsonl")}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runs folder with a real runner that stays warm, for tests that launch real runs."""
    from analysis.store import launch, runs

    folder = tmp_path_factory.mktemp("lab") / "runs"
    folder.mkdir()
    before = os.environ.get("PRUNING_LAB_IDLE")
    os.environ["PRUNING_LAB_IDLE"] = "120"
    launch.ensure_runner(folder)
    yield folder
    for run in runs.list_runs(folder, recorded=False):
        if not run.over:
            launch.stop_run(folder, run.id, force=True)
    launch.end_runner(folder)
    end = time.monotonic() + 30
    while launch.runner_alive(folder) and time.monotonic() < end:
        time.sleep(0.05)
    if before is None:
        os.environ.pop("PRUNING_LAB_IDLE", None)
    else:
        os.environ["PRUNING_LAB_IDLE"] = before


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs one command; gives exit status, stdout and stderr."""
    from analysis.cli import main

    def command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return command
