"""The inspector: right numbers for every float type, a sentence for every bad file, and real checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from analysis import frames
from analysis.engine.inspect import cache
from analysis.engine.inspect.header import MAX_HEADER, read_header
from analysis.engine.inspect.names import number, role_of
from analysis.engine.inspect.worker import inspect
from analysis.errors import ModelError
from analysis.store import jobs


def raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """Writes a safetensors file byte by byte, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), start: int = 0, end: int = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


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


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 10), st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_statistics_agree_with_numpy(tmp_path: Path, seed: int, scale: float, sparsity: float) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(0, scale, (37, 53)) * (rng.random((37, 53)) > sparsity)).astype(np.float32)
    w[5] = 0
    row = one(tmp_path, "F32", w)
    assert row["zeros"] == (w == 0).sum() and row["rows_empty"] == (~w.any(axis=1)).sum()
    assert row["mean"] == pytest.approx(w.mean(dtype=float), abs=1e-6 * scale)
    assert row["std"] == pytest.approx(w.std(dtype=float), rel=1e-4, abs=1e-9)
    want = np.quantile(np.abs(w), [0.5, 0.99], method="inverted_cdf")
    assert row["q50"] == pytest.approx(want[0], rel=0.01, abs=1e-30)
    assert row["q99"] == pytest.approx(want[1], rel=0.01, abs=1e-30)
    bins = frames.tensor_histogram(tmp_path / "out", "layer.0.query.weight")
    assert bins["count"].sum() == (w != 0).sum()


def test_empty_scalar_and_constant_tensors_divide_nothing_by_zero(tmp_path: Path) -> None:
    tensors = {"none": np.zeros((0, 4), "f4"), "scalar": np.float32(3), "zeros": np.zeros((3, 3), "f4")}
    save_file({k: np.asarray(v) for k, v in tensors.items()}, tmp_path / "m.safetensors")
    inspect(tmp_path / "m.safetensors", tmp_path / "out")
    found = frames.tensors(tmp_path / "out").set_index("tensor")
    assert np.isnan(found.loc["none", "sparsity"]) and np.isnan(found.loc["none", "mean"])
    assert found.loc["scalar", "shape"] == "scalar" and found.loc["scalar", "mean"] == 3
    assert found.loc["zeros", "note"] == "zero throughout" and found.loc["zeros", "rows_empty"] == 3


def test_tensors_longer_than_a_chunk_are_read_whole(tmp_path: Path) -> None:
    w = np.ones((1200, 1000), "f4")
    w[::2] = 0
    row = one(tmp_path, "F32", w)
    assert row["zeros"] == 600_000 and row["rows_empty"] == 600 and row["mean"] == 0.5


