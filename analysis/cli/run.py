"""The verb that starts runs: from recipes, or from a spec file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis import recipes, spec
from analysis.cli.options import (
    Keep,
    Model,
    Name,
    Recipe,
    Seed,
    Set,
    SpecFile,
    Steps,
    Task,
    Teacher,
    Wait,
)
from analysis.cli.shared import Json, RunsDir, emit, folder, outcome, say, write
from analysis.engine import preflight
from analysis.errors import SpecError
from analysis.parts.losses import Task as TaskLoss
from analysis.spec import RunSpec
from analysis.store import launch, layout
from analysis.store.waiting import wait_for

MODEL = "bundled:text"
TASKS = {"bundled:text": "bundled:opinions", "bundled:digits": "bundled:digits"}
NO_TEACHER = "none"
ALL = "all"


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
    """Launch a run, from a recipe or from a spec file; with several recipes, one run of each.

    A run goes on in the background when this command ends, whatever happens to the terminal.
    """
    settings, several = _settings(set_ or []), _several(recipe)
    model, task, teacher = (_local(text) for text in (model, task, teacher))
    if spec_file is not None:
        if recipe:
            raise SpecError(
                f"--recipe is {recipe!r}, but {str(spec_file)!r} names one: give a spec file or a recipe."
            )
        settings |= {} if steps is None else {"training.steps": str(steps)}
        chosen = [_changed(_read_spec(spec_file), settings, model, task, keep, seed, teacher, name)]
    elif recipe:
        model, given = model or MODEL, "" if teacher == NO_TEACHER else teacher
        chosen = [
            recipes.build(
                one,
                model,
                task or TASKS.get(model, TASKS[MODEL]),
                keep=1.0 if one == "dense" and several else keep,
                seed=seed or 0,
                steps=steps,
                settings=settings,
                teacher=recipes.teacher_for(one, given) if several else given,
                name=name,
            )
            for one in several or [recipe]
        ]
    else:
        raise SpecError(
            f"What to run is not said: give --recipe, one of {', '.join(recipes.RECIPES)}, or a spec file."
        )
    where = folder(runs_dir)
    for one in chosen:
        preflight.check(one, where)
    ids = launch.launch_all(where, [spec.to_dict(one) for one in chosen])
    if not wait:
        found: list[dict[str, Any]] = [{"run": run_id} for run_id in ids]
    else:
        found = [outcome(info) for info in wait_for(where, ids, say)]
    emit(found if several else found[0], json, lambda: _tell(found))
    return 0 if all(row.get("state", "done") == "done" for row in found) else 1


def _several(recipe: str) -> list[str]:
    """The recipes named between commas, or all of them; none where one is named."""
    if recipe == ALL:
        return list(recipes.RECIPES)
    return [word.strip() for word in recipe.split(",") if word.strip()] if "," in recipe else []


def _tell(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        write(f"{row['run']}  {row.get('state', '')}  {row.get('reason', '')}".rstrip())


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
    followers = found.parts.followers()
    if teacher == NO_TEACHER:
        changes["teacher"] = ""
        lost = {slot: None for slot, part in followers.items() if part.needs_teacher}
        if lost and not found.stages:  # stages make a teacher of their own
            changes["parts"] = dataclasses.replace(found.parts, **lost, task=TaskLoss())  # type: ignore[arg-type]
    elif teacher:
        changes["teacher"] = teacher
        if not followers and not found.stages:
            changes["parts"] = recipes.taught(found.parts)
    found = dataclasses.replace(found, versions=spec.installed_versions(), **changes)
    return recipes.configured(found, settings)
