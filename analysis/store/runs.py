"""Runs: create one, read one whatever its condition, list them, change their state."""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.errors import RunError
from analysis.spec import SCHEMA_VERSION
from analysis.store import layout, locks
from analysis.store.layout import RECORDED, is_id, read_json, run_path, write_json

FINAL = ("done", "failed", "stopped", "diverged")
STATES = ("queued", "running", *FINAL)
SPEC, STATE, LOCK = "spec.json", "state.json", "lock"
NEW_PREFIX = ".new-"

CRASHED = "The worker was killed or the machine went down; resume goes on from the last checkpoint."


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is known of a run without opening its arrays.

    ``state`` is decided while reading: ``queued``, ``running`` (the worker's lock is held), ``done``,
    ``failed``, ``stopped``, ``diverged``, ``crashed`` (running on file, lock free) or ``unreadable``
    (``reason`` says why). ``seconds`` is time spent working, over all attempts. Unknown numbers are NaN,
    unknown texts "".
    """

    id: str
    path: Path
    recorded: bool
    state: str
    reason: str = ""
    name: str = ""
    recipe: str = ""
    model: str = ""
    task: str = ""
    keep: float = math.nan
    seed: int = 0
    step: int = 0
    steps: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    attempt: int = 0
    created: str = ""
    started: str = ""
    ended: str = ""
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing will happen any more unless somebody resumes it."""
        return self.state not in ("queued", "running")


def now() -> str:
    """The time of day for people, ISO 8601 in UTC; durations are never computed from it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def create_run(runs: Path, spec: dict[str, Any]) -> str:
    """Make the folder of a new run in state ``queued``.

    The folder appears whole or not at all, and two processes never get the same id: it is filled under
    another name and moved into place, which fails where something is there already.

    Args:
        runs: runs folder, made when missing.
        spec: JSON form of a ``RunSpec``.

    Returns:
        the run's id, ``<recipe>-<six hexadecimal digits>``.

    Raises:
        RunError: the runs folder cannot be written to.
    """
    runs = layout.make_runs_dir(runs)
    label = re.sub(r"[^a-z0-9]+", "-", str(spec.get("recipe", "")).lower()).strip("-")[:57] or "run"
    steps = spec.get("training", {}).get("steps", 0)
    state = {
        "state": "queued", "reason": "", "step": 0, "steps": steps, "progress": 0.0, "created": now(),
        "started": None, "ended": None, "seconds": 0.0, "attempt": 1,
        "pid": None, "pid_start": None, "boot_id": "",
    }  # fmt: skip
    fresh = runs / f"{NEW_PREFIX}{secrets.token_hex(8)}"
    try:
        fresh.mkdir()
        write_json(fresh / SPEC, spec)
        write_json(fresh / STATE, state)
        while True:
            run_id = f"{label}-{secrets.token_hex(3)}"
            if (RECORDED / run_id).exists():
                continue
            try:
                os.rename(fresh, runs / run_id)
            except OSError:
                if (runs / run_id).exists():
                    continue
                raise
            layout.sync_folder(runs)
            return run_id
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise RunError(
            f"A run cannot be created in {str(runs)!r} ({error.strerror or error}): free some space or "
            f"choose another folder with --runs-dir."
        ) from error


def find_run(runs: Path, run_id: str) -> RunInfo:
    """Read the run with this id, among the user's runs or the recorded ones.

    Raises:
        RunError: the id is malformed, or there is no such run.
    """
    for folder in (run_path(runs, run_id), run_path(RECORDED, run_id)):
        if folder.is_dir():
            return read_run(folder)
    raise RunError(
        f"There is no run {run_id!r} in {str(runs)!r} or among the recorded runs: "
        "`python -m analysis list` shows the ids that exist."
    )


def list_runs(runs: Path, recorded: bool = True) -> list[RunInfo]:
    """All runs of a folder, newest first; what cannot be read is listed as ``unreadable``, never left out.

    Args:
        runs: runs folder; a missing one holds no runs.
        recorded: add the runs that ship with the project, after the user's own.
    """
    own = sorted(map(read_run, _folders(Path(runs))), key=lambda run: (run.created, run.id), reverse=True)
    if not recorded or Path(runs).resolve() == RECORDED:
        return own
    return own + sorted(map(read_run, _folders(RECORDED)), key=lambda run: run.id)


def _folders(runs: Path) -> Iterator[Path]:
    """Folders that stand for runs; hidden ones are the store's own."""
    try:
        with os.scandir(runs) as entries:
            names = [entry.name for entry in entries if entry.name[0] not in "._" and entry.is_dir()]
    except OSError:
        return iter(())
    return (runs / name for name in names)


def read_run(path: Path, locked: bool = False) -> RunInfo:
    """Read a run's folder in whatever condition it is; never raises for what a folder holds.

    Args:
        path: the run's folder.
        locked: the caller itself holds the run's lock, which therefore is no sign of a worker.
    """
    path = Path(path)
    recorded = path.parent == RECORDED
    try:
        if not is_id(path.name):
            raise ValueError(
                "its name is no run id (lower-case letters, digits and hyphens); rename it or move it away"
            )
        spec, state = _object(path, SPEC), _object(path, STATE)
        version = spec.get("schema_version", 1)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ValueError(
                f"it was written by a newer version of this application (schema {version}, this one reads up "
                f"to {SCHEMA_VERSION}); update the application"
            )
        return _info(path, recorded, spec, _decided(path, state, locked))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        return RunInfo(
            path.name, path, recorded, "unreadable", f"This folder cannot be read as a run: {error}."
        )


def _object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in one of a run's files, or a ValueError that says in words what is wrong with it."""
    try:
        value = read_json(path / name)
    except FileNotFoundError:
        raise ValueError(f"{name} is missing") from None
    except OSError as error:
        raise ValueError(f"{name} cannot be opened ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{name} holds no valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds {type(value).__name__}, not an object")
    return value


def _decided(path: Path, state: dict[str, Any], locked: bool) -> dict[str, Any]:
    """The state as it is true now: what the file says, checked against the worker's lock."""
    if state.get("state") == "running" and (locked or not locks.held(path / LOCK)):
        # The worker writes its last word before it frees the lock: read again before calling it dead.
        state = _object(path, STATE)
        if state.get("state") == "running":
            state = {**state, "state": "crashed", "reason": state.get("reason") or CRASHED}
    elif state.get("state") not in STATES:
        raise ValueError(
            f"{STATE} gives the state {layout.shown(state.get('state'))}, known are {', '.join(STATES)}"
        )
    return state


def _info(path: Path, recorded: bool, spec: dict[str, Any], state: dict[str, Any]) -> RunInfo:
    """Put the fields of both files together."""
    task = spec.get("task")
    keep = spec.get("keep")
    return RunInfo(
        id=path.name,
        path=path,
        recorded=recorded,
        state=state["state"],
        reason=_text(state.get("reason")),
        name=_text(spec.get("name")),
        recipe=_text(spec.get("recipe")),
        model=_text(spec.get("model")),
        task=_text(task.get("source") if isinstance(task, dict) else task),
        keep=math.nan if keep is None else float(keep),
        seed=int(spec.get("seed") or 0),
        step=int(state.get("step") or 0),
        steps=int(state.get("steps") or 0),
        progress=float(state.get("progress") or 0.0),
        seconds=float(state.get("seconds") or 0.0),
        attempt=int(state.get("attempt") or 0),
        created=_text(state.get("created")),
        started=_text(state.get("started")),
        ended=_text(state.get("ended")),
        spec=spec,
    )


def _text(value: object) -> str:
    """A text field; anything that is not a text reads as empty."""
    return value if isinstance(value, str) else ""


def read_state(path: Path) -> dict[str, Any]:
    """The state file of a run as it stands, for whoever holds the run's lock.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return _object(path, STATE)
    except ValueError as error:
        raise RunError(f"Run {path.name!r} cannot go on: {error}; delete it or restore the file.") from error


def set_state(
    path: Path, changes: dict[str, Any] | None = None, *, durable: bool = True, **more: Any
) -> dict[str, Any]:
    """Change fields of a run's state file; only the holder of the run's lock may do so.

    Args:
        path: the run's folder.
        changes: new values by field.
        durable: wait for the disk; progress reports do not.
        more: further new values.

    Returns:
        the whole state as written.
    """
    state = {**read_state(path), **(changes or {}), **more}
    write_json(path / STATE, state, durable)
    return state
