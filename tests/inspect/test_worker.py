"""The inspection as a whole: two processes, parts that survive a kill, cancel, files that change, ties."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import frames
from analysis.engine.inspect import cache, parts, reading, stream
from analysis.engine.inspect.header import Entry
from analysis.engine.inspect.layouts import tensors
from analysis.engine.inspect.worker import inspect
from analysis.errors import ModelError, RunError
from analysis.store import jobs, layout
from tests.inspect import made


def several(path: Path, count: int = 6, rows: int = 256, cols: int = 512) -> Path:
    rng = np.random.default_rng(0)
    w = [rng.normal(size=(rows, cols)) * (rng.random((rows, cols)) > i / count) for i in range(count)]
    return made.write(
        path, {f"layers.{i}.mlp.up_proj.weight": made.floats("BF16", m) for i, m in enumerate(w)}
    )


def test_two_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = several(tmp_path / "m.safetensors")
    inspect(path, tmp_path / "one")
    monkeypatch.setattr(stream, "SMALL", 0)
    monkeypatch.setattr(stream, "TOGETHER", 1 << 17)
    monkeypatch.setattr(reading, "SPAN", 1 << 15)
    inspect(path, tmp_path / "two")
    one, two = frames.tensors(tmp_path / "one"), frames.tensors(tmp_path / "two")
    assert one.equals(two) and one["zeros"].notna().all()


def test_what_is_there_is_used_again_and_a_changed_file_is_another(tmp_path: Path) -> None:
    path = several(tmp_path / "m.safetensors", 2)
    first = cache.place(path, tmp_path)
    assert cache.place(path, tmp_path) == first
    os.utime(path, ns=(1, 1))
    assert cache.place(path, tmp_path) != first
    several(path, 3)
    os.utime(path, ns=(1, 1))
    assert cache.place(path, tmp_path) not in (first,)


def test_another_file_in_the_same_folder_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    inspect(several(tmp_path / "a.safetensors", 6), tmp_path / "out")
    inspect(several(tmp_path / "b.safetensors", 2), tmp_path / "out")
    assert len(frames.tensors(tmp_path / "out")) == 2


KILLED = (
    "import sys; from pathlib import Path\n"
    "from analysis.engine.inspect import parts, stream, worker\n"
    "parts.EVERY = 0\n"
    "stream.TOGETHER = 1\n"
    "read = worker._read\n"
    "def slow(group):\n"
    "    import time; time.sleep(.15); return read(group)\n"
    "worker._read = slow\n"
    "worker.inspect(Path(sys.argv[1]), Path(sys.argv[2]))\n"
)


def start(path: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(out)], cwd=layout.ROOT)


def test_a_killed_inspection_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = several(tmp_path / "m.safetensors"), tmp_path / "out"
    process = start(path, out)
    while len(list((out / "parts").glob("*.npz"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert jobs.read(out).state == "crashed"
    halfway = frames.tensors(out)
    assert len(halfway) == 6 and 2 <= halfway["zeros"].notna().sum() < 6
    assert halfway["note"].eq("not read yet").any()
    (out / "parts" / "000001.npz").write_bytes(b"torn")  # as a disk that was full would leave it
    wanted = sorted(set(range(6)) - parts.Parts.load(out / "parts").numbers)
    assert 1 in wanted and 0 not in wanted
    seen: list[int] = []
    add = parts.Parts.add

    def noted(self: parts.Parts, number: int, *rest: object) -> None:
        seen.append(number)
        add(self, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(parts.Parts, "add", noted)
    inspect(path, out)
    assert seen == wanted
    inspect(path, tmp_path / "straight")
    assert frames.tensors(out).equals(frames.tensors(tmp_path / "straight"))
    assert jobs.read(out).state == "done" and frames.inspection(out)["done"]


def test_an_inspection_can_be_cancelled_and_keeps_what_it_has(tmp_path: Path) -> None:
    path, out = several(tmp_path / "m.safetensors"), tmp_path / "out"
    process = start(path, out)
    while not list((out / "parts").glob("*.npz")):
        time.sleep(0.01)
    jobs.cancel(out)
    assert process.wait(20) == 0 and jobs.read(out).state == "cancelled"
    assert 1 <= frames.tensors(out)["zeros"].notna().sum() < 6
    inspect(path, out)
    assert frames.tensors(out)["zeros"].notna().all()


@pytest.mark.slow
def test_a_process_that_reads_dies_with_its_parent(tmp_path: Path) -> None:
    code = KILLED.replace("parts.EVERY", "stream.SMALL = 0\nparts.EVERY").replace("sleep(.15)", "sleep(5)")
    path = several(tmp_path / "m.safetensors")
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(tmp_path / "o")], cwd=layout.ROOT)
    children: list[int] = []
    end = time.monotonic() + 20
    while len(children) < 2 and time.monotonic() < end:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children = [int(n) for n in listed.read_text().split()] if listed.exists() else []
        time.sleep(0.02)
    assert len(children) == 2
    process.kill()
    process.wait()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [c for c in children if Path(f"/proc/{c}").exists()]


def test_a_file_that_changes_while_it_is_read_is_a_sentence(tmp_path: Path) -> None:
    path, out = several(tmp_path / "m.safetensors"), tmp_path / "out"
    process = start(path, out)
    while not list((out / "parts").glob("*.npz")):
        time.sleep(0.01)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert process.wait(20) == 1  # the sentence left the process as an exception
    note = jobs.read(out)
    assert note.state == "failed" and ("became shorter" in note.reason or "changed" in note.reason)


def test_tensors_that_are_the_same_are_counted_once(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(30, 8))
    other = w.copy()
    other[3, 3], other[4, 4] = w[4, 4], w[3, 3]  # the same values in other places
    tensors = {"wte.weight": w, "lm_head.weight": w, "score.weight": other, "ln_a.weight": np.ones(8)}
    tensors |= {"ln_b.weight": np.ones(8), "a.weight": np.zeros((4, 4)), "b.weight": np.zeros((4, 4))}
    path = made.write(tmp_path / "m.safetensors", {k: made.floats("F32", v) for k, v in tensors.items()})
    inspect(path, tmp_path / "out")
    found = frames.tensors(tmp_path / "out").set_index("tensor")
    assert (
        found["tied_to"].to_dict()["lm_head.weight"] == "wte.weight" and (found["tied_to"] != "").sum() == 1
    )
    total = frames.denominators(tmp_path / "out").set_index("denominator").loc["whole model", "total"]
    assert total == 240 + 240 + 16 + 32
    assert any("counted once: lm_head" in s for s in frames.findings(tmp_path / "out")["sentence"])


def test_the_config_beside_it_says_how_many_heads_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = {n: rng.normal(size=(16, 16)) for n in ("q_proj", "k_proj", "v_proj", "o_proj")}
    w["k_proj"], w["v_proj"] = w["k_proj"][:8], w["v_proj"][:8]
    w["v_proj"][4:8] = 0  # one of two value heads, read by two of four query heads
    w["o_proj"][:, :4] = 0  # the first of four heads
    w["q_proj"][4:8] = 0
    tensors = {f"model.layers.0.self_attn.{n}.weight": made.floats("F32", v) for n, v in w.items()}
    made.write(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4, "num_key_value_heads": 2}))
    inspect(tmp_path, tmp_path / "out")
    found = frames.tensors(tmp_path / "out")
    assert found["heads_empty"].tolist() == [1, 0, 1, 1]
    assert frames.units(tmp_path / "out").to_dict("records") == [
        {"layer": 0, "label": "0", "kind": "heads", "units": 4, "empty": 3}
    ]
    assert any("3 of 4 heads already empty" in s for s in frames.findings(tmp_path / "out")["sentence"])


def test_neurons_are_empty_by_their_row_in_or_their_column_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    into, out = rng.normal(size=(12, 4)), rng.normal(size=(4, 12))
    into[[0, 1]], out[:, [1, 5]] = 0, 0
    bert = {"encoder.layer.0.intermediate.dense.weight": into, "encoder.layer.0.output.dense.weight": out}
    gpt = {"h.0.mlp.c_fc.weight": into.T, "h.0.mlp.c_proj.weight": out.T}
    for number, model in enumerate((bert, gpt)):
        path = made.write(
            tmp_path / f"{number}.safetensors", {k: made.floats("F32", v) for k, v in model.items()}
        )
        inspect(path, tmp_path / str(number))
        found = frames.units(tmp_path / str(number))
        assert found[["kind", "units", "empty"]].to_numpy().tolist() == [["neurons", 12, 3]]


GPT = {"attn.c_attn": (6, 2), "attn.c_proj": (2, 2), "mlp.c_fc": (8, 2), "mlp.c_proj": (2, 8)}  # as Linear


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("told_by", ["all", "bias", "attn.c_attn", "mlp.c_fc", "mlp.c_proj"])
def test_the_names_of_gpt_2_are_stored_in_either_way(turned: bool, told_by: str) -> None:
    shapes = {f"h.0.{n}.weight": s[::-1] if turned else s for n, s in GPT.items()}
    if told_by == "bias":  # pruned to two neurons and one head: only the biases tell
        shapes = {"h.0.mlp.c_fc.weight": (3, 2) if turned else (2, 3), "h.0.mlp.c_fc.bias": (2,)}
        shapes |= {"h.0.attn.c_proj.weight": (2, 2), "h.0.attn.c_proj.bias": (2,)}
    elif told_by != "all":
        shapes = {f"h.0.{n}.weight": shapes[f"h.0.{n}.weight"] for n in ("attn.c_proj", told_by)}
    found = tensors([Entry(n, "F32", s, Path("x"), 0, 0) for n, s in shapes.items()], {"n_head": 2})
    assert {t.transposed for t in found if t.name.endswith("weight")} == {turned}
    assert {t.head_axis for t in found if t.heads} == {int(not turned)}


def test_where_nothing_tells_the_names_of_gpt_2_mean_gpt_2() -> None:
    names = ("h.0.attn.c_proj.weight", "h.0.attn.out_proj.weight", "h.1.mlp.c_fc.weight")
    found = tensors([Entry(n, "F32", (4, 4), Path("x"), 0, 0) for n in names], {})
    assert [t.transposed for t in found] == [True, False, True]


@pytest.mark.parametrize("turned", [True, False])
def test_heads_and_neurons_of_either_way_are_counted_alike(turned: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = {f"h.0.{n}.weight": rng.normal(size=[8 * side for side in s]) for n, s in GPT.items()}
    w["h.0.attn.c_proj.weight"][:, :8] = 0  # the first of two heads
    w["h.0.mlp.c_fc.weight"][[5, 6]], w["h.0.mlp.c_proj.weight"][:, 6:8] = 0, 0
    stored = {name: made.floats("F32", m.T if turned else m) for name, m in w.items()}
    made.write(tmp_path / "model.safetensors", stored)
    (tmp_path / "config.json").write_text('{"n_head": 2}')
    inspect(tmp_path, tmp_path / "out")
    assert frames.tensors(tmp_path / "out")["transposed"].tolist() == [turned] * 4
    found = frames.units(tmp_path / "out")[["kind", "units", "empty"]].to_numpy().tolist()
    assert found == [["heads", 2, 1], ["neurons", 64, 3]]


def test_heads_of_self_and_of_cross_attention_are_different_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bart, bert, t5 = "decoder.layers.0.{}.{}", "decoder.layer.0.{}.{}", "decoder.block.0.layer.{}.{}"
    families = (
        (bart, ("self_attn", "encoder_attn"), ("v_proj", "out_proj")),
        (bert, ("attention", "crossattention"), ("self.value", "output.dense")),
        (t5, ("0.SelfAttention", "1.EncDecAttention"), ("v", "o")),
    )
    for number, (form, owners, (value, output)) in enumerate(families):
        w = {
            form.format(o, n) + ".weight": rng.normal(size=(16, 16)) for o in owners for n in (value, output)
        }
        w[form.format(owners[0], value) + ".weight"][:4] = 0
        w[form.format(owners[0], output) + ".weight"][:, :4] = 0  # the same head again
        w[form.format(owners[1], value) + ".weight"][4:12] = 0
        folder = tmp_path / str(number)
        folder.mkdir()
        made.write(folder / "model.safetensors", {k: made.floats("F32", v) for k, v in w.items()})
        (folder / "config.json").write_text('{"num_attention_heads": 4}')
        inspect(folder, folder / "out")
        found = frames.units(folder / "out")
        assert found[["kind", "units", "empty"]].to_numpy().tolist() == [["heads", 8, 3]]


def test_a_gated_neuron_with_a_bias_is_not_empty_by_its_rows(tmp_path: Path) -> None:
    from analysis.engine.compact import dead_neurons

    torch.manual_seed(0)
    for biased in ((), ("up_proj",), ("gate_proj", "up_proj"), ("down_proj",)):
        sizes = {"gate_proj": (4, 12), "up_proj": (4, 12), "down_proj": (12, 4)}
        layers = {n: torch.nn.Linear(*s, bias=n in biased) for n, s in sizes.items()}
        with torch.no_grad():
            layers["gate_proj"].weight[:2] = 0
            layers["up_proj"].weight[1:4] = 0
            layers["down_proj"].weight[:, [3, 9]] = 0
        dead, _ = dead_neurons([layers["gate_proj"], layers["up_proj"]], layers["down_proj"], torch.nn.SiLU())
        state = {f"layers.0.mlp.{n}.{k}": v for n, m in layers.items() for k, v in m.state_dict().items()}
        made.write(tmp_path / "m.safetensors", {k: made.floats("F32", v.numpy()) for k, v in state.items()})
        inspect(tmp_path / "m.safetensors", tmp_path / "out")
        assert frames.units(tmp_path / "out")["empty"].tolist() == [int(dead.sum())], biased


def test_neurons_of_experts_are_added_up(tmp_path: Path) -> None:
    w = {f"layers.0.experts.{i}.{n}.weight": np.ones((6, 6)) for i in (0, 1) for n in ("w1", "w2", "w3")}
    w["layers.0.experts.0.w1.weight"][0] = w["layers.0.experts.1.w2.weight"][:, 1:3] = 0
    path = made.write(tmp_path / "m.safetensors", {k: made.floats("F32", v) for k, v in w.items()})
    inspect(path, tmp_path / "out")
    assert frames.units(tmp_path / "out")[["units", "empty"]].to_numpy().tolist() == [[12, 3]]


def test_a_process_that_died_is_not_started_again_by_itself(tmp_path: Path) -> None:
    path = several(tmp_path / "m.safetensors", 1)
    out = cache.begin(path, tmp_path / "runs")
    jobs.wait(out)
    note = json.loads((out / jobs.NOTE).read_text())
    (out / jobs.NOTE).write_text(json.dumps(note | {"state": "working"}))
    assert jobs.read(cache.begin(path, tmp_path / "runs")).state == "crashed"
    cache.begin(path, tmp_path / "runs", again=True)
    assert jobs.wait(out).state == "done"


def test_a_path_from_where_one_stands_is_opened_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(tmp_path / "here.safetensors", 1)
    monkeypatch.chdir(tmp_path)
    out = cache.begin(Path("here.safetensors"), tmp_path / "runs")
    assert jobs.wait(out).state == "done"


def test_a_large_index_is_left_to_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    several(folder / "model-00001-of-00001.safetensors", 2)
    names = {f"layers.{i}.mlp.up_proj.weight": "model-00001-of-00001.safetensors" for i in range(2)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    small = cache.weights(folder)
    cache._weights.cache_clear()
    monkeypatch.setattr(cache, "SMALL_INDEX", 10)
    monkeypatch.setattr(cache, "files_of", None)  # nothing is parsed here
    assert cache.weights(folder) == small
    monkeypatch.undo()
    cache._weights.cache_clear()
    monkeypatch.setattr(cache, "SMALL_INDEX", 10)
    assert jobs.wait(cache.begin(folder, tmp_path / "runs")).state == "done"


def test_where_nothing_can_be_written_is_a_sentence(tmp_path: Path) -> None:
    path = several(tmp_path / "m.safetensors", 1)
    (tmp_path / cache.FOLDER).write_text("in the way")
    with pytest.raises(RunError, match="No work can be started"):
        cache.begin(path, tmp_path)


def test_hundreds_of_small_tensors_take_little_memory(tmp_path: Path) -> None:
    one = np.ones(1, dtype="<f4")
    path = made.write(tmp_path / "m.safetensors", {f"t{i}": ("F32", (1,), one) for i in range(1500)})
    code = (
        "import resource, sys; from pathlib import Path; import pandas, pyarrow.parquet\n"
        "from analysis.engine.inspect.worker import inspect\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "inspect(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=layout.ROOT)
    assert float(done.stdout) < 64 and len(frames.tensors(tmp_path / "out")) == 1500


def test_a_cache_that_is_full_loses_its_oldest(tmp_path: Path) -> None:
    for i in range(cache.KEPT + 3):
        folder = tmp_path / cache.FOLDER / f"{i:03d}"
        folder.mkdir(parents=True)
        os.utime(folder, (i, i))
    cache.sweep(tmp_path)
    left = sorted(f.name for f in (tmp_path / cache.FOLDER).iterdir())
    assert len(left) == cache.KEPT and left[0] == "003"


def test_a_cache_that_is_large_loses_its_oldest_but_not_its_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LARGEST", 25)
    for i in range(4):
        folder = tmp_path / cache.FOLDER / str(i)
        folder.mkdir(parents=True)
        (folder / "copy").write_bytes(b"x" * 10)
        os.utime(folder, (i, i))
    cache.sweep(tmp_path)
    assert sorted(f.name for f in (tmp_path / cache.FOLDER).iterdir()) == ["2", "3"]
    monkeypatch.setattr(cache, "LARGEST", 5)
    cache.sweep(tmp_path)
    assert [f.name for f in (tmp_path / cache.FOLDER).iterdir()] == ["3"]


def test_an_unreadable_file_fails_with_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"abc")
    with pytest.raises(ModelError, match="too few"):
        inspect(tmp_path / "m.safetensors", tmp_path / "out")
    assert "too few" in frames.file_problems(tmp_path / "out")[0]


@pytest.mark.slow
def test_the_benchmark_runs_and_memory_does_not_grow_with_the_file() -> None:
    command = [
        sys.executable,
        "benchmarks/inspect_speed.py",
        "--gigabytes",
        "0.1",
        "--large",
        "0.6",
        "--json",
    ]
    done = subprocess.run(command, cwd=layout.ROOT, capture_output=True, text=True, check=True, timeout=280)
    rows = json.loads(done.stdout)
    assert all(row["ratio_to_touch"] > 0 for row in rows if "touch_GB_per_s" in row)
    assert [row["above_MB"] < 64 for row in rows if "above_MB" in row] == [True, True]
