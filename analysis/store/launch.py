"""Starting, stopping and resuming runs; what a page's button and a command-line verb both call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from analysis.errors import RunError
from analysis.spec import from_dict
from analysis.store import layout, queue
from analysis.store.layout import RECORDED, ROOT, run_path
from analysis.store.locks import RunLock, held, is_same_process
from analysis.store.queue import queue_limit, set_queue_limit
from analysis.store.runs import LOCK, RunInfo, create_run, find_run, read_run, read_state, set_state

__all__ = [
    "end_runner",
    "ensure_runner",
    "launch",
    "launch_all",
    "queue_limit",
    "resume_run",
    "runner_alive",
    "set_queue_limit",
    "stop_run",
]

RUNNER_LOCK = ".runner.lock"
RUNNER_LOG = ".runner.log"
RUNNER_STATE = ".runner.json"
PATIENCE = 3.0  # seconds in which a worker that just took its lock must have said who it is
RESUMABLE = ("crashed", "stopped", "failed")
KILLED = "Stopped on request; it did not react in time and was ended by force."
UNSTARTED = "Stopped on request before it began."


def launch(runs: Path, spec: dict[str, Any]) -> str:
    """Create a run, put it in the line and see that somebody works the line off.

    Args:
        runs: runs folder, made when missing.
        spec: JSON form of a ``RunSpec``.

    Returns:
        the run's id.

    Raises:
        SpecError: the spec is not valid.
        RunError: the runs folder cannot be written to.
    """
    return launch_all(runs, [spec])[0]


def launch_all(runs: Path, specs: list[dict[str, Any]]) -> list[str]:
    """Launch several runs, in the order given; nothing is launched when one spec is not valid."""
    for spec in specs:
        from_dict(spec)
    ids = []
    for spec in specs:
        run_id = create_run(runs, spec)
        _enqueue(runs, run_id)
        ids.append(run_id)
    ensure_runner(runs)
    return ids


def _enqueue(runs: Path, run_id: str) -> None:
    try:
        queue.enqueue(runs, run_id)
    except OSError as error:
        raise RunError(
            f"Run {run_id!r} is saved but cannot be put in the line ({error.strerror or error}): free some "
            f"space; it starts with the next run that is launched."
        ) from error


def runner_alive(runs: Path) -> bool:
    """Whether a runner works on this folder's line."""
    return held(Path(runs) / RUNNER_LOCK)


def ensure_runner(runs: Path) -> None:
    """Start the runner of a runs folder unless there is one.

    It is a process of its own session: closing the browser, the server or the terminal does not end it.
    Calling this early (when a page with a start button opens) has the heavy imports done before the click.
    """
    runs = layout.make_runs_dir(runs)
    if runner_alive(runs):
        return
    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",  # its threads do not survive the fork into a worker
        "OPENBLAS_NUM_THREADS": "1",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # the usual check would start CUDA before the fork
        "PYTHONUNBUFFERED": "1",
    }
    with open(runs / RUNNER_LOG, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "analysis", "runner", "--runs-dir", str(runs)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Somebody has to collect the exit status, or the ended runner stays in the process table as a zombie.
    threading.Thread(target=process.wait, name="runner-reaper", daemon=True).start()


def end_runner(runs: Path) -> bool:
    """Ask the runner of a runs folder to end; its workers go on, and waiting runs wait for the next runner.

    Returns:
        whether there was one to ask.
    """
    runs = Path(runs)
    try:
        state = layout.read_json(runs / RUNNER_STATE)
    except (OSError, ValueError):
        return False
    if not runner_alive(runs) or not isinstance(state, dict) or not is_same_process(state):
        return False
    os.kill(state["pid"], signal.SIGTERM)
    return True


def resume_run(runs: Path, run_id: str) -> None:
    """Put a run that stopped, failed or crashed back in the line; it goes on from its newest good checkpoint.

    Raises:
        RunError: the run does not exist, is recorded, waits, works, is done, or diverged.
    """
    path = _own(runs, run_id)
    lock = RunLock(path / LOCK)
    if not lock.acquire():
        raise RunError(
            f"Run {run_id!r} is at work: only a run that crashed, failed or was stopped can be resumed."
        )
    try:
        info = read_run(path, locked=True)
        if info.state not in RESUMABLE:
            raise RunError(f"Run {run_id!r} is {info.state} and cannot be resumed: {_instead(info)}.")
        set_state(path, state="queued", reason="", ended=None, attempt=info.attempt + 1)
    finally:
        lock.release()
    _enqueue(runs, run_id)
    ensure_runner(runs)


def _instead(info: RunInfo) -> str:
    """What to do with a run that cannot be resumed."""
    return {
        "done": "start a copy of it with other settings",
        "diverged": "the same steps would diverge again; start a copy with a smaller learning rate",
        "queued": "it starts by itself when its turn comes",
        "unreadable": info.reason.removesuffix("."),
    }.get(info.state, "only a run that crashed, failed or was stopped can be")


def _own(runs: Path, run_id: str) -> Path:
    """Folder of one of the user's own runs."""
    path = run_path(runs, run_id)
    if not path.is_dir():
        if run_path(RECORDED, run_id).is_dir():
            raise RunError(
                f"Run {run_id!r} is recorded and ships with the project: it is over and cannot be changed."
            )
        find_run(runs, run_id)
    return path


def stop_run(runs: Path, run_id: str, force: bool = False) -> None:
    """Ask a run to stop: a waiting one leaves the line, a working one saves a checkpoint and ends.

    Returns at once; the worker ends after its current step.

    Args:
        runs: runs folder.
        run_id: which run.
        force: kill a worker that does not react; what it did since its last checkpoint is lost.

    Raises:
        RunError: the run does not exist, is recorded, or is over.
    """
    path = _own(runs, run_id)
    end = time.monotonic() + PATIENCE
    while True:
        info = read_run(path)
        if info.state == "running":
            if _signal(path, signal.SIGKILL if force else signal.SIGTERM):
                if force:
                    _bury(path)
                return
        elif info.state == "queued":
            if _cancel(runs, path):
                return
        else:
            raise RunError(f"Run {run_id!r} is {info.state}: only a waiting or working run can be stopped.")
        if time.monotonic() > end:
            raise RunError(
                f"Run {run_id!r} is at work, but its process cannot be identified: it was started on another "
                f"machine, or its state file was edited; stop it there."
            )
        time.sleep(
            0.02
        )  # between taking its lock and writing its first state a worker is neither waiting nor known


def _cancel(runs: Path, path: Path) -> bool:
    """Take a waiting run out of the line; False when a worker was quicker."""
    lock = RunLock(path / LOCK)
    if not lock.acquire():
        return False
    try:
        if read_run(path, locked=True).state != "queued":
            return False
        queue.withdraw(runs, path.name)
        set_state(path, state="stopped", reason=UNSTARTED)
        return True
    finally:
        lock.release()


def _signal(path: Path, number: signal.Signals) -> bool:
    """Signal a worker and its children, if the process on file is beyond doubt the one that works."""
    state = read_state(path)
    pid = state.get("pid")
    if not isinstance(pid, int) or not held(path / LOCK) or not is_same_process(state):
        return False
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _bury(path: Path) -> None:
    """Write the last word of a worker that was killed on request."""
    lock = RunLock(path / LOCK)
    if lock.acquire(patience=3.0):
        try:
            if read_state(path).get("state") == "running":
                set_state(path, state="stopped", reason=KILLED)
        finally:
            lock.release()
