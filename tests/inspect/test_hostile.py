"""The table of bad checkpoint files, row by row: a test named after its row says what happens.

A1 to A4 are in test_headers.py (of GGUF in test_gguf.py), A15 to A17 in test_pickles.py, A18 and A19 in
test_config.py, the rest here. A20 is about uploads, not about files.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from analysis import frames
from analysis.engine.inspect import cache, window
from analysis.engine.inspect.files import files_of
from analysis.engine.inspect.header import BITS, read_header
from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.inspect.pair import compare
from analysis.engine.inspect.worker import inspect
from analysis.errors import ModelError
from analysis.parts.select import keep_largest
from analysis.store import arrays, jobs

W = {"a": np.ones((2, 2), "f4")}


def raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"") -> Path:
    """Writes a safetensors file byte by byte, valid or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_every_row_has_a_test() -> None:
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    rows = {row for name in re.findall(r"^def test_((?:a\d\d_)+)", text, re.M) for row in name.split("_")}
    assert rows - {""} == {f"a{row:02d}" for row in range(1, 20)}


def test_a05_names_that_look_alike_when_shown_stay_apart(tmp_path: Path) -> None:
    names = ["../../x", "<img src=x onerror=1>", "\u202egnp", "n\0ul", "y" * 5000, "y" * 5001]
    header = {
        n: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(names)
    }
    inspect(raw(tmp_path / "m.safetensors", header, b"\0" * 24), tmp_path / "out")
    shown = frames.tensors(tmp_path / "out")["tensor"].tolist()
    assert len(set(shown)) == 6 and all(len(n) <= 210 and n.isprintable() for n in shown)
    half = b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    inspect(raw(tmp_path / "h.safetensors", half, b"\0" * 4), tmp_path / "half")
    assert len(frames.tensors(tmp_path / "half")) == 1


def test_a05_names_that_are_no_text_can_be_compared_and_stay_apart(tmp_path: Path) -> None:
    a = {f"\ud800{x}.layers.0.fc1.weight": np.ones((4, 4), "f4") for x in ("x", "y\u202e<b>" + "z" * 300)}
    b = {name: w.copy() for name, w in a.items()}
    for w in b.values():
        w[1] = 0
    for side, model in (("a", a), ("b", b)):
        header = {
            n: {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * i, 64 * i + 64]}
            for i, n in enumerate(model)
        }
        raw(tmp_path / f"{side}.safetensors", header, b"".join(w.tobytes() for w in model.values()))
    compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "out")
    found = frames.lost_units(tmp_path / "out")
    assert found[["total", "lost"]].to_numpy().tolist() == [[4, 1], [4, 1]]
    blocks = arrays.load_table(tmp_path / "out" / "structures.parquet")["block"]
    assert all(len(name) <= 200 and name.isprintable() for name in blocks)


@pytest.mark.parametrize("ending", ["safetensors", pytest.param("pt", marks=pytest.mark.slow)])
def test_a05_a_file_name_that_is_no_text_is_only_a_name(ending: str, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\\xff <b>." + ending.encode()))
    w = torch.arange(4.0).reshape(2, 2)
    if ending == "pt":
        torch.save({"a.weight": w}, path)
    else:
        save_file({"a.weight": w.numpy()}, path)
    inspect(path, tmp_path / "out")
    assert frames.tensors(tmp_path / "out")["zeros"].tolist() == [1]
    window.window(tmp_path / "out", "a.weight", (0, 2, 0, 2), tmp_path / "picture")
    assert frames.window(tmp_path / "picture")["size"].tolist() == [0, 1, 2, 3]
    compare(path, path, tmp_path / "pair")
    assert frames.tensor_pairs(tmp_path / "pair")["equal"].tolist() == [True]
    json.dumps(frames.document(tmp_path / "out")).encode()
    done = cache.begin(path, tmp_path / "runs")  # in a process of its own
    assert jobs.wait(done).state == "done" and len(frames.tensors(done)) == 1
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match="has changed"):
        window.window(tmp_path / "out", "a.weight", (0, 2, 0, 2), tmp_path / "picture")


