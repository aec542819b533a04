"""The inspector: right numbers for every float type, a sentence for every bad file, and real checkpoints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from analysis import frames
from analysis.engine.inspect import cache
from analysis.engine.inspect.names import number, role_of
from analysis.engine.inspect.worker import inspect
from analysis.errors import ModelError
from analysis.store import jobs
from tests.inspect.made import entry, raw


def one(tmp_path: Path, dtype: str, bits: np.ndarray) -> Any:
    """Inspects a file with one tensor given by its bits; returns its row."""
    data = bits.tobytes()
    header = {"layer.0.query.weight": entry(dtype, bits.shape, 0, len(data))}
    inspect(raw(tmp_path / "model.safetensors", header, data), tmp_path / "out")
    return frames.tensors(tmp_path / "out").iloc[0]


VALUES = np.array([[0.0, -0.0, 1.5, -2.0], [0.5, 0.0, np.nan, np.inf]], dtype=np.float32)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_every_float_type_gives_the_same_numbers(dtype: str, tmp_path: Path) -> None:
    bits: np.ndarray = {
        "F32": VALUES,
        "F64": VALUES.astype(np.float64),
        "F16": VALUES.astype(np.float16),
        "BF16": (VALUES.view(np.uint32) >> 16).astype(np.uint16),
    }[dtype]
    row = one(tmp_path, dtype, bits)
    assert (row["numel"], row["zeros"], row["nonfinite"]) == (8, 3, 2)
    assert (row["min"], row["max"], row["mean"]) == (-2.0, 1.5, 0.0)
    finite = VALUES[np.isfinite(VALUES)]
    assert row["std"] == pytest.approx(finite.std()) and row["sparsity"] == 3 / 8
    assert row["q50"] == 0.0 and row["q99"] == pytest.approx(2.0, rel=0.01)
    assert (row["rows_empty"], row["cols_empty"]) == (0, 1)
    assert (row["role"], row["layer"], row["note"]) == ("query", 0, "2 values are not finite")
    bins = frames.tensor_histogram(tmp_path / "out", "layer.0.query.weight")
    assert bins["count"].sum() == 3 and bins["low"].iloc[0] == -np.inf and bins["high"].iloc[-1] == np.inf


def test_empty_scalar_and_constant_tensors_divide_nothing_by_zero(tmp_path: Path) -> None:
    tensors = {"none": np.zeros((0, 4), "f4"), "scalar": np.float32(3), "zeros": np.zeros((3, 3), "f4")}
    save_file({k: np.asarray(v) for k, v in tensors.items()}, tmp_path / "m.safetensors")
    inspect(tmp_path / "m.safetensors", tmp_path / "out")
    found = frames.tensors(tmp_path / "out").set_index("tensor")
    assert np.isnan(found.loc["none", "sparsity"]) and np.isnan(found.loc["none", "mean"])
    assert found.loc["scalar", "shape"] == "scalar" and found.loc["scalar", "mean"] == 3
    assert found.loc["zeros", "note"] == "zero throughout" and found.loc["zeros", "rows_empty"] == 3


def test_a_run_folder_means_its_model(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "spec.json").write_text("{}")
    save_file({"a": np.ones((2, 2), "f4")}, tmp_path / "run" / "model" / "model.safetensors")
    inspect(tmp_path / "run", tmp_path / "out")
    assert len(frames.tensors(tmp_path / "out")) == 1


def test_sparsity_depends_on_the_denominator(tmp_path: Path) -> None:
    half = np.ones((10, 10), "f4")
    half[:5] = 0
    tensors = {
        "encoder.layer.0.attention.self.query.weight": half,
        "embeddings.word_embeddings.weight": np.ones((30, 10), "f4"),
        "encoder.layer.0.attention.self.query.bias": np.zeros(100, "f4"),
        "embeddings.LayerNorm.weight": np.ones(50, "f4"),  # neither of these two lies in a numbered block
        "pooler.dense.bias": np.zeros(50, "f4"),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    inspect(tmp_path / "m.safetensors", tmp_path / "out")
    found = frames.denominators(tmp_path / "out").set_index("denominator")
    assert found["sparsity"].to_dict() == {
        "prunable weights": 0.5,
        "encoder": 150 / 200,
        "whole model": 200 / 600,
        "bytes on disk": pytest.approx(800 / (tmp_path / "m.safetensors").stat().st_size),
    }
    assert frames.layers(tmp_path / "out")["keep"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("bert.encoder.layer.3.attention.self.value.weight", (8, 8), "value"),
        ("bert.encoder.layer.3.attention.output.dense.weight", (8, 8), "attention output"),
        ("bert.encoder.layer.3.attention.output.LayerNorm.weight", (8,), "norm"),
        ("bert.encoder.layer.3.intermediate.dense.weight", (32, 8), "ffn in"),
        ("bert.encoder.layer.11.output.dense.weight", (8, 32), "ffn out"),
        ("distilbert.transformer.layer.1.attention.out_lin.weight", (8, 8), "attention output"),
        ("distilbert.transformer.layer.1.ffn.lin2.weight", (8, 8), "ffn out"),
        ("model.layers.7.self_attn.o_proj.weight", (8, 8), "attention output"),
        ("model.layers.7.mlp.gate_proj.weight", (8, 8), "ffn in"),
        ("transformer.h.2.attn.c_attn.weight", (8, 24), "query_key_value"),
        ("transformer.h.2.attn.c_proj.weight", (8, 8), "attention output"),
        ("transformer.h.2.mlp.c_proj.weight", (8, 8), "ffn out"),
        ("transformer.wte.weight", (50, 8), "embedding"),
        ("lm_head.weight", (50, 8), "head"),
        ("classifier.dense.weight", (8, 8), "head"),
        ("bert.pooler.dense.weight", (8, 8), "pooler"),
        ("layer2.1.conv1.weight", (8, 4, 3, 3), "conv"),
        ("layer2.0.bn2.running_var", (8,), "statistic"),
        ("fc.weight", (10, 64), "head"),
        ("fc.bias", (10,), "head"),
        ("model.layers.0.mlp.down_proj.qweight", (8, 8), "quantised"),
        ("blk.0.attn_q.weight", (8, 8), "query"),
        ("blk.0.attn_output.weight", (8, 8), "attention output"),
        ("blk.0.ffn_gate.weight", (8, 8), "ffn in"),
        ("blk.0.ffn_down.weight", (8, 8), "ffn out"),
        ("blk.0.attn_norm.weight", (8,), "norm"),
        ("token_embd.weight", (8, 8), "embedding"),
        ("output.weight", (8, 8), "head"),
        ("model.layers.0.self_attn.q_proj.weight_scale_inv", (2, 2), "quantised"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 8), "embedding"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", (8, 64), "unknown"),
        ("layer_scale.lambda1", (8,), "unknown"),
        ("something.weight", (8, 8), "other"),
        ("something", (8,), "unknown"),
    ],
)
def test_roles_are_guessed_from_names(name: str, shape: tuple[int, ...], role: str) -> None:
    assert role_of(name, shape) == role


def test_layers_are_numbered_as_the_model_numbers_them() -> None:
    blocks = [f"bert.encoder.layer.{i}" for i in (10, 2, 0, 1, 11)]
    assert number(blocks) == {f"bert.encoder.layer.{n}": i for i, n in enumerate((0, 1, 2, 10, 11))}
    assert number(["layer2.0", "layer1.1", "layer1.0"]) == {"layer1.0": 0, "layer1.1": 1, "layer2.0": 2}


def test_a_process_of_its_own_reports_success_failure_and_never_loads_torch(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 2), "f4")}, tmp_path / "m.safetensors")
    out = cache.begin(tmp_path / "m.safetensors", tmp_path / "runs")
    assert jobs.wait(out).state == "done" and len(frames.tensors(out)) == 1
    (tmp_path / "bad.safetensors").write_bytes(b"abc")
    out = cache.begin(tmp_path / "bad.safetensors", tmp_path / "runs")
    assert jobs.wait(out).state == "failed" and "too few" in jobs.read(out).reason
    with pytest.raises(ModelError, match="does not exist"):
        cache.begin(tmp_path / "none", tmp_path / "runs")
    code = "import analysis.engine.inspect.worker, analysis.frames, sys; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode
        == 0
    )
