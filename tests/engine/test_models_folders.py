"""Names of models and the gate in front of their folders: what opens, and what is refused in one sentence."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from analysis.engine import models
from analysis.engine.data import TaskData
from analysis.engine.files import table
from analysis.engine.splits import Split
from analysis.errors import LabError, ModelError


def task() -> TaskData:
    """A classification task, as far as a model needs to know it."""
    split = Split("train", table("t", {"text": ["a"]}))
    return TaskData(
        "classification",
        "accuracy",
        2,
        ["no", "yes"],
        0.0,
        "",
        "single_label_classification",
        split,
        split,
        split,
    )


@pytest.fixture
def copy(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "has no config.json"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "names no model_type"),
        ('{"sizes": [3, 4]}', "names no model_type"),
        ('{"model_type": "mine", "auto_map": {"AutoModel": "code.Mine"}}', "is never run"),
        ('{"model_type": "bert", "quantization_config": {"bits": 4}}', "is quantised"),
        ('{"model_type": "bert", "attn_implementation": "owner/kernel"}', "attention code from the hub"),
        ('{"model_type": "bert"}', "has no model.safetensors"),
    ],
)
def test_folders_that_hold_no_usable_model(tmp_path: Path, config: str | None, words: str) -> None:
    (tmp_path / "weights.npz").write_bytes(b"x")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError) as caught:
        models.resolve(str(tmp_path))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def shard(folder: Path, name: str) -> None:
    """Turn the single weight file into a sharded one whose only shard has the given name."""
    stored = load_file(folder / "model.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(stored, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_sharded_model_loads(copy: Path) -> None:
    shard(copy, "part-1.safetensors")
    (copy / "model.safetensors").rename(copy / "part-1.safetensors")
    assert models.load_model(str(copy), task(), 0).config.hidden_size == 16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../other/model.safetensors", "only .safetensors files of the same folder"),
        ("/etc/passwd", "only .safetensors files of the same folder"),
        ("part.bin", "only .safetensors files of the same folder"),
        ("..\\x.safetensors", "only .safetensors files of the same folder"),
        ("part-2.safetensors", "lacks the weight file part-2.safetensors"),
    ],
)
def test_an_index_that_points_elsewhere(copy: Path, name: str, words: str) -> None:
    shard(copy, name)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        models.resolve(str(copy))
    assert words in str(caught.value)


def test_an_index_without_a_weight_map(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text('{"weights": []}')
    with pytest.raises(ModelError, match="no readable weight_map"):
        models.resolve(str(copy))


def test_a_bare_name_is_found_in_the_models_folder(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNING_LAB_MODELS", str(tiny_bert.parent))
    assert models.resolve("tiny-bert") == tiny_bert


def test_a_hub_model_in_the_cache_is_found_offline(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    kept = tmp_path / "models--owner--tiny"
    snapshot = kept / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_bert, snapshot)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert models.resolve("owner/tiny") == snapshot
    assert models.load_model("owner/tiny", task(), 0).config.hidden_size == 16


def test_a_run_is_found_in_its_folder(tiny_bert: Path, runs_dir: Path) -> None:
    shutil.copytree(tiny_bert, runs_dir / "a-run" / "model")
    assert models.resolve("run:a-run", runs_dir) == runs_dir / "a-run" / "model"
    (runs_dir / "no-model").mkdir()
    with pytest.raises(ModelError, match="The run no-model has no model"):
        models.resolve("run:no-model", runs_dir)
    with pytest.raises(LabError):
        models.resolve("run:../a-run", runs_dir)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bert-base-uncased", "is not in the Hugging Face cache of this machine"),
        ("someone/no-such-model", "PRUNING_LAB_ONLINE=1"),
        ("/no/such/folder", "does not exist on this machine"),
        ("./no-such-folder", "does not exist on this machine"),
        ("a//b<script>", "does not exist on this machine"),
        ("two words", "is not a valid hub id"),
        ("bundled:nothing", "not a bundled model; the bundled models are bundled:text and bundled:digits"),
        (__file__, "is a file; give the folder"),
    ],
)
def test_unknown_names_answer_at_once(name: str, words: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError) as caught:
        models.load_tokenizer(name)
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert time.monotonic() - begun < 2.0
