"""One run from beginning to end, in a process of its own: the only writer of its folder.

The worker holds the lock on its folder for as long as it lives. Whatever happens to the training, the last
thing it writes is a state with one sentence of reason; what it cannot write (killed, machine down) the reader
tells from the free lock.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import signal
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from analysis.errors import LabError
from analysis.store import locks, runs
from analysis.store.locks import RunLock
from analysis.store.queue import cores, queue_limit

log = logging.getLogger(__name__)

LOG, RESERVE = "log.txt", "reserve.tmp"
LOG_BYTES = 2 * 2**20
RESERVE_BYTES = 64 * 1024
LEAST_FREE = 32 * 2**20
REPORT_SECONDS = 0.5
STOPPED = "Stopped on request; resume goes on from here."


class Control:
    """What the training loop sees of the world: whether to stop, and where to say how far it is."""

    def __init__(self, path: Path, seconds: float = 0.0) -> None:
        self.path = path
        self._before = seconds
        self._began = time.monotonic()
        self._reported = float("-inf")
        self._stop = False
        self._last: dict[str, Any] = {}

    def should_stop(self) -> bool:
        """Whether the run was asked to stop; the loop asks at every step, saves and raises ``Stopped``."""
        return self._stop

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask the run to stop; also the handler of SIGTERM."""
        self._stop = True

    def elapsed(self) -> float:
        """Seconds spent working on this run, over all attempts; unmoved by clocks that jump."""
        return self._before + time.monotonic() - self._began

    def report(self, step: int, progress: float) -> None:
        """Say how far the run is; written at most twice a second, so it may be called at every step.

        Args:
            step: optimizer steps done, in [0, steps].
            progress: position in the run, in [0, 1].
        """
        self._last = {"step": step, "progress": progress}
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            runs.set_state(self.path, self.last(), durable=False)

    def last(self) -> dict[str, Any]:
        """Fields of the state that are known best here: the last reported position, and the time spent."""
        return {**self._last, "seconds": self.elapsed()}


def run(path: Path) -> int:
    """Do the waiting run in this folder.

    Args:
        path: the run's folder, in state ``queued``.

    Returns:
        exit status: 0 when the run is done or was stopped, or somebody else has it; 1 when it failed or
        diverged.
    """
    path = Path(path)
    lock = RunLock(path / runs.LOCK)
    try:
        if not lock.acquire(patience=2.0):
            return 0
    except FileNotFoundError:  # deleted while it waited
        return 0
    try:
        state = runs.read_state(path)
        if state.get("state") != "queued":
            return 0
        control = Control(path, float(state.get("seconds") or 0.0))
        with contextlib.suppress(
            ValueError
        ):  # only the main thread may take signals; elsewhere nobody sends any
            signal.signal(signal.SIGTERM, control.stop)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return _attempt(path, state, control)
    finally:
        lock.release()


def _attempt(path: Path, state: dict[str, Any], control: Control) -> int:
    """Train, and write how it ended."""
    threads = _threads(path, state)
    reserve = path / RESERVE
    try:
        begun = {"started": state.get("started") or runs.now(), "ended": None, "threads": threads}
        runs.set_state(path, {"state": "running", "reason": "", **begun, **locks.identity()})
        reserve.write_bytes(b"\0" * RESERVE_BYTES)
        _check_space(path)
        verdict, reason = _train(path, threads, control)
    except BaseException as error:  # the verdict is written for every way to end
        verdict, reason = "failed", judge(error, path)
        if not isinstance(error, LabError):
            _note(path, "".join(traceback.format_exception(error)))
    # The reserve is room for the last word on a disk that is full.
    with contextlib.suppress(OSError):
        reserve.unlink()
    last = {**control.last(), **({"progress": 1.0} if verdict == "done" else {})}
    runs.set_state(path, {"state": verdict, "reason": reason, "ended": runs.now(), **last})
    if verdict == "done":  # not a moment earlier: a kill before that line must find something to resume from
        from analysis.engine import checkpoints

        checkpoints.drop_all(path / "checkpoints")
    return 0 if verdict in ("done", "stopped") else 1


