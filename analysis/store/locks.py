"""Who is alive: a lock the kernel frees when its holder dies, and the facts that allow a signal to be sent.

A process number says little (it is reused, and a killed child still answers as a zombie), and the age of a
heartbeat says less (clocks jump, machines sleep). A lock held on ``<run>/lock`` is the one sign of life used
here.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class RunLock:
    """An exclusive lock on a file, freed by ``release`` or by the death of the process in whatever way."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def acquire(self, blocking: bool = False, patience: float = 0.3) -> bool:
        """Take the lock.

        Args:
            blocking: wait for as long as it takes.
            patience: seconds to go on trying otherwise, in [0, ∞); a reader's look holds the lock for
                microseconds, so a single refusal does not mean that somebody works in the folder.

        Returns:
            whether the lock is now held.
        """
        if self._descriptor is not None:
            return True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.01)
                    continue
                os.close(descriptor)
                return False
            if _same_file(descriptor, self.path):
                self._descriptor = descriptor
                return True
            # The folder was deleted or restored while we waited: what we locked is no longer what others look
            # at.
            os.close(descriptor)
            if not self.path.parent.is_dir():
                return False
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def release(self) -> None:
        """Free the lock; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def forget(self) -> None:
        """In a forked child: close the inherited copy, which would keep the parent's lock alive after it."""
        self.release()

    def __enter__(self) -> RunLock:
        self.acquire(blocking=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that now has this name."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def held(path: Path) -> bool:
    """Whether a living process holds the lock on this file; False when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared, so that two readers looking at once do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def boot_id() -> str:
    """A text that changes with every start of the machine; empty where the system does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone or the system does not say.

    Counted from boot, so a corrected clock does not change it; with the process number and the boot it names
    one process for good.
    """
    try:
        text = Path(f"/proc/{int(pid)}/stat").read_text()
    except (OSError, ValueError):
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    after = text.rpartition(")")[2].split()
    return int(after[19]) if len(after) > 19 else None


def identity(pid: int | None = None) -> dict[str, object]:
    """What a state file says about the process that writes it: ``pid``, ``pid_start``, ``boot_id``."""
    pid = os.getpid() if pid is None else pid
    return {"pid": pid, "pid_start": start_ticks(pid), "boot_id": boot_id()}


def is_same_process(state: dict[str, object]) -> bool:
    """Whether the process a state file names is still that very process, so that it may be signalled."""
    pid = state.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 1:
        return False
    if state.get("boot_id", "") != boot_id():
        return False
    started = start_ticks(pid)
    if started is None and not Path("/proc/self/stat").exists():
        try:  # no /proc (macOS): the process number and the held lock together are what there is
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    return started is not None and started == state.get("pid_start")
