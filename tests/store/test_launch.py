from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import RunError, SpecError
from analysis.store import launch, layout, locks, queue, runs
from analysis.store.locks import RunLock

STUBBORN = """
import signal, sys, time
from pathlib import Path
from analysis.store import locks, runs
path = Path(sys.argv[1])
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
assert locks.RunLock(path / "lock").acquire()
runs.set_state(path, state="running", **locks.identity())
print("working", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _no_runner(runs_dir: Path) -> Iterator[None]:
    """Holds the runner's lock, so that launching starts no runner."""
    with RunLock(runs_dir / launch.RUNNER_LOCK):
        yield


@pytest.fixture
def worker(made: Any, request: pytest.FixtureRequest) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A process that works in a run's folder, in its own session."""
    path = made.run("queued")
    words = [sys.executable, "-c", STUBBORN, str(path), getattr(request, "param", "")]
    process = subprocess.Popen(words, cwd=layout.ROOT, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    yield path, process
    process.kill()
    process.communicate()


def test_launching_puts_runs_in_the_line_in_order(made: Any) -> None:
    ids = launch.launch_all(made.folder, [made.spec("magnitude"), made.spec("movement"), made.spec("dense")])
    assert [ticket.run_id for ticket in queue.tickets(made.folder)] == ids
    assert [run_id.rsplit("-", 1)[0] for run_id in ids] == ["magnitude", "movement", "dense"]
    assert {runs.find_run(made.folder, run_id).state for run_id in ids} == {"queued"}


def test_a_spec_that_is_not_valid_launches_nothing(made: Any) -> None:
    with pytest.raises(SpecError):
        launch.launch_all(made.folder, [made.spec(), {**made.spec(), "keep": 1.5}])
    with pytest.raises(SpecError, match="newer version"):
        launch.launch(made.folder, {**made.spec(), "schema_version": 99})
    assert runs.list_runs(made.folder, recorded=False) == []
    assert queue.tickets(made.folder) == []


def test_stopping_a_waiting_run_takes_it_out_of_the_line(made: Any) -> None:
    first, second = launch.launch_all(made.folder, [made.spec(), made.spec()])
    launch.stop_run(made.folder, first)
    assert [ticket.run_id for ticket in queue.tickets(made.folder)] == [second]
    assert runs.find_run(made.folder, first).state == "stopped"
    with pytest.raises(RunError, match="is stopped"):
        launch.stop_run(made.folder, first)


def test_resuming_puts_it_back_as_a_further_attempt(made: Any) -> None:
    run_id = launch.launch(made.folder, made.spec())
    launch.stop_run(made.folder, run_id)
    launch.resume_run(made.folder, run_id)
    info = runs.find_run(made.folder, run_id)
    assert (info.state, info.attempt, info.reason, info.ended) == ("queued", 2, "", "")
    assert [ticket.run_id for ticket in queue.tickets(made.folder)] == [run_id]
    with pytest.raises(RunError, match="is queued"):
        launch.resume_run(made.folder, run_id)
    assert runs.find_run(made.folder, run_id).attempt == 2


@pytest.mark.parametrize(
    ("state", "why"),
    [("done", "start a copy"), ("diverged", "smaller learning rate"), ("queued", "by itself")],
)
def test_what_cannot_be_resumed_says_what_to_do_instead(made: Any, state: str, why: str) -> None:
    with pytest.raises(RunError, match=why):
        launch.resume_run(made.folder, made.run(state).name)


def test_an_unreadable_run_is_neither_stopped_nor_resumed(made: Any) -> None:
    path = made.run("done")
    (path / "state.json").write_text("{")
    for act in (launch.stop_run, launch.resume_run):
        with pytest.raises(RunError, match="unreadable"):
            act(made.folder, path.name)


@pytest.mark.parametrize("run_id", ["../../etc", "", "movement-000000"])
def test_ids_are_checked_before_anything_is_touched(made: Any, run_id: str) -> None:
    for act in (launch.stop_run, launch.resume_run):
        with pytest.raises(RunError):
            act(made.folder, run_id)


def test_recorded_runs_are_left_alone(made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    run_id = runs.create_run(recorded, made.spec())
    monkeypatch.setattr(launch, "RECORDED", recorded)
    for act in (launch.stop_run, launch.resume_run):
        with pytest.raises(RunError, match="recorded"):
            act(made.folder, run_id)


def test_a_working_run_gets_the_signal_and_cannot_be_resumed(
    worker: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    path, process = worker
    with pytest.raises(RunError, match="is at work"):
        launch.resume_run(path.parent, path.name)
    launch.stop_run(path.parent, path.name)
    assert process.wait(timeout=5) == -15
    assert runs.read_run(path).state == "crashed"  # this one wrote no last word


@pytest.mark.parametrize("worker", ["deaf"], indirect=True)
def test_a_worker_that_does_not_react_is_ended_by_force(worker: tuple[Path, subprocess.Popen[bytes]]) -> None:
    path, process = worker
    launch.stop_run(path.parent, path.name)
    time.sleep(0.1)
    assert runs.read_run(path).state == "running"
    launch.stop_run(path.parent, path.name, force=True)
    assert process.wait(timeout=5) == -9
    info = runs.read_run(path)
    assert info.state == "stopped"
    assert "by force" in info.reason


def test_a_stranger_that_inherited_the_process_number_is_never_signalled(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 0.2)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        path = made.run("running", **{**locks.identity(stranger.pid), "pid_start": 1})
        with RunLock(path / runs.LOCK), pytest.raises(RunError, match="cannot be identified"):
            launch.stop_run(made.folder, path.name, force=True)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_runner_is_only_ended_when_it_is_beyond_doubt(made: Any) -> None:
    assert not launch.end_runner(made.folder)
    for state in ({}, [], {**locks.identity(), "pid_start": 1}):
        (made.folder / launch.RUNNER_STATE).write_text(json.dumps(state))
        assert not launch.end_runner(made.folder)


def test_a_runner_that_works_already_is_not_started_again(made: Any) -> None:
    assert launch.runner_alive(made.folder)
    launch.ensure_runner(made.folder)
    assert not (made.folder / launch.RUNNER_LOG).exists()
