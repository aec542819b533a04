from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import RunError
from analysis.store import queue, runs, trash
from analysis.store.locks import RunLock


def files(path: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the lock."""
    return {
        str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != "lock"
    }


def test_a_deleted_run_is_gone_from_the_list_and_comes_back_whole(made: Any) -> None:
    path = made.run("done")
    (path / "masks").mkdir()
    (path / "masks" / "000001.npz").write_bytes(b"bits")
    before = files(path)
    token = trash.delete_run(made.folder, path.name)
    assert runs.list_runs(made.folder, recorded=False) == []
    assert not path.exists()
    assert trash.restore_run(made.folder, token) == path.name
    assert files(path) == before
    assert runs.find_run(made.folder, path.name).state == "done"


def test_a_run_at_work_is_not_deleted(made: Any) -> None:
    path = made.run("running")
    lock = RunLock(path / runs.LOCK)
    assert lock.acquire()
    with pytest.raises(RunError, match="stop it first"):
        trash.delete_run(made.folder, path.name)
    lock.release()
    trash.delete_run(made.folder, path.name)


def test_a_waiting_run_leaves_the_line_and_does_not_start_when_restored(made: Any) -> None:
    run_id = runs.create_run(made.folder, made.spec())
    queue.enqueue(made.folder, run_id)
    token = trash.delete_run(made.folder, run_id)
    assert queue.tickets(made.folder) == []
    trash.restore_run(made.folder, token)
    assert runs.find_run(made.folder, run_id).state == "stopped"


def test_an_unreadable_run_can_be_deleted(made: Any) -> None:
    path = made.run("done")
    (path / "state.json").write_text("{")
    trash.delete_run(made.folder, path.name)
    assert not path.exists()


@pytest.mark.parametrize("run_id", ["movement-000000", "..", "../elsewhere", "", ".queue"])
def test_nothing_else_can_be_deleted(made: Any, run_id: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    queue.enqueue(made.folder, "x")
    with pytest.raises(RunError):
        trash.delete_run(made.folder, run_id)
    assert elsewhere.is_dir()
    assert queue.tickets(made.folder)


def test_a_recorded_run_is_not_deleted(made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    run_id = runs.create_run(recorded, made.spec())
    monkeypatch.setattr(trash, "RECORDED", recorded)
    with pytest.raises(RunError, match="ships with the project"):
        trash.delete_run(made.folder, run_id)
    assert (recorded / run_id).is_dir()


@pytest.mark.parametrize("token", ["", "0" * 16, "../x", "*", "zz"])
def test_an_unknown_token_is_one_sentence(made: Any, token: str) -> None:
    trash.delete_run(made.folder, made.run("done").name)
    with pytest.raises(RunError, match="names no deleted run"):
        trash.restore_run(made.folder, token)


def test_a_run_is_not_restored_over_another(made: Any) -> None:
    path = made.run("done")
    token = trash.delete_run(made.folder, path.name)
    path.mkdir()
    (path / "mine").write_text("precious")
    with pytest.raises(RunError, match="in its place"):
        trash.restore_run(made.folder, token)
    assert (path / "mine").read_text() == "precious"


def test_the_trash_is_emptied_after_a_day_and_not_before(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = made.run("done"), made.run("done")
    today = time.time()
    monkeypatch.setattr(trash.time, "time", lambda: today - trash.DAY - 60)
    gone = trash.delete_run(made.folder, old.name)
    monkeypatch.setattr(trash.time, "time", lambda: today)
    kept = trash.delete_run(made.folder, new.name)
    assert trash.sweep_trash(made.folder) == 1
    with pytest.raises(RunError):
        trash.restore_run(made.folder, gone)
    assert trash.restore_run(made.folder, kept) == new.name


def test_what_killed_processes_left_half_written_is_swept(made: Any) -> None:
    path, busy = made.run("done"), made.run("running")
    lock = RunLock(busy / runs.LOCK)
    assert lock.acquire()
    for run in (path, busy):
        (run / "state.json.1a2b.tmp").write_text("{")
        (run / "masks").mkdir()
        (run / "masks" / "000001.npz.1a2b.tmp").write_text("P")
        (run / "checkpoints" / "000002.tmp").mkdir(parents=True)
        (run / "checkpoints" / "000001.trash").mkdir()
        (run / "checkpoints.trash" / "000003").mkdir(parents=True)  # what deleting all checkpoints leaves
    half = made.folder / ".new-0011223344556677"
    half.mkdir()
    os.utime(half, (time.time() - 7200, time.time() - 7200))
    fresh = made.folder / ".new-8899aabbccddeeff"
    fresh.mkdir()
    assert trash.sweep_trash(made.folder) == 6
    assert sorted(files(path)) == ["spec.json", "state.json"]
    assert (busy / "checkpoints" / "000002.tmp").is_dir()
    assert not half.exists()
    assert fresh.exists()
    lock.release()
    assert trash.sweep_trash(made.folder / "none") == 0
