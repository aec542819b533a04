"""Real runs under fire: workers, runners and launchers killed at any moment, on a tiny real model."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import recipes, spec
from analysis.errors import RunError
from analysis.store import events, launch, layout, locks, queue, runs, trash

STEPS = 240


def until(true: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)
    return found


def plan(
    tiny: dict[str, str], recipe: str = "movement", steps: int = STEPS, **settings: Any
) -> dict[str, Any]:
    """JSON of a spec for the tiny model."""
    fixed = {
        "training.batch": 8,
        "training.checkpoint_seconds": 1,
        "optimizer.lr": 1e-3,
        "training.evaluations": 2,
        "training.threads": 1,
    }
    return spec.to_dict(
        recipes.build(
            recipe, tiny["model"], tiny["task"], keep=0.2, steps=steps, settings={**fixed, **settings}
        )
    )


def over(folder: Path, run_id: str) -> runs.RunInfo:
    """The run once it is over."""
    info = until(lambda: (found := runs.find_run(folder, run_id)).over and found)
    assert isinstance(info, runs.RunInfo)
    return info


def working(folder: Path, run_id: str, step: int = 1) -> dict[str, Any]:
    """State file of a run once its worker reported some step."""

    def there() -> dict[str, Any] | None:
        info = runs.find_run(folder, run_id)
        assert not info.over, f"{info.state}: {info.reason}"
        return runs.read_state(folder / run_id) if info.state == "running" and info.step >= step else None

    found = until(there)
    assert isinstance(found, dict)
    return found


def mask_hash(path: Path) -> str:
    """Hash of the final masks; equal masks make equal files."""
    return hashlib.sha256((path / "masks" / f"{STEPS:06d}.npz").read_bytes()).hexdigest()


def losses(path: Path) -> dict[int, float]:
    """Loss by step, as a reader sees it."""
    rows = events.tail(path / "events.jsonl", kinds=("loss",)).rows
    assert len({row["step"] for row in rows}) == len(rows)
    return {row["step"]: row["loss"] for row in rows}


@pytest.fixture(scope="module")
def straight(lab: Path, tiny: dict[str, str]) -> Path:
    """A run that nobody disturbs."""
    info = over(lab, launch.launch(lab, plan(tiny)))
    assert (info.state, info.reason) == ("done", "")
    return info.path


def test_a_run_ends_with_a_model_that_anyone_can_load(straight: Path) -> None:
    info = runs.read_run(straight)
    assert (info.state, info.progress, info.step, info.attempt) == ("done", 1.0, STEPS, 1)
    assert info.seconds > 0
    assert info.started < info.ended
    assert json.loads((straight / "model" / "config.json").read_text())["model_type"] == "bert"
    # They go after the state is written, so that a kill in between leaves a run that is done.
    until(lambda: not (straight / "checkpoints").exists())
    assert not list(straight.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_worker_killed_at_random_steps_resumes_to_the_same_masks(
    lab: Path, tiny: dict[str, str], straight: Path, seed: int
) -> None:
    draw = random.Random(seed)
    run_id = launch.launch(lab, plan(tiny))
    path = lab / run_id
    for attempt in range(1, 4):
        state = working(lab, run_id)
        time.sleep(draw.uniform(0, 1.0))
        if runs.read_run(path).over:
            break
        assert state["attempt"] == attempt
        os.kill(state["pid"], signal.SIGKILL)
        info = over(lab, run_id)
        assert info.state == "crashed"
        until(lambda: "signal 9" in runs.read_run(path).reason)
        launch.resume_run(lab, run_id)
        assert runs.read_run(path).state in ("queued", "running")
    info = over(lab, run_id)
    assert (info.state, info.reason) == ("done", "")
    assert info.attempt > 1
    assert mask_hash(path) == mask_hash(straight)
    assert losses(path) == losses(straight)
    until(lambda: not list(path.glob("checkpoints*")))
    assert not list(path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_stopped_run_saves_and_resumes_to_the_same_masks(
    lab: Path, tiny: dict[str, str], straight: Path
) -> None:
    run_id = launch.launch(lab, plan(tiny))
    pid = working(lab, run_id)["pid"]
    launch.stop_run(lab, run_id)
    info = over(lab, run_id)
    assert info.state == "stopped"
    assert 0 < info.step < STEPS
    assert list((lab / run_id / "checkpoints").iterdir())
    until(lambda: locks.start_ticks(pid) is None)
    with pytest.raises(RunError, match="is stopped"):
        launch.stop_run(lab, run_id)
    launch.resume_run(lab, run_id)
    info = over(lab, run_id)
    assert (info.state, info.attempt) == ("done", 2)
    assert mask_hash(lab / run_id) == mask_hash(straight)
    assert losses(lab / run_id) == losses(straight)
    with pytest.raises(RunError, match="is done and cannot be resumed"):
        launch.resume_run(lab, run_id)


@pytest.mark.slow
def test_a_run_survives_the_death_of_its_launcher_and_of_its_runner(
    tmp_path: Path, tiny: dict[str, str], straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs"
    program = "import json, sys, time; from pathlib import Path; from analysis.store import launch\n"
    program += (
        "print(launch.launch_all(Path(sys.argv[1]), json.loads(sys.argv[2])), flush=True); time.sleep(60)"
    )
    specs = [plan(tiny), plan(tiny, "magnitude", steps=5)]
    queue.set_queue_limit(folder, 1)
    launcher = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), json.dumps(specs)], cwd=layout.ROOT,
        stdout=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PRUNING_LAB_IDLE": "0"},
    )  # fmt: skip
    assert launcher.stdout is not None
    first, second = json.loads(launcher.stdout.readline().replace("'", '"'))
    worker = working(folder, first)["pid"]
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.communicate()
    runner = layout.read_json(folder / launch.RUNNER_STATE)["pid"]
    assert os.getpgid(worker) == worker != os.getpgid(runner) == runner
    os.kill(runner, signal.SIGKILL)
    until(lambda: not launch.runner_alive(folder))
    assert runs.find_run(folder, first).state == "running"
    assert runs.find_run(folder, second).state == "queued"
    monkeypatch.setenv("PRUNING_LAB_IDLE", "0")
    launch.ensure_runner(folder)
    assert over(folder, first).state == "done"
    assert over(folder, second).state == "done"
    assert mask_hash(folder / first) == mask_hash(straight)
    assert runs.find_run(folder, second).started > runs.find_run(folder, first).ended
    until(lambda: not launch.runner_alive(folder))
    assert queue.tickets(folder) == []


@pytest.mark.slow
def test_two_launches_at_the_same_instant_make_exactly_two_runs(lab: Path, tiny: dict[str, str]) -> None:
    before = {run.id for run in runs.list_runs(lab, recorded=False)}
    program = "import json, sys; from pathlib import Path; from analysis.store import launch\n"
    program += "sys.stdin.readline(); print(launch.launch(Path(sys.argv[1]), json.loads(sys.argv[2])))"
    words = [sys.executable, "-c", program, str(lab), json.dumps(plan(tiny, steps=5))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    pressers = [subprocess.Popen(words, cwd=layout.ROOT, text=True, **pipes) for _ in range(2)]
    for presser in pressers:
        assert presser.stdin is not None
        presser.stdin.write("\n")
        presser.stdin.flush()
    ids = {presser.communicate(timeout=30)[0].strip() for presser in pressers}
    assert len(ids) == 2
    assert {over(lab, run_id).state for run_id in ids} == {"done"}
    assert {run.id for run in runs.list_runs(lab, recorded=False)} - before == ids
    assert [runs.find_run(lab, run_id).attempt for run_id in ids] == [1, 1]


def test_a_full_disk_is_a_state_with_a_reason(lab: Path, tiny: dict[str, str]) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full here")
    run_id = runs.create_run(lab, plan(tiny))
    (lab / run_id / "events.jsonl").symlink_to("/dev/full")
    queue.enqueue(lab, run_id)
    launch.ensure_runner(lab)
    info = over(lab, run_id)
    assert info.state == "failed"
    assert "no space left" in info.reason
    assert "Traceback" in (lab / run_id / "log.txt").read_text()


def test_a_missing_model_is_a_state_with_a_reason_and_mends_by_resume(
    lab: Path, tiny: dict[str, str], tmp_path: Path
) -> None:
    moved = tmp_path / "model"
    run_id = launch.launch(lab, plan({**tiny, "model": str(moved)}, steps=5))
    info = over(lab, run_id)
    assert info.state == "failed"
    assert str(moved) in info.reason
    assert "Traceback" not in info.reason
    moved.symlink_to(tiny["model"])
    launch.resume_run(lab, run_id)
    assert over(lab, run_id).state == "done"


def test_a_loss_that_is_no_number_is_divergence(lab: Path, tiny: dict[str, str], tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny["model"], tmp_path / "wild")
    weights = tmp_path / "wild" / "model.safetensors"
    save_file({k: v * np.float32(1e19) for k, v in load_file(weights).items()}, weights, {"format": "pt"})
    run_id = launch.launch(lab, plan({**tiny, "model": str(tmp_path / "wild")}))
    info = over(lab, run_id)
    assert info.state == "diverged"
    assert "learning rate" in info.reason
    assert events.tail(lab / run_id / "events.jsonl").bad_lines == 0
    with pytest.raises(RunError, match="diverge again"):
        launch.resume_run(lab, run_id)


@pytest.mark.slow
def test_a_waiting_run_can_be_stopped_and_deleted_before_its_turn(lab: Path, tiny: dict[str, str]) -> None:
    queue.set_queue_limit(lab, 1)
    try:
        first, second, third = launch.launch_all(lab, [plan(tiny), plan(tiny), plan(tiny)])
        working(lab, first)
        launch.stop_run(lab, second)
        assert runs.find_run(lab, second).state == "stopped"
        trash.delete_run(lab, third)
        with pytest.raises(RunError, match="stop it first"):
            trash.delete_run(lab, first)
        assert queue.tickets(lab) == []
        launch.stop_run(lab, first, force=True)
        assert over(lab, first).state == "stopped"
    finally:
        queue.set_queue_limit(lab, 2)
    assert runs.find_run(lab, second).step == 0


@pytest.mark.slow
def test_a_waiting_run_whose_ticket_was_lost_is_found_by_the_next_runner(
    tmp_path: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs"
    run_id = runs.create_run(folder, plan({**tiny, "model": str(tmp_path / "none")}, steps=5))
    (folder / queue.FOLDER).mkdir()
    (folder / queue.FOLDER / "7-movement-ffffff").write_text("{}")
    monkeypatch.setenv("PRUNING_LAB_IDLE", "0")
    launch.ensure_runner(folder)
    assert over(folder, run_id).state == "failed"
    until(lambda: not launch.runner_alive(folder))
    assert queue.tickets(folder) == []


@pytest.mark.slow
def test_the_bundled_model_survives_a_kill_with_the_same_masks(lab: Path) -> None:
    settings = {"training.threads": 1, "training.checkpoint_seconds": 1, "training.evaluations": 2}
    planned = recipes.build(
        "movement", "bundled:text", "bundled:opinions", keep=0.1, steps=80, settings=settings, name="killed"
    )
    straight, killed = launch.launch_all(lab, [spec.to_dict(planned)] * 2)
    pid = working(lab, killed, step=20)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert over(lab, killed).state == "crashed"
    launch.resume_run(lab, killed)
    assert over(lab, killed).state == over(lab, straight).state == "done"
    masks = [(lab / run_id / "masks" / "000080.npz").read_bytes() for run_id in (straight, killed)]
    assert masks[0] == masks[1]
    assert losses(lab / straight) == losses(lab / killed)


@pytest.mark.slow
def test_settings_that_are_read_at_import_get_a_process_of_their_own(
    lab: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc here")
    commands = []
    for online in ("1", ""):
        monkeypatch.setenv("PRUNING_LAB_ONLINE", online)
        run_id = launch.launch(lab, plan(tiny))
        pid = working(lab, run_id)["pid"]
        commands.append(Path(f"/proc/{pid}/cmdline").read_text())
        launch.stop_run(lab, run_id)
        assert over(lab, run_id).state == "stopped"
    assert ["worker" in command for command in commands] == [True, False]


@pytest.mark.slow
def test_a_warm_runner_hands_over_when_the_code_changes(lab: Path, tiny: dict[str, str]) -> None:
    launch.ensure_runner(lab)
    before = until(
        lambda: (lab / launch.RUNNER_STATE).exists() and layout.read_json(lab / launch.RUNNER_STATE)["pid"]
    )
    assert over(lab, launch.launch(lab, plan(tiny, steps=5))).state == "done"
    assert layout.read_json(lab / launch.RUNNER_STATE)["pid"] == before
    Path(launch.__file__).touch()
    assert over(lab, launch.launch(lab, plan(tiny, steps=5))).state == "done"
    assert layout.read_json(lab / launch.RUNNER_STATE)["pid"] != before
