"""Deleting runs so that it can be undone, and clearing away what killed processes left behind."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from analysis.errors import RunError
from analysis.store import layout, queue
from analysis.store.layout import RECORDED, run_path
from analysis.store.locks import RunLock
from analysis.store.runs import LOCK, NEW_PREFIX, STATE, read_run, set_state

DAY = 24 * 3600.0
_TRASH = re.compile(r"\.trash-([0-9a-f]{8})([0-9a-f]{8})-([a-z0-9-]{1,64})")


def delete_run(runs: Path, run_id: str) -> str:
    """Take a run out of sight; the files stay for a day, so that ``restore_run`` can bring it back.

    One rename does it: a process killed at any instant leaves the run either whole where it was or whole in
    the trash.

    Returns:
        a token for ``restore_run``.

    Raises:
        RunError: the run is at work, is recorded, or does not exist.
    """
    path = run_path(runs, run_id)
    if not path.is_dir():
        if run_path(RECORDED, run_id).is_dir():
            raise RunError(
                f"Run {run_id!r} is recorded and ships with the project: only your own can be deleted."
            )
        raise RunError(
            f"There is no run {run_id!r} in {str(runs)!r}: `python -m analysis list` shows them all."
        )
    lock = RunLock(path / LOCK)
    try:
        if not lock.acquire():
            raise RunError(f"Run {run_id!r} is at work and cannot be deleted: stop it first.")
        if read_run(path, locked=True).state == "queued":
            queue.withdraw(runs, run_id)
            set_state(path, state="stopped", reason="It was deleted before it began.")
        token = f"{int(time.time()) & 0xFFFFFFFF:08x}{secrets.token_hex(4)}"
        os.rename(path, Path(runs) / f".trash-{token}-{run_id}")
        layout.sync_folder(Path(runs))
    except OSError as error:
        raise RunError(
            f"Run {run_id!r} cannot be deleted ({error.strerror or error}): check the permissions of "
            f"{str(runs)!r}."
        ) from error
    finally:
        lock.release()
    return token


def restore_run(runs: Path, token: str) -> str:
    """Bring a deleted run back.

    Args:
        runs: runs folder.
        token: what ``delete_run`` returned.

    Returns:
        the run's id.

    Raises:
        RunError: nothing lies in the trash under this token, or its place is taken.
    """
    for entry in _trash(Path(runs)):
        found = _TRASH.fullmatch(entry.name)
        if found and found[1] + found[2] == token:
            target = run_path(runs, found[3])
            try:
                os.rename(entry, target)
            except OSError as error:
                raise RunError(
                    f"Run {found[3]!r} cannot be restored ({error.strerror}): another folder of that name is "
                    f"in its place."
                ) from error
            return found[3]
    raise RunError(
        f"{layout.shown(token)} names no deleted run in {str(runs)!r}: deleted runs can be restored for a "
        f"day, with the token that deleting printed."
    )


def _trash(runs: Path) -> list[Path]:
    """Deleted runs, in no order."""
    try:
        return [entry for entry in runs.iterdir() if entry.name.startswith(".trash-")]
    except OSError:
        return []


def sweep_trash(runs: Path, age: float = DAY) -> int:
    """Remove for good what was deleted long ago, and what killed processes left half-written.

    Args:
        runs: runs folder.
        age: seconds after which the trash is emptied, in [0, ∞).

    Returns:
        how many things were removed.
    """
    runs = Path(runs)
    removed = 0
    for entry in _trash(runs):
        found = _TRASH.fullmatch(entry.name)
        if found is None or time.time() - int(found[1], 16) > age:
            shutil.rmtree(entry, ignore_errors=True)
            removed += 1
    try:
        entries = list(runs.iterdir())
    except OSError:
        return removed
    for entry in entries:
        if entry.name.startswith(NEW_PREFIX) and _older(entry, 3600.0):
            shutil.rmtree(entry, ignore_errors=True)
            removed += 1
        elif layout.is_id(entry.name) and entry.is_dir():
            removed += _sweep_run(entry)
    return removed


def _older(path: Path, seconds: float) -> bool:
    """Whether a file was last written longer ago than this."""
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return False


def _sweep_run(path: Path) -> int:
    """Remove half-written and half-deleted files of one run, unless somebody works in it."""
    left = [entry for ending in (".tmp", ".trash") for entry in path.glob(f"*{ending}")]
    left += [entry for ending in (".tmp", ".trash") for entry in path.glob(f"*/*{ending}")]
    if not left or not (path / STATE).exists():
        return 0
    lock = RunLock(path / LOCK)
    if not lock.acquire(patience=0.0):
        return 0
    try:
        for entry in left:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()
    finally:
        lock.release()
    return len(left)