def test_a05_a_name_of_a_megabyte_is_capped_and_used_as_no_path(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for name in ("x" * 2**20, "../../x", "a\0b", "\u202egnp.", "<script>alert(1)</script>", ""):
        inspect(raw(tmp_path / "m.safetensors", {name: entry}, b"\0" * 4), tmp_path / "out")
        shown = frames.tensors(tmp_path / "out")["tensor"].item()
        assert len(shown) <= 200 and "\0" not in shown and "\u202e" not in shown
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "out"]


@pytest.mark.parametrize("how", ["cut", "replaced"])
def test_a06_a_file_that_changes_while_it_is_open_is_a_sentence(how: str, tmp_path: Path) -> None:
    size = 2**28
    entry = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
    path = raw(tmp_path / "m.safetensors", {"a": entry})
    os.truncate(path, path.stat().st_size + size)
    command = [sys.executable, "-m", "analysis.engine.inspect.worker", str(path), str(tmp_path / "out")]
    root = Path(__file__).parents[2]
    reader = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out").exists() and reader.poll() is None:
        time.sleep(0.001)
    time.sleep(0.01)  # the folder is made first, then the header is read
    reader.send_signal(signal.SIGSTOP)
    if how == "cut":
        os.truncate(path, 1000)
    else:
        other = raw(tmp_path / "other", {"a": entry})
        os.truncate(other, path.stat().st_size)
        os.replace(other, path)
    reader.send_signal(signal.SIGCONT)
    _, sentence = reader.communicate(timeout=60)
    assert reader.returncode == 2, sentence
    assert re.search("became shorter|changed while|cut short", sentence) and sentence.count("\n") == 1
    assert jobs.read(tmp_path / "out").reason == sentence.strip()


