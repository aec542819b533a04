from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import RunError
from analysis.store import layout, locks, runs
from analysis.store.locks import RunLock

CREATOR = """
import json, sys
from pathlib import Path
from analysis.store import runs
spec = json.loads(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([runs.create_run(Path(sys.argv[1]), spec) for _ in range(int(sys.argv[3]))]))
"""


def test_a_new_run_waits_and_says_what_it_will_do(made: Any) -> None:
    run_id = runs.create_run(
        made.folder, made.spec("soft_movement", name="größer & kleiner", seed=3, steps=77)
    )
    info = runs.read_run(made.folder / run_id)
    assert info.state == "queued"
    assert (info.recipe, info.model, info.task) == ("soft_movement", "bundled:text", "bundled:opinions")
    assert (info.keep, info.seed, info.steps, info.attempt) == (0.1, 3, 77, 1)
    assert info.name == "größer & kleiner"
    assert run_id.startswith("soft-movement-")
    assert layout.is_id(run_id)
    assert not info.recorded
    assert not info.over


@pytest.mark.parametrize("recipe", ["", "../../x", "A" * 300, "ünï cödé", "a/b"])
def test_whatever_a_recipe_is_called_the_id_is_a_safe_name(runs_dir: Path, recipe: str) -> None:
    run_id = runs.create_run(runs_dir, {"recipe": recipe})
    assert layout.is_id(run_id)
    assert (runs_dir / run_id).is_dir()


