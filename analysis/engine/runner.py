"""The runner: one process per runs folder that works off the waiting line.

It imports torch and transformers once and forks a worker per run, so that a run begins a fraction of a second
after the click. It computes nothing itself: a process that has used several threads cannot be forked safely.
It may be killed at any moment; its workers go on, and the next runner takes up the line where it stands.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

from analysis.errors import RunError
from analysis.store import layout, locks, queue, runs, trash
from analysis.store.launch import RUNNER_LOCK, RUNNER_LOG, RUNNER_STATE, ensure_runner
from analysis.store.locks import RunLock
from analysis.store.queue import Ticket

log = logging.getLogger(__name__)

IDLE_SECONDS = 300.0
IDLE_VARIABLE = "PRUNING_LAB_IDLE"
TICK = 0.05
LARGEST_LOG = 2**20

# Whatever the first run would otherwise import on the clock; a name that is not there costs nothing.
PRELOAD = (
    "torch",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.vit.modeling_vit",
    "sklearn.metrics",
    "pyarrow.parquet",
    "analysis.engine.train",
    "analysis.engine.worker",
)
READ_ONCE = (
    "PRUNING_LAB_ONLINE",
    "HF_HOME",
    "CUDA_VISIBLE_DEVICES",
)  # read when libraries are imported: a preloaded process cannot change them
UNBORN = "The worker ended before it could begin; the reason, if it gave one, is in the run's log.txt."
KILLED = (
    "The worker was killed (signal {number}); if nobody did that, the machine probably ran out of memory: "
    "choose a smaller batch or fewer runs at a time, then resume."
)


def serve(folder: Path, idle: float | None = None) -> None:
    """Work off a folder's line until it is quiet for a while; returns at once if another runner does.

    Args:
        folder: runs folder.
        idle: seconds to stay ready after the last run, in [0, ∞); None for ``$PRUNING_LAB_IDLE`` or 300.
    """
    folder = layout.make_runs_dir(folder)
    lock = RunLock(folder / RUNNER_LOCK)
    while lock.acquire():  # with patience: somebody who only looks at the lock is no other runner
        runner = Runner(folder, lock, _idle(idle))
        try:
            runner.work()
        finally:
            lock.release()
        if runner.outdated:
            ensure_runner(folder)
        if runner.leave:
            return
        # Whoever put a ticket in the line while the lock was still held did not start a runner: look once
        # more.
        if not queue.tickets(folder):
            return


def _idle(given: float | None) -> float:
    """Seconds to stay ready."""
    if given is not None:
        return given
    try:
        return max(0.0, float(os.environ.get(IDLE_VARIABLE, IDLE_SECONDS)))
    except ValueError:
        return IDLE_SECONDS


class Runner:
    """The state of one runner: its children, and the workers it found at work when it came."""

    def __init__(self, folder: Path, lock: RunLock, idle: float) -> None:
        self.folder = folder
        self.lock = lock
        self.idle = idle
        self.children: dict[int, tuple[Path, int]] = {}  # process → its run's folder and attempt
        self.strangers: list[Path] = []
        self.leave = False
        self.outdated = False
        self.code = _code_stamp()

    def work(self) -> None:
        """Start workers while the line and the limit allow, until idle for long enough or asked to end."""
        signal.signal(signal.SIGTERM, self._end)
        layout.write_json(self.folder / RUNNER_STATE, locks.identity())
        _shorten_log(self.folder / RUNNER_LOG)
        self._take_stock()
        _preload()
        quiet_since = time.monotonic()
        while not self.leave:
            self._reap()
            line = queue.tickets(self.folder)
            limit = queue.queue_limit(self.folder)
            self.strangers = [path for path in self.strangers if locks.held(path / runs.LOCK)]
            for ticket in line:
                if self.leave or len(self.children) + len(self.strangers) >= limit:
                    break
                self._begin(ticket)
            if self.children or line or self.strangers:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= self.idle or not self.folder.is_dir():
                return
            time.sleep(TICK)

    def _end(self, *_: object) -> None:
        """SIGTERM: start nothing more and leave; workers are not ours to end."""
        self.leave = True

    def _take_stock(self) -> None:
        """Clear away leftovers, count workers of a former runner, find waiting runs without a ticket."""
        trash.sweep_trash(self.folder)
        waiting = {ticket.run_id for ticket in queue.tickets(self.folder)}
        found = runs.list_runs(self.folder, recorded=False)
        self.strangers = [run.path for run in found if run.state == "running"]
        for run in sorted(found, key=lambda run: run.created):
            if run.state == "queued" and run.id not in waiting:
                queue.enqueue(self.folder, run.id)

    def _begin(self, ticket: Ticket) -> None:
        """Fork a worker for a run whose turn has come; a ticket whose run does not wait is dropped."""
        path = layout.run_path(self.folder, ticket.run_id)
        if any(path == working for working, _ in self.children.values()):
            return  # resumed before its last worker was collected: its turn comes a moment later
        run = runs.read_run(path)
        if run.state != "queued":
            ticket.drop()
            return
        if _code_stamp() != self.code:
            log.info("the code has changed: a fresh runner takes over")
            self.leave = self.outdated = True
            return
        environment = ticket.environment()
        try:
            pid = os.fork()
        except OSError as error:
            log.warning("run %s cannot begin yet: %s", ticket.run_id, error)
            return
        if pid == 0:
            self._child(path, environment)
        self.children[pid] = (path, run.attempt)
        ticket.drop()
        log.info("run %s begins in process %d", ticket.run_id, pid)

    def _child(self, path: Path, environment: dict[str, str] | None) -> None:
        """In the forked process: become a worker and never return into the runner's loop."""
        status = 1
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self.lock.forget()
            from analysis.engine import worker

            worker.capture_output(path)
            if environment is not None and _adopt(environment):
                os.execv(sys.executable, [sys.executable, "-m", "analysis", "worker", str(path)])
            status = worker.run(path)
        except BaseException:
            log.exception("worker of %s", path.name)
        finally:
            with contextlib.suppress(Exception):
                logging.shutdown()
            os._exit(status)

    def _reap(self) -> None:
        """Collect workers that ended, and say for those that could not why."""
        for pid in list(self.children):
            with contextlib.suppress(ChildProcessError):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done == 0:
                    continue
                self._explain(*self.children[pid], os.waitstatus_to_exitcode(status))
            del self.children[pid]

    def _explain(self, path: Path, attempt: int, code: int) -> None:
        """Write what only the parent knows of a worker's end: it never began, or a signal killed it."""
        log.info("run %s ended with status %d", path.name, code)
        lock = RunLock(path / runs.LOCK)
        try:
            if not lock.acquire():
                return
            state = runs.read_state(path)
            if state.get("state") == "queued" and state.get("attempt") == attempt:
                if code == 0:  # the folder was locked by somebody who only looked after it: try again
                    queue.enqueue(self.folder, path.name)
                else:
                    runs.set_state(path, state="failed", reason=UNBORN)
            elif state.get("state") == "running" and code < 0 and not state.get("reason"):
                runs.set_state(path, reason=KILLED.format(number=-code))
        except (OSError, RunError) as error:
            log.warning("run %s: %s", path.name, error)
        finally:
            lock.release()