@pytest.mark.parametrize("dtype", ["F32", "F16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1.5, 6e-8])
def test_a07_one_value_throughout_is_counted_as_what_it_is(value: float, dtype: str, tmp_path: Path) -> None:
    kind = np.dtype({"F32": "f4", "F16": "f2"}[dtype])
    save_file({"a": np.full((4, 8), value, kind)}, tmp_path / "m.safetensors")
    inspect(tmp_path / "m.safetensors", tmp_path / "out")
    row = frames.tensors(tmp_path / "out").iloc[0]
    finite = bool(np.isfinite(value))
    assert row["nonfinite"] == (0 if finite else 32) and row["zeros"] == (32 if value == 0 else 0)
    if finite:
        assert row["min"] == row["max"] == float(kind.type(value))
    else:
        assert np.isnan(row["min"]) and np.isnan(row["mean"]) and np.isnan(row["q50"])


def test_a08_equal_scores_keep_exactly_as_many_as_asked_the_first_ones() -> None:
    for k in (0, 1, 7, 12):
        (kept,) = keep_largest([torch.zeros(12)], k)
        assert kept.tolist() == [True] * k + [False] * (12 - k)


@pytest.mark.parametrize("dtype", BITS)
def test_a09_every_type_is_listed(dtype: str, tmp_path: Path) -> None:
    size = BITS[dtype]
    entry = {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, size]}
    path = raw(tmp_path / "m.safetensors", {"layer.0.query.weight": entry}, b"\1" * size)
    (found,) = open_checkpoint(path, tmp_path).entries
    assert (found.dtype, found.shape, found.size) == (dtype, (2, 4), size)
    inspect(path, tmp_path / "out")
    row = frames.tensors(tmp_path / "out").iloc[0]
    assert (row["dtype"], row["shape"], row["bytes"]) == (dtype, "2 × 4", size)


@pytest.mark.parametrize("name", ["qweight", "qzeros", "scales", "g_idx", "weight.absmax", "SCB"])
def test_a10_quantised_codes_are_no_weights(name: str, tmp_path: Path) -> None:
    kind = "f4" if name in ("scales", "SCB") else "i4"
    save_file({f"model.layers.0.mlp.down_proj.{name}": np.ones((4, 4), kind)}, tmp_path / "m.safetensors")
    inspect(tmp_path / "m.safetensors", tmp_path / "out")
    row = frames.tensors(tmp_path / "out").iloc[0]
    assert row["role"] == "quantised" and not row["prunable"] and "quantised codes" in row["note"]


def test_a11_shapes_of_every_kind_are_listed(tmp_path: Path) -> None:
    shapes = [(), (0,), (0, 7), (1, 9), (2, 3, 1, 1, 2), (1,) * 16]
    save_file({f"t{i}": np.ones(shape, "f4") for i, shape in enumerate(shapes)}, tmp_path / "m.safetensors")
    found = open_checkpoint(tmp_path / "m.safetensors", tmp_path).entries
    assert sorted(e.shape for e in found) == sorted(shapes)
    inspect(tmp_path / "m.safetensors", tmp_path / "out")
    entry = {"dtype": "F32", "shape": [1] * 17, "data_offsets": [0, 4]}
    with pytest.raises(ModelError, match="at most 16"):
        read_header(raw(tmp_path / "n.safetensors", {"a": entry}, b"\0" * 4))


def shards(folder: Path, index: Any, *names: str, suffix: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        save_file({"abcdef"[i]: np.ones((2, 2), "f4")}, folder / name)
    (folder / f"{suffix}.index.json").write_text(json.dumps(index))
    return folder


def test_a12_disagreement_between_index_and_shards_is_told(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "2.safetensors", "lost": "1.safetensors"}}
    found = open_checkpoint(shards(tmp_path / "m", index, "1.safetensors", "2.safetensors"), tmp_path)
    lost, extra, moved = found.problems
    assert "1 tensors of the index" in lost and "'lost'" in lost
    assert "not in the index" in extra and "'b'" in extra and "another file" in moved
    for name in ("1.safetensors", "2.safetensors"):
        save_file(W, tmp_path / "m" / name)
    with pytest.raises(ModelError, match="stand in two files"):
        open_checkpoint(tmp_path / "m", tmp_path)


def test_a12_a_missing_extra_or_damaged_shard_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "x": "3.safetensors"}}
    folder = shards(tmp_path / "m", index, "1.safetensors")
    with pytest.raises(ModelError, match=r"2 of 3 files .* missing \(2.safetensors, 3.safetensors\)"):
        open_checkpoint(folder, tmp_path)
    index["weight_map"].pop("x")
    folder = shards(tmp_path / "m", index, "1.safetensors", "2.safetensors", "9.safetensors")
    found = open_checkpoint(folder, tmp_path)
    assert found.format == "safetensors, 2 shards" and len(found.entries) == 2
    assert found.problems == ("1 files are not in the index and are not read, first '9.safetensors'.",)
    for length, words in ((-3, "cut short"), (3, "belong to no tensor")):
        good = (folder / "2.safetensors").read_bytes()
        (folder / "2.safetensors").write_bytes(good[:length] if length < 0 else good + b"\0" * length)
        with pytest.raises(ModelError, match=rf"'2.safetensors'.*{words}"):
            open_checkpoint(folder, tmp_path)
        (folder / "2.safetensors").write_bytes(good)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "..\\out", "a/b", "C:\\x", "\0", "", ".", "..", "a\u202e", "x" * 5000]
)
def test_a13_an_index_names_files_of_its_folder_only(name: str, kind: str, tmp_path: Path) -> None:
    ending = kind[kind.rindex(".") :]
    for told in (name, name + ending):
        folder = shards(tmp_path / "m", {"weight_map": {"a": told}}, suffix=kind)
        with pytest.raises(ModelError, match=r"same folder|are missing|cannot be followed") as caught:
            files_of(folder)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "index",
    [{}, [], {"weight_map": {}}, {"weight_map": {"a": 3}}, {"weight_map": "x"}, {"weight_map": ["a"]}],
)
def test_a13_an_index_without_a_map_is_refused(index: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weight_map|not a JSON object"):
        files_of(shards(tmp_path / "m", index))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model folder, beside a file outside it and a hub cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "hf" / "hub" / "blobs").mkdir(parents=True)
    save_file(W, tmp_path / "hf" / "hub" / "blobs" / "0123abcd")
    save_file(W, tmp_path / "outside.safetensors")
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors", "pytorch_model.bin", "m.gguf"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("outside", "outside its folder .* open the target itself"),
        ("loop", "cannot be followed"),
        ("nothing", "cannot be followed"),
        ("pipe", "not a regular file"),
        ("device", "not a regular file"),
        ("folder", "not a regular file"),
    ],
)
def test_a14_what_is_no_file_of_the_folder_is_not_opened(
    name: str, kind: str, words: str, folder: Path, tmp_path: Path
) -> None:
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {
            "outside": "../outside.safetensors",
            "loop": name,
            "nothing": "gone",
            "device": "/dev/zero",
        }
        path.symlink_to(targets[kind])
    with pytest.raises(ModelError, match=words) as caught:
        open_checkpoint(folder, tmp_path)
    assert "\n" not in str(caught.value)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    if name == "other.safetensors":
        with pytest.raises(ModelError, match=words):
            open_checkpoint(folder, tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["safetensors", "pt", "gguf"])
