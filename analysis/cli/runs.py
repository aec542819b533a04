"""Verbs that act on runs: list, stop, resume, delete, restore, export, limit."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli.options import RunId, Wait
from analysis.cli.run import run
from analysis.cli.shared import Json, RunsDir, cell, emit, folder, outcome, say, table, write
from analysis.errors import RunError
from analysis.store import launch, trash
from analysis.store.runs import RunInfo, find_run, list_runs
from analysis.store.waiting import wait_for

COLUMNS = ("run", "name", "state", "reason", "recipe", "model", "task", "keep", "seed", "progress")
PATIENCE = 60.0


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("run")(run)
    app.command("list")(list_)
    app.command("stop")(stop)
    app.command("resume")(resume)
    app.command("delete")(delete)
    app.command("restore")(restore)
    app.command("export")(export)
    app.command("limit")(limit)


def list_(
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Also list the runs that ship with the project.")
    ] = False,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """List runs, newest first."""
    found = [_listed(info) for info in list_runs(folder(runs_dir), recorded=recorded)]
    shown = ("run", "state", "progress", "recipe", "keep", "seed", "model", "task", "name", "reason")
    emit(
        found,
        json,
        lambda: table(found, shown, "There are no runs yet: `python -m analysis demo` makes some."),
    )


def _listed(info: RunInfo) -> dict[str, Any]:
    """A run as `list` prints it."""
    return {"run": info.id, **{column: getattr(info, column) for column in COLUMNS[1:]}}


def stop(
    run_id: RunId,
    force: Annotated[bool, typer.Option("--force", help="Kill a worker that does not react.")] = False,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> int:
    """Stop a waiting or working run; what it did is kept, and `resume` goes on from there."""
    where = folder(runs_dir)
    launch.stop_run(where, run_id, force)
    end = time.monotonic() + PATIENCE
    info = find_run(where, run_id)
    while not info.over and time.monotonic() < end:
        time.sleep(0.05)
        info = find_run(where, run_id)
    if not info.over:
        say(f"{run_id} was asked to stop and is still busy with a step; `stop --force` kills it.")
    emit(outcome(info), json, lambda: write(f"{run_id}  {info.state}"))
    return 0 if info.over else 1


def resume(
    run_id: RunId,
    wait: Wait = False,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> int:
    """Go on with a run that crashed, failed or was stopped, from its newest good checkpoint."""
    where = folder(runs_dir)
    launch.resume_run(where, run_id)
    info = wait_for(where, [run_id], say)[0] if wait else find_run(where, run_id)
    emit(outcome(info), json, lambda: write(f"{run_id}  {info.state}  {info.reason}".rstrip()))
    return 0 if not wait or info.state == "done" else 1


def delete(run_id: RunId, runs_dir: RunsDir = None, json: Json = False) -> None:
    """Delete a run that is over; `restore` brings it back for a day."""
    token = trash.delete_run(folder(runs_dir), run_id)
    emit(
        {"run": run_id, "token": token},
        json,
        lambda: write(f"{run_id} is deleted; `restore {token}` brings it back."),
    )


def restore(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What `delete` printed.", show_default=False)],
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """Bring a deleted run back."""
    run_id = trash.restore_run(folder(runs_dir), token)
    emit({"run": run_id}, json, lambda: write(run_id))


def export(
    run_id: RunId,
    target: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder to make; must not exist.", show_default=False)
    ],
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """Copy the model a run made, an ordinary Hugging Face folder, to where you want it."""
    info = find_run(folder(runs_dir), run_id)
    source, target = info.path / "model", target.expanduser().resolve()
    if not source.is_dir():
        raise RunError(
            f"Run {run_id!r} is {info.state} and has no model to export: choose a run that is done."
        )
    if target.exists():
        raise RunError(f"The folder {str(target)!r} exists: choose a name that is free.")
    try:
        shutil.copytree(source, target)
    except OSError as error:
        raise RunError(
            f"The model cannot be copied to {str(target)!r} ({cell(error.strerror)}): choose another."
        ) from error
    emit({"run": run_id, "folder": str(target)}, json, lambda: write(str(target)))


def limit(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="Runs that may work at a time.", show_default=False)
    ] = None,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """Say how many runs may work at a time, or choose it; the others wait in the line."""
    where = folder(runs_dir)
    if number is not None:
        launch.set_queue_limit(where, number)
    found = launch.queue_limit(where)
    emit({"limit": found}, json, lambda: write(str(found)))
