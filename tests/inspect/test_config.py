"""config.json: what is believed of it, and what is never built: rows A18, A19 of the table of bad inputs."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from analysis.engine.inspect import config as configs
from analysis.engine.inspect.header import Entry
from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.model_files import require_credible, resolve
from analysis.engine.preflight import check
from analysis.errors import ModelError
from analysis.recipes import build

BERT = {"num_attention_heads": 12, "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 30522}


def test_sizes_are_found_whatever_a_family_calls_them() -> None:
    assert configs.heads_of(BERT) == (12, 12)
    llama = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_size": 3072}
    assert configs.heads_of(llama) == (32, 8)
    assert configs.heads_of({"n_head": 12, "n_embd": 768}) == (12, 12)
    assert configs.heads_of({"text_config": llama}) == (32, 8)
    assert configs.heads_of({}) is None
    assert configs.quantised_by({"quantization_config": {"quant_method": "gptq"}}) == "gptq"
    assert configs.quantised_by({}) is None


@pytest.mark.parametrize("value", [0, -1, 12.0, "12", True, None, [12], 100_001, math.inf, 10**30])
def test_a18_sizes_of_wrong_type_or_range_are_not_believed(value: Any) -> None:
    assert configs.heads_of(BERT | {"num_attention_heads": value}) is None
    assert configs.quantised_by({"quantization_config": value}) is None


def test_heads_that_do_not_divide_are_not_believed() -> None:
    assert configs.heads_of(BERT | {"num_key_value_heads": 5}) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{" + b" " * 50_000_000 + b"}", "has 50000002 bytes"),
        (b'{"hidden_size": NaN}', "not JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[1, 2]", "not a JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"", "not JSON"),
    ],
    ids=["50 MB", "NaN", "twice", "list", "bytes", "nested", "empty"],
)
def test_a18_a_config_that_is_not_believed_does_not_keep_the_weights_closed(
    content: bytes, words: str, tmp_path: Path
) -> None:
    save_file({"a": np.ones((2, 2), "f4")}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(content)
    found = open_checkpoint(tmp_path, tmp_path)
    assert found.config == {} and len(found.entries) == 1
    assert len(found.problems) == 1 and words in found.problems[0] and "\n" not in found.problems[0]


def test_a_config_beside_the_weights_is_read(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 2), "f4")}, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path, tmp_path).config == {}
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert open_checkpoint(path, tmp_path).config == BERT


@given(
    st.dictionaries(
        st.sampled_from([*configs.HEADS, *configs.KV_HEADS, "hidden_size", *configs.LAYERS, "text_config"]),
        st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.dictionaries(st.text(), st.none()),
    )
)
def test_a18_whatever_a_config_says_sizes_are_sizes(config: dict[str, Any]) -> None:
    heads = configs.heads_of(config)
    assert heads is None or (1 <= heads[1] <= heads[0] <= configs.MAX_SIZE and heads[0] % heads[1] == 0)
    try:
        configs.require_credible(config, [Entry("w", "F32", (8, 8), Path("m"), 0, 256)], "m")
    except ModelError as error:
        assert "\n" not in str(error)


@pytest.fixture
def model(tiny: dict[str, str], tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny["model"], tmp_path / "model"))


def edit(model: Path, **values: Any) -> None:
    found = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(found | values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_hidden_layers": 20_000}, "num_hidden_layers 20000"),
        ({"num_hidden_layers": math.nan}, "NaN"),
        ({"num_hidden_layers": -2}, "num_hidden_layers -2"),
        ({"vocab_size": 10**9}, "vocab_size 1000000000"),
        ({"vocab_size": 1e12}, "vocab_size 1000000000000"),
        ({"hidden_size": 10**6}, "hidden_size 1000000"),
        ({"intermediate_size": 10**8}, "intermediate_size 100000000"),
        ({"filler": "x" * 50_000_000}, "no real one has more than"),
    ],
    ids=["layers", "NaN", "negative", "vocabulary", "float", "width", "neurons", "50 MB"],
)
def test_a18_nothing_is_built_that_the_weights_cannot_fill(
    values: dict[str, Any], words: str, model: Path, tiny: dict[str, str], tmp_path: Path
) -> None:
    edit(model, **values)
    spec = build("movement", str(model), tiny["task"])
    begun = time.monotonic()
    with pytest.raises(ModelError, match=words) as caught:
        check(spec, tmp_path)
    assert "\n" not in str(caught.value) and time.monotonic() - begun < 10


def test_a18_a19_the_worker_refuses_too_before_torch_builds(model: Path, tiny: dict[str, str]) -> None:
    from analysis.engine import models
    from analysis.engine.data import load_task
    from analysis.spec import TaskSpec

    data = load_task(TaskSpec(tiny["task"]), models.load_tokenizer(str(model)))
    edit(model, num_hidden_layers=20_000)
    begun = time.monotonic()
    with pytest.raises(ModelError, match="num_hidden_layers 20000"):
        models.load_model(str(model), data, 0)
    assert time.monotonic() - begun < 10
    edit(model, num_hidden_layers=2)
    weights = load_file(model / "model.safetensors")
    lost = "bert.encoder.layer.1.attention.self.query.weight"
    save_file({n: w for n, w in weights.items() if n != lost}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights"):
        models.load_model(str(model), data, 0)
    save_file({"other": np.ones(2, "f4")}, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="do not fit its config"):
        models.load_model(str(model), data, 0)


def test_real_models_are_credible(models_dir: Path) -> None:
    names = [str(f) for f in models_dir.iterdir() if (f / "config.json").is_file()]
    assert names
    for name in (*names, "bundled:text", "bundled:digits"):
        require_credible(resolve(name), name)