def test_a14_a_path_that_is_no_file_is_a_sentence(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"loop.{suffix}").symlink_to(f"loop.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"dir.{suffix}").mkdir()
    for name, words in (
        ("pipe", "regular"),
        ("loop", "cannot be opened"),
        ("zero", "regular"),
        ("dir", "no safetensors"),
        ("gone", "does not exist"),
        ("x" * 300, "cannot be opened"),
        ("a\0b", "cannot be opened"),
    ):
        with pytest.raises(ModelError, match=words):
            open_checkpoint(tmp_path / f"{name}.{suffix}", tmp_path)


def test_a14_links_within_the_folder_and_into_the_hub_cache_are_followed(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "model.safetensors").symlink_to(tmp_path / "hf" / "hub" / "blobs" / "0123abcd")
    assert len(open_checkpoint(folder, tmp_path).entries) == 1
    (folder / "model.safetensors").unlink()
    save_file(W, folder / "real.safetensors")
    (folder / "model.safetensors").symlink_to("real.safetensors")
    assert len(open_checkpoint(folder, tmp_path).entries) == 1
    # What the person typed may be a link: that one was asked for.
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "link.safetensors").symlink_to("outside.safetensors")
    for path in (
        tmp_path / "link",
        tmp_path / "link.safetensors",
        tmp_path / "hf" / "hub" / "blobs" / "0123abcd",
    ):
        assert len(open_checkpoint(path, tmp_path).entries) == 1


def test_a14_other_files_of_the_folder_are_held_to_the_same(folder: Path, tmp_path: Path) -> None:
    save_file(W, folder / "model.safetensors")
    (tmp_path / "secret.json").write_text('{"password": "1234"}')
    (folder / "config.json").symlink_to("../secret.json")
    found = open_checkpoint(folder, tmp_path)
    assert found.config == {} and "outside its folder" in found.problems[0]
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").symlink_to("../secret.json")
    with pytest.raises(ModelError, match="outside its folder") as caught:
        open_checkpoint(folder, tmp_path)
    assert "1234" not in str(caught.value)
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.json").write_text("{}")
    (run / "model").symlink_to(tmp_path / "hf" / "..")
    with pytest.raises(ModelError, match="outside the run"):
        open_checkpoint(run, tmp_path)


def test_folders_are_opened_by_the_names_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "notes.txt"):
        (folder / name).write_bytes(b"")
    with pytest.raises(ModelError, match="holds no safetensors, PyTorch or GGUF file"):
        files_of(folder)
    for name in ("only.gguf", "pytorch_model.bin", "some.safetensors", "model.safetensors"):
        (folder / name).write_bytes(b"")
        assert files_of(folder) == ([folder / name], {})
    (folder / "model.safetensors").rename(folder / "more.safetensors")
    with pytest.raises(ModelError, match="holds 2 files of weights"):
        files_of(folder)
