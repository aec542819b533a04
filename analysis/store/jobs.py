"""Work on the side that is no run: a folder, one process that fills it, and a note saying how far it is.

As for runs, the lock is the one sign of life: a note that says "working" under a free lock is that of a
process that died, whatever killed it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from analysis.errors import LabError, RunError
from analysis.store import layout
from analysis.store.locks import RunLock, held

NOTE, LOCK, STOP, LOG = "job.json", "lock", "stop", "log.txt"
EVERY = 0.15  # seconds between two notes
BIRTH = 30.0  # seconds a process may take from its start to its lock


_HELD: list[RunLock] = []  # by the jobs of this process


def forget() -> None:
    """In a forked helper: closes the inherited locks, which would show a killed worker as alive."""
    for lock in _HELD:
        lock.forget()


class Cancelled(Exception):
    """Somebody asked the work to stop; raised inside the process that does it."""


@dataclass(frozen=True)
class Note:
    """How a piece of work stands.

    Attributes:
        state: "absent" (never begun), "working", "done", "failed", "cancelled" or "crashed".
        done: how much of ``total`` is done, in ``unit``.
        total: all there is to do; 0 while that is not known.
        unit: what is counted, such as "bytes".
        seconds: how long it has worked, or worked.
        reason: the sentence of a failure.
        first: how much was done already when it began, by an earlier process.
    """

    state: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    seconds: float = 0.0
    reason: str = ""
    first: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nobody works on it any more, or ever did."""
        return self.state != "working"

    @property
    def left(self) -> float | None:
        """Seconds left at the pace so far; None while that says nothing."""
        if not self.first < self.done <= self.total or self.seconds < 1:
            return None
        return self.seconds * (self.total - self.done) / (self.done - self.first)


class Job:
    """The worker's side: holds the lock, tells how far it is, and notices a request to stop.

    Used as ``with Job(folder, "bytes") as job``. A LabError inside is written down as the reason of the
    failure and passes on; so does every other error, which leaves the state "crashed".
    """

    def __init__(self, folder: Path, unit: str) -> None:
        self.folder, self.unit = Path(folder), unit
        self.begun = self.told = time.monotonic()
        self.born = time.time()
        self.done = self.total = 0.0
        self.first: float | None = None
        self._lock = RunLock(self.folder / LOCK)

    def __enter__(self) -> Job:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(blocking=True)  # whoever is here already finishes, and we find its result
        _HELD.append(self._lock)
        with contextlib.suppress(FileNotFoundError):  # a request to whoever was here before is not for us
            if (self.folder / STOP).stat().st_mtime < self.born:
                (self.folder / STOP).unlink()
        self._write("working")
        return self

    def tell(self, done: float, total: float) -> None:
        """Notes how far the work is.

        Raises:
            Cancelled: it is to stop.
        """
        self.done, self.total = done, total
        self.first = done if self.first is None else self.first
        now = time.monotonic()
        if now - self.told >= EVERY:
            self.told = now
            if (self.folder / STOP).exists():
                raise Cancelled
            self._write("working")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                self._write("done")
            elif isinstance(error, Cancelled):
                self._write("cancelled")
            elif isinstance(error, LabError):
                self._write("failed", " ".join(str(error).split()))
        finally:
            _HELD.remove(self._lock)
            self._lock.release()
        return isinstance(error, Cancelled)

    def _write(self, state: str, reason: str = "") -> None:
        seconds = time.monotonic() - self.begun
        note = Note(state, self.done, self.total, self.unit, seconds, reason, self.first or 0.0)
        layout.write_json(self.folder / NOTE, asdict(note), durable=False)


def read(folder: Path) -> Note:
    """Says how the work in a folder stands, decided now."""
    try:
        found = layout.read_json(Path(folder) / NOTE)
        numbers = [float(found.get(name, 0)) for name in ("done", "total", "seconds", "first")]
        words = [str(found[name]) for name in ("state", "unit", "reason")]
        note = Note(words[0], numbers[0], numbers[1], words[1], numbers[2], words[2], numbers[3])
    except (OSError, ValueError, KeyError, TypeError):
        note = Note("absent")
    if held(Path(folder) / LOCK):
        return replace(note, state="working")
    return note if note.over else replace(note, state="crashed")


def run(
    arguments: Sequence[str],
    module: str,
    kinds: Mapping[str, Callable[[str], Any]],
    work: Callable[..., object],
) -> int:
    """Does work that a command line asks for: the worker's side of ``begin``.

    Args:
        arguments: the command line.
        module: dotted name of the module, for the sentence on how it is called.
        kinds: name of each argument, in order → what makes it of its word, such as ``Path`` or ``int``.
        work: takes the arguments made.

    Returns:
        code for the system: 0, or 2 with a sentence on stderr when the words do not fit or the work failed.
    """
    try:
        values = [kind(word) for kind, word in zip(kinds.values(), arguments, strict=True)]
    except ValueError:
        sys.stderr.write(f"Usage: python -m {module} {' '.join(kinds)}\n")
        return 2
    try:
        work(*values)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def begin(folder: Path, module: str, *arguments: str) -> None:
    """Starts a process for the work in a folder and waits until it holds the lock or has ended.

    It is a process of its own session: closing the browser, the server or the terminal does not end it.

    Args:
        folder: where the result goes; made when missing.
        module: dotted name of the module to run, which makes a ``Job`` of the folder.
        *arguments: its command line.

    Raises:
        RunError: the folder cannot be made or written to, or no process can be started.
    """
    folder = Path(folder)
    try:
        _begin(folder, module, arguments)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise RunError(
            f"No work can be started in {str(folder.parent)!r} ({reason}); free some space, or choose "
            "another runs folder."
        ) from error


def _begin(folder: Path, module: str, arguments: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if held(folder / LOCK):
        return
    for name in (NOTE, STOP):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with open(folder / LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=layout.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Somebody has to collect the exit status, or the ended process stays in the table as a zombie.
    threading.Thread(target=process.wait, name="job-reaper", daemon=True).start()
    end = time.monotonic() + BIRTH
    while read(folder).state == "absent" and process.returncode is None and time.monotonic() < end:
        time.sleep(0.01)
    if read(folder).state == "absent":
        layout.write_json(
            folder / NOTE, asdict(Note("working")), durable=False
        )  # ended before its first note: a crash


def cancel(folder: Path) -> None:
    """Asks the work in a folder to stop; it does so within one piece, and keeps what it has."""
    if held(Path(folder) / LOCK):
        (Path(folder) / STOP).touch()


def wait(folder: Path, tell: Callable[[Note], None] | None = None) -> Note:
    """Waits until the work in a folder is over.

    Args:
        folder: where it is done.
        tell: takes the note whenever it is read, ten times a second.

    Returns:
        the last note.
    """
    while True:
        note = read(folder)
        if tell is not None:
            tell(note)
        if note.over:
            return note
        time.sleep(0.1)