def _code_stamp() -> tuple[int, int]:
    """Changes when a file of the application does: a warm runner must not go on with recipes of yesterday."""
    times = [path.stat().st_mtime_ns for path in (layout.ROOT / "analysis").rglob("*.py")]
    return len(times), sum(times)


def _adopt(environment: dict[str, str]) -> bool:
    """Take over the settings of whoever launched the run; True when only a fresh process can follow them."""
    stale = any(os.environ.get(name, "") != environment.get(name, "") for name in READ_ONCE)
    for name in [name for name in os.environ if name.startswith(queue.PASSED_ON)]:
        del os.environ[name]
    os.environ.update(environment)
    if stale:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):  # set by our own imports, for the old settings
            os.environ.pop(name, None)
    return stale


def _preload() -> None:
    """Import what every run needs, once; workers inherit it."""
    began = time.monotonic()
    for name in PRELOAD:
        try:
            importlib.import_module(name)
        except ImportError as error:
            log.info("not preloaded: %s (%s)", name, error)
    gc.collect()
    gc.freeze()  # the collector would otherwise write to, and so copy, every page the workers share
    log.info("ready after %.1f s", time.monotonic() - began)


def _shorten_log(path: Path) -> None:
    """Begin the runner's log anew when it has grown large; the file stays the same, others hold it open."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > LARGEST_LOG:
            os.truncate(path, 0)