def _train(path: Path, threads: int, control: Control) -> tuple[str, str]:
    """Train; returns the verdict and its reason where the loop itself gives one."""
    import torch

    from analysis.engine import reporting, train
    from analysis.engine.memory import reuse_memory

    reuse_memory()
    torch.set_num_threads(threads)
    try:
        train.execute(path, control)
    except train.Stopped:
        return "stopped", STOPPED
    except reporting.Diverged as error:
        return "diverged", str(error)
    return "done", ""


def _threads(path: Path, state: dict[str, Any]) -> int:
    """CPU threads: what the spec says, else what the first attempt had, else a fair share of the cores.

    Sums over several threads are rounded in another order, so a resumed run must not change their number.
    """
    training = runs.read_run(path).spec.get("training", {})
    chosen = int(training.get("threads") or 0) or int(state.get("threads") or 0)
    return chosen or max(1, cores() // queue_limit(path.parent))


def _check_space(path: Path) -> None:
    """Refuse to begin on a disk that is as good as full."""
    free = shutil.disk_usage(path).free
    if free < LEAST_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def judge(error: BaseException, path: Path) -> str:
    """One sentence for a person about the exception that ended a run.

    Args:
        error: what ended the training.
        path: the run's folder.
    """
    if isinstance(error, LabError):
        return str(error)
    text = str(error)
    if _is_no_space(error, text):
        free = shutil.disk_usage(path).free / 2**20
        return (
            f"There is no space left on the disk that holds {str(path.parent)!r} ({free:.0f} MB free): "
            f"delete runs or files, then resume."
        )
    if _is_no_memory(error, text):
        return (
            "There was not enough memory for a step: choose a smaller batch, accumulate in more parts, "
            "shorten the inputs, or let fewer runs work at a time (monitor page, or the verb limit)."
        )
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        what = (
            "is missing" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
        )
        return f"The file {str(error.filename or text)!r} {what}: put it in place and resume."
    first = text.strip().splitlines()[0][:200] if text.strip() else "no message"
    return f"An unexpected {type(error).__name__} ended the run ({first}): the run's log.txt tells all."


def _is_no_space(error: BaseException, text: str) -> bool:
    """Whether a full disk is behind an error; the writers of tensors wrap it in types of their own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    # torch's own file writer does not pass on the reason; a write that stops half way is what it has in
    # common.
    torn = isinstance(error, RuntimeError) and ("iostream error" in text or "unexpected pos" in text)
    return full or torn or "No space left on device" in text or "os error 28" in text


def _is_no_memory(error: BaseException, text: str) -> bool:
    """Whether memory ran out; torch says so with a RuntimeError whose text depends on the allocator."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    lowered = text.lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in lowered or "can't allocate memory" in lowered
    )


def _note(path: Path, text: str) -> None:
    """Add to the run's log, even past its cap: the end of the story is worth more than the middle."""
    with contextlib.suppress(OSError), open(path / LOG, "a", encoding="utf-8") as file:
        file.write(text)


def capture_output(path: Path, largest: int = LOG_BYTES) -> None:
    """Send this process's output to the run's log, and keep that log from growing without end.

    Args:
        path: the run's folder.
        largest: bytes of log to keep, in (0, ∞); what is printed after that is thrown away.
    """
    descriptor = os.open(path / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    threading.Thread(target=_cap, args=(descriptor, largest), name="log-cap", daemon=True).start()


def _cap(descriptor: int, largest: int) -> None:
    """Watch the log; when it is full, cut it and let the process talk to nobody."""
    while os.fstat(descriptor).st_size <= largest:
        time.sleep(0.5)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.ftruncate(descriptor, largest)
    os.write(descriptor, f"\nThe log is cut here: it reached {largest} bytes.\n".encode())