def test_six_processes_creating_runs_at_once_never_share_an_id(made: Any) -> None:
    spec, each = json.dumps(made.spec()), 10
    processes = [
        subprocess.Popen([sys.executable, "-c", CREATOR, str(made.folder), spec, str(each)], cwd=layout.ROOT,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = [process.communicate("go\n", timeout=60)[0] for process in processes]
    ids = [run_id for answer in answers for run_id in json.loads(answer)]
    assert len(ids) == len(set(ids)) == 6 * each
    listed = runs.list_runs(made.folder, recorded=False)
    assert {run.id for run in listed} == set(ids)
    assert {run.state for run in listed} == {"queued"}
    assert not [name for name in os.listdir(made.folder) if name.startswith(".")]


def test_an_id_that_is_taken_is_not_used_again(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaaaa", "aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(runs.secrets, "token_hex", lambda n: next(drawn) if n == 3 else os.urandom(n).hex())
    assert runs.create_run(made.folder, made.spec()) == "movement-aaaaaa"
    assert runs.create_run(made.folder, made.spec()) == "movement-bbbbbb"


@pytest.mark.parametrize("state", ["queued", "done", "failed", "stopped", "diverged"])
def test_a_state_on_file_is_believed_when_it_needs_no_living_worker(made: Any, state: str) -> None:
    info = runs.read_run(made.run(state, reason="why"))
    assert (info.state, info.reason) == (state, "why")
    assert info.over is (state != "queued")


def test_running_is_true_only_while_the_lock_is_held(made: Any) -> None:
    path = made.run("running", **locks.identity())
    assert runs.read_run(path).state == "crashed"
    lock = RunLock(path / runs.LOCK)
    assert lock.acquire()
    assert runs.read_run(path).state == "running"
    lock.release()
    crashed = runs.read_run(path)
    assert crashed.state == "crashed"
    assert "resume" in crashed.reason
    assert crashed.over


def test_a_process_number_of_somebody_else_does_not_make_a_run_alive(made: Any) -> None:
    assert (
        runs.read_run(made.run("running", pid=os.getpid(), pid_start=1, boot_id="before")).state == "crashed"
    )


def test_a_worker_that_ends_between_two_looks_is_not_called_dead(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.run("running")

    def ends_now(lock: Path) -> bool:
        runs.set_state(path, state="done")
        return False

    monkeypatch.setattr(runs.locks, "held", ends_now)
    assert runs.read_run(path).state == "done"


def broken(path: Path) -> dict[str, Any]:
    """Ways to spoil a run's folder, by the word its reason must hold."""
    spec = json.loads((path / "spec.json").read_text())
    state = json.loads((path / "state.json").read_text())

    def put(name: str, value: object) -> None:
        (path / name).write_text(value if isinstance(value, str) else json.dumps(value))

    return {
        "state.json is missing": lambda: (path / "state.json").unlink(),
        "spec.json is missing": lambda: (path / "spec.json").unlink(),
        "state.json holds no valid JSON": lambda: put("state.json", '{"state": "do'),
        "spec.json holds no valid JSON": lambda: (path / "spec.json").write_bytes(b"\xff\xfe\x00"),
        "state.json holds list": lambda: put("state.json", []),
        "spec.json holds NoneType": lambda: put("spec.json", "null"),
        "known are": lambda: put("state.json", {**state, "state": "<b>flying</b>"}),
        "newer version": lambda: put("spec.json", {**spec, "schema_version": 99}),
        "could not convert": lambda: put("spec.json", {**spec, "keep": "a lot"}),
        "cannot be opened": lambda: ((path / "state.json").unlink(), (path / "state.json").mkdir()),
        "nested": lambda: put("spec.json", "[" * 100_000),
    }


@pytest.mark.parametrize("why", [
    "state.json is missing", "spec.json is missing", "state.json holds no valid JSON",
    "spec.json holds no valid JSON", "state.json holds list", "spec.json holds NoneType",
    "known are", "newer version", "could not convert", "cannot be opened", "nested",
])  # fmt: skip
def test_a_spoilt_folder_is_listed_as_unreadable_with_the_reason(made: Any, why: str) -> None:
    good, path = made.run("done"), made.run("done")
    broken(path)[why]()
    listed = {run.id: run for run in runs.list_runs(made.folder, recorded=False)}
    assert listed[good.name].state == "done"
    assert listed[path.name].state == "unreadable"
    assert why in listed[path.name].reason
    assert "\n" not in listed[path.name].reason
    assert runs.find_run(made.folder, path.name).state == "unreadable"


def test_foreign_things_in_the_runs_folder_hurt_nobody(made: Any) -> None:
    made.run("done")
    (made.folder / "notes.txt").write_text("mine")
    (made.folder / ".hidden").mkdir()
    (made.folder / "My Folder").mkdir()
    (made.folder / "empty").mkdir()
    states = {run.id: run.state for run in runs.list_runs(made.folder, recorded=False)}
    assert sorted(states.values()) == ["done", "unreadable", "unreadable"]
    assert states["My Folder"] == "unreadable"


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    assert runs.list_runs(tmp_path / "none", recorded=False) == []


def test_runs_are_listed_newest_first_and_all_three_hundred_of_them(made: Any) -> None:
    first = made.run("done")
    ids = [f"movement-{number:06d}" for number in range(299)]
    for number, run_id in enumerate(ids):
        shutil.copytree(first, made.folder / run_id)
        state = {
            **layout.read_json(first / "state.json"),
            "created": f"2999-01-01T00:{number // 60:02d}:{number % 60:02d}",
        }
        (made.folder / run_id / "state.json").write_text(json.dumps(state))
    assert [run.id for run in runs.list_runs(made.folder, recorded=False)] == [*ids[::-1], first.name]


def test_a_run_is_found_among_the_recorded_ones_too(
    made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded = tmp_path / "recorded"
    path = recorded / runs.create_run(recorded, made.spec())
    runs.set_state(path, state="done")
    monkeypatch.setattr(runs, "RECORDED", recorded)
    info = runs.find_run(made.folder, path.name)
    assert info.recorded
    assert [run.id for run in runs.list_runs(made.folder)] == [path.name]
    assert runs.list_runs(made.folder, recorded=False) == []
    assert len(runs.list_runs(recorded)) == 1


@pytest.mark.parametrize("run_id", ["../../etc", "movement-000000"])
def test_a_run_that_does_not_exist_is_one_sentence(made: Any, run_id: str) -> None:
    with pytest.raises(RunError, match="analysis list"):
        runs.find_run(made.folder, run_id)


def test_unknown_numbers_are_nan_and_a_changed_state_keeps_the_rest(made: Any) -> None:
    path = made.folder / runs.create_run(made.folder, {"recipe": "x"})
    assert math.isnan(runs.read_run(path).keep)
    runs.set_state(path, {"state": "failed"}, reason="because", seconds=float("nan"))
    state = layout.read_json(path / "state.json")
    assert (state["state"], state["reason"], state["attempt"], state["seconds"]) == (
        "failed",
        "because",
        1,
        None,
    )


def test_a_runs_folder_nobody_may_write_to_is_one_sentence(made: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--runs-dir"):
        runs.create_run(tmp_path / "file", made.spec())


def test_the_store_needs_neither_torch_nor_pandas() -> None:
    program = "import sys, analysis.store.launch, analysis.store.trash, analysis.store.arrays\n"
    program += (
        "print([m for m in ('torch', 'transformers', 'pandas', 'plotly', 'streamlit') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=layout.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
