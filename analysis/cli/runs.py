"""Verbs that act on runs: run, list, stop, resume, delete, restore, export, limit."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import recipes, spec
from analysis.cli.options import (
    Keep,
    Model,
    Name,
    Recipe,
    RunId,
    Seed,
    Set,
    SpecFile,
    Steps,
    Task,
    Teacher,
    Wait,
)
from analysis.cli.shared import Json, RunsDir, cell, emit, folder, say, table, write
from analysis.engine import preflight
from analysis.errors import RunError, SpecError
from analysis.parts.losses import Task as TaskLoss
from analysis.spec import RunSpec
from analysis.store import launch, layout, trash
from analysis.store.runs import RunInfo, find_run, list_runs
from analysis.store.waiting import wait_for

COLUMNS = ("run", "name", "state", "reason", "recipe", "model", "task", "keep", "seed", "progress")
MODEL = "bundled:text"
TASKS = {"bundled:text": "bundled:opinions", "bundled:digits": "bundled:digits"}
PATIENCE = 60.0
NO_TEACHER = "none"


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


def run(
    spec_file: SpecFile = None,
    recipe: Recipe = "",
    model: Model = "",
    task: Task = "",
    keep: Keep = None,
    seed: Seed = None,
    steps: Steps = None,
    set_: Set = None,
    teacher: Teacher = "",
    name: Name = "",
    wait: Wait = False,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> int:
    """Launch a run, from a recipe or from a spec file.

    The run goes on in the background when this command ends, whatever happens to the terminal.
    """
    settings = _settings(set_ or [])
    model, task, teacher = (_local(text) for text in (model, task, teacher))
    if spec_file is not None:
        if recipe:
            raise SpecError(
                f"--recipe is {recipe!r}, but {str(spec_file)!r} names one: give a spec file or a recipe."
            )
        settings |= {} if steps is None else {"training.steps": str(steps)}
        chosen = _changed(_read_spec(spec_file), settings, model, task, keep, seed, teacher, name)
    elif recipe:
        model = model or MODEL
        chosen = recipes.build(
            recipe,
            model,
            task or TASKS.get(model, TASKS[MODEL]),
            keep=keep,
            seed=seed or 0,
            steps=steps,
            settings=settings,
            teacher="" if teacher == NO_TEACHER else teacher,
            name=name,
        )
    else:
        raise SpecError(
            f"What to run is not said: give --recipe, one of {', '.join(recipes.RECIPES)}, or a spec file."
        )
    where = folder(runs_dir)
    preflight.check(chosen, where)
    run_id = launch.launch(where, spec.to_dict(chosen))
    if not wait:
        emit({"run": run_id}, json, lambda: write(run_id))
        return 0
    info = wait_for(where, [run_id], say)[0]
    emit(_outcome(info), json, lambda: write(f"{run_id}  {info.state}  {info.reason}".rstrip()))
    return 0 if info.state == "done" else 1


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    """The settings given as ``part.field=value``."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise SpecError(f"--set is {pair!r}: write PART.FIELD=VALUE, for instance score.lr=0.05.")
        found[key.strip()] = value.strip()
    return found


def _local(name: str) -> str:
    """A path that exists here, made absolute, because the worker runs elsewhere; other names as they are."""
    if not name or ":" in name.split("/")[0]:
        return name
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _read_spec(path: Path) -> RunSpec:
    """The spec in a file."""
    try:
        return spec.from_dict(layout.read_json(path))
    except OSError as error:
        raise SpecError(
            f"The spec file {str(path)!r} cannot be read ({error.strerror}): give an existing file."
        ) from error
    except ValueError as error:
        raise SpecError(f"The spec file {str(path)!r} holds no valid JSON ({error}): correct it.") from error


def _changed(
    found: RunSpec,
    settings: Mapping[str, str],
    model: str,
    task: str,
    keep: float | None,
    seed: int | None,
    teacher: str,
    name: str,
) -> RunSpec:
    """A spec with what the command line says in place of what the file says; --teacher none drops one."""
    said: dict[str, Any] = {"model": model, "name": name}
    changes = {key: value for key, value in said.items() if value}
    if keep is not None:
        changes["keep"] = keep
    if seed is not None:
        changes["seed"] = seed
    if task:
        changes["task"] = dataclasses.replace(found.task, source=task)
    # A teacher and the loss that follows it only make sense together, so they change in one step.
    own = found.parts.distillation
    if teacher and own is not None and own.needs_teacher:
        parts = dataclasses.replace(found.parts, distillation=None, task=TaskLoss())
        found = dataclasses.replace(found, teacher="", parts=parts)
    elif teacher:
        found = dataclasses.replace(found, teacher="")
    if teacher and teacher != NO_TEACHER:
        parts = recipes.taught(found.parts) if found.parts.distillation is None else found.parts
        changes |= {"teacher": teacher, "parts": parts}
    found = dataclasses.replace(found, versions=spec.installed_versions(), **changes)
    return recipes.configured(found, settings)


def _outcome(info: RunInfo) -> dict[str, Any]:
    """How a run stands, in a few fields."""
    return {"run": info.id, "state": info.state, "reason": info.reason, "seconds": info.seconds}


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
    emit(_outcome(info), json, lambda: write(f"{run_id}  {info.state}"))
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
    emit(_outcome(info), json, lambda: write(f"{run_id}  {info.state}  {info.reason}".rstrip()))
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
