"""The waiting line: one small file per waiting run, in the order of their names.

A ticket only gives the order; whether a run waits is said by its state file. A ticket too many is dropped
when its turn comes, a ticket lost is written again when the next runner starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import RunError
from analysis.store.layout import make_runs_dir, read_json, write_json

FOLDER = ".queue"
SETTINGS = ".settings.json"
PASSED_ON = ("PRUNING_LAB_", "HF_HOME", "CUDA_VISIBLE_DEVICES")  # beginnings of names
HIGHEST_LIMIT = 64

_TICKET = re.compile(r"(\d{1,20})-([a-z0-9-]{1,64})")


@dataclass(frozen=True, order=True)
class Ticket:
    """A place in the line."""

    time_ns: int
    run_id: str
    path: Path

    def environment(self) -> dict[str, str] | None:
        """Settings (``PASSED_ON``) of whoever launched the run, None when the ticket does not say."""
        try:
            found = read_json(self.path)
        except (OSError, ValueError):
            return None
        named = found.get("environment") if isinstance(found, dict) else None
        if not isinstance(named, dict):
            return None
        return {str(key): str(value) for key, value in named.items() if str(key).startswith(PASSED_ON)}

    def drop(self) -> None:
        """Leave the line; harmless when somebody else did it first."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def enqueue(runs: Path, run_id: str) -> None:
    """Put a run at the end of the line."""
    folder = Path(runs) / FOLDER
    folder.mkdir(exist_ok=True)
    settings = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
    last = max((ticket.time_ns for ticket in tickets(runs)), default=0)
    # A clock set back must not let a newcomer jump the line.
    write_json(folder / f"{max(time.time_ns(), last + 1)}-{run_id}", {"environment": settings})


def tickets(runs: Path) -> list[Ticket]:
    """The line, first come first."""
    try:
        entries = list((Path(runs) / FOLDER).iterdir())
    except OSError:
        return []
    return sorted(
        Ticket(int(found[1]), found[2], entry)
        for entry in entries
        if (found := _TICKET.fullmatch(entry.name))
    )


def withdraw(runs: Path, run_id: str) -> None:
    """Take every ticket of a run out of the line."""
    for ticket in tickets(runs):
        if ticket.run_id == run_id:
            ticket.drop()


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_limit() -> int:
    """Runs at a time when nobody chose: one per core, at most 8 (each needs its own model in memory)."""
    return max(1, min(cores(), 8))


def queue_limit(runs: Path) -> int:
    """How many runs of this folder may work at a time."""
    try:
        found = read_json(Path(runs) / SETTINGS)
    except (OSError, ValueError):
        return default_limit()
    limit = found.get("limit") if isinstance(found, dict) else None
    return limit if isinstance(limit, int) and 1 <= limit <= HIGHEST_LIMIT else default_limit()


def set_queue_limit(runs: Path, limit: int) -> None:
    """Choose how many runs may work at a time; a working runner takes it up within a second.

    Args:
        runs: runs folder.
        limit: runs at a time, in [1, 64].

    Raises:
        RunError: the limit is out of range.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= HIGHEST_LIMIT:
        raise RunError(
            f"The number of runs at a time is {limit!r}: give a whole number from 1 to {HIGHEST_LIMIT}."
        )
    write_json(make_runs_dir(runs) / SETTINGS, {"limit": limit})