NAN_HEADER = b'{"a": NaN}'
ENTRY = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
TWICE = b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}"
BAD: dict[str, tuple[Any, bytes, int | None, str]] = {
    "header longer than the file": ({}, b"", 2**40, "cut short"),
    "header of 2^63 bytes": ({}, b"", 2**63, "cut short"),
    "not UTF-8": (b"\xff\xfe", b"", None, "not JSON"),
    "not JSON": (b"hello world", b"", None, "not JSON"),
    "a list": (b"[1, 2]", b"", None, "not a JSON object"),
    "deeply nested": (b"[" * 100_000, b"", None, "not JSON"),
    "the same name twice": (TWICE, b"\0" * 8, None, "twice"),
    "entry is a number": ({"a": 3}, b"", None, "not an object"),
    "entry is NaN": (NAN_HEADER, b"", None, "not JSON"),
    "unknown type": ({"a": entry("Q3_K")}, b"\0" * 8, None, "type"),
    "type is a list": ({"a": {**entry(), "dtype": ["F32"]}}, b"\0" * 8, None, "type"),
    "negative size": ({"a": entry(shape=(-2,))}, b"\0" * 8, None, "shape"),
    "shape is true": ({"a": entry(shape=(True,))}, b"\0" * 8, None, "shape"),
    "shape and bytes disagree": ({"a": entry(shape=(3,))}, b"\0" * 8, None, "another number of bytes"),
    "huge shape": ({"a": entry(shape=(2**62, 2**62))}, b"\0" * 8, None, "another number of bytes"),
    "offsets fall": ({"a": entry(start=8, end=0)}, b"\0" * 8, None, "offsets"),
    "hole": ({"a": entry(start=4, end=12)}, b"\0" * 12, None, "leave a hole"),
    "overlap": ({"a": entry(), "b": entry(start=4, end=12)}, b"\0" * 12, None, "overlap"),
    "data cut short": ({"a": entry()}, b"\0" * 5, None, "cut short"),
    "bytes left over": ({"a": entry()}, b"\0" * 20, None, "belong to no tensor"),
    "metadata is not text": ({"__metadata__": {"a": 1}}, b"", None, "metadata"),
    "metadata is a list": ({"__metadata__": []}, b"", None, "metadata"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    header, data, length, words = BAD[name]
    path = raw(tmp_path / "bad.safetensors", header, data, length)
    with pytest.raises(ModelError, match=words) as caught:
        inspect(path, tmp_path / "out")
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400
    assert frames.file_problems(tmp_path / "out") == [sentence]
    assert frames.tensors(tmp_path / "out").empty and frames.denominators(tmp_path / "out").empty


def test_an_empty_and_a_tiny_file_are_too_short(tmp_path: Path) -> None:
    for content in (b"", b"abc"):
        (tmp_path / "m.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="too few"):
            inspect(tmp_path / "m.safetensors", tmp_path / "out")


def test_a_header_over_the_cap_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with open(path, "wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(ModelError, match="at most 16777216"):
        read_header(path)


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch CANARY",)


def test_pickles_are_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    for name in ("model.pt", "renamed.safetensors", "sub/pytorch_model.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bomb)
        with pytest.raises(ModelError, match=r"pickle|cut short"):
            inspect(path if path.parent == tmp_path else path.parent, tmp_path / "out")
    assert not (tmp_path / "CANARY").exists()


def test_pipes_missing_files_and_empty_folders_are_sentences(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("pipe.safetensors", "regular file"),
        ("none", "does not exist"),
        ("folder", "no safetensors"),
    ):
        with pytest.raises(ModelError, match=words):
            inspect(tmp_path / name, tmp_path / "out")


def shards(folder: Path, index: dict[str, str], **files: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    w = np.ones((2, 2), "f4")
    path = shards(
        tmp_path / "m", {"a": "one.safetensors", "b": "two.safetensors"}, one={"a": w}, two={"b": w}
    )
    inspect(path, tmp_path / "out")
    assert frames.tensors(tmp_path / "out")["tensor"].tolist() == ["a", "b"]
    assert frames.file_problems(tmp_path / "out") == []


def test_an_index_may_not_point_outside_its_folder_or_to_nothing(tmp_path: Path) -> None:
    w = {"a": np.ones((2, 2), "f4")}
    save_file(w, tmp_path / "outside.safetensors")
    for bad, words in (
        ("../outside.safetensors", "same folder"),
        ("/etc/passwd", "same folder"),
        ("gone.safetensors", "missing"),
    ):
        with pytest.raises(ModelError, match=words):
            inspect(shards(tmp_path / "m", {"a": bad}), tmp_path / "out")


def test_disagreement_between_index_and_shards_is_told(tmp_path: Path) -> None:
    w = np.ones((2, 2), "f4")
    inspect(
        shards(tmp_path / "m", {"a": "one.safetensors", "lost": "one.safetensors"}, one={"a": w, "new": w}),
        tmp_path / "out",
    )
    first, second = frames.file_problems(tmp_path / "out")
    assert "1 tensors of the index" in first and "'lost'" in first and "not in the index" in second
    both = shards(
        tmp_path / "n", {"a": "one.safetensors", "b": "two.safetensors"}, one={"a": w}, two={"a": w, "b": w}
    )
    with pytest.raises(ModelError, match="two files"):
        inspect(both, tmp_path / "out")


def test_names_of_strangers_are_cleaned_capped_and_kept_apart(tmp_path: Path) -> None:
    names = ["../../x", "<img src=x onerror=1>", "\u202egnp", "n\0ul", "y" * 5000, "y" * 5001]
    header = {n: entry("F32", (1,), 4 * i, 4 * i + 4) for i, n in enumerate(names)}
    inspect(raw(tmp_path / "m.safetensors", header, b"\0" * 24), tmp_path / "out")
    shown = frames.tensors(tmp_path / "out")["tensor"].tolist()
    assert len(set(shown)) == 6 and all(len(n) <= 210 and n.isprintable() for n in shown)
    half = raw(
        tmp_path / "h.safetensors", b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4
    )
    inspect(half, tmp_path / "out")
    assert len(frames.tensors(tmp_path / "out")) == 1


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


def test_distiller_checkpoints_have_the_zeros_their_authors_tell_of(
    checkpoints_dir: Path, tmp_path: Path
) -> None:
    found = {}
    for name in ("dense", "ch_regularized_dense", "4D_regularized_5Lremoved_finetuned"):
        inspect(checkpoints_dir / "distiller_ssl_resnet20" / f"{name}.safetensors", tmp_path / name)
        found[name] = frames.denominators(tmp_path / name).set_index("denominator")["sparsity"][
            "prunable weights"
        ]
    assert found["dense"] == 0
    assert found["ch_regularized_dense"] == pytest.approx(0.089, abs=0.002)
    assert found["4D_regularized_5Lremoved_finetuned"] == pytest.approx(0.068, abs=0.002)
    removed = frames.tensors(tmp_path / "4D_regularized_5Lremoved_finetuned")
    assert (removed[removed["role"] == "conv"]["note"] == "zero throughout").sum() == 5
    channels = frames.tensors(tmp_path / "ch_regularized_dense")
    assert channels["cols_empty"].sum() > 0


def test_every_real_checkpoint_is_read_in_seconds(checkpoints_dir: Path, tmp_path: Path) -> None:
    files = sorted(checkpoints_dir.rglob("*.safetensors"))
    begin = time.process_time()
    for i, file in enumerate(files):
        inspect(file, tmp_path / str(i))
        found = frames.tensors(tmp_path / str(i))
        assert len(found) and found["prunable"].any() and np.isfinite(found["std"][found["prunable"]]).all()
    assert time.process_time() - begin < 30


def test_rows_longer_than_a_chunk_are_counted_alike(tmp_path: Path) -> None:
    w = np.zeros((3, 700_000, 2), "f4")
    w[1, 5:, 1] = 1
    row = one(tmp_path, "F32", w)
    assert (row["rows_empty"], row["cols_empty"], row["zeros"]) == (2, 5, w.size - 699_995)


@pytest.mark.slow
def test_large_bfloat16_files_stream_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    each = 64 * 2**20
    header = {
        f"layer.{i}.fc1.weight": entry("BF16", (4096, 8192), i * each, (i + 1) * each) for i in range(4)
    }
    block = np.random.default_rng(0).integers(0, 2**14, each // 2, dtype=np.uint16).tobytes()
    raw(path, header, block * 4)
    code = (
        "import resource, sys, pathlib, numpy, pyarrow.parquet; from analysis.engine.inspect.worker "
        "import inspect;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "inspect(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]));"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert float(done.stdout) < 64
