"""From the choices on the launch page to specs, and from a spec back to those choices or to a command
line.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from analysis import recipes
from analysis.engine import hub, preflight
from analysis.errors import DataError, ModelError, SpecError
from analysis.spec import RunSpec, from_dict, legs, to_dict
from analysis.store import layout
from analysis.store.launch import launch_all
from analysis.ui import roots
from analysis.ui.guard import escape

MODELS = ("bundled:text", "bundled:digits")
TASKS = ("bundled:opinions", "bundled:digits")
MOST = 200


@dataclass(frozen=True)
class Choices:
    """What the launch page asks: one run per recipe, keep and seed."""

    model: str
    task: str
    recipes: Sequence[str]
    keeps: Sequence[float]
    seeds: Sequence[int]
    teacher: str = ""
    name: str = ""
    common: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def numbers(text: str, what: str, kind: type[int] | type[float]) -> list[Any]:
    """Reads "0, 1, 2" into numbers.

    Raises:
        SpecError: a word between the commas is not a number.
    """
    found = []
    for word in re.split(r"[,;\s]+", text.strip()):
        try:
            found.append(kind(word))
        except ValueError:
            sample = "0, 1, 2" if kind is int else "0.3, 0.1, 0.03"
            whole = "whole numbers" if kind is int else "numbers"
            raise SpecError(
                f"{what} is {text[:60]!r}; allowed are {whole} between commas, for example {sample}."
            ) from None
    return list(dict.fromkeys(found))


def specs(choices: Choices) -> list[RunSpec]:
    """The runs that the choices ask for, recipe by recipe; a dense run has one keep.

    Raises:
        SpecError: nothing was chosen, too much was, or a value is not allowed.
    """
    if not choices.recipes:
        raise SpecError("No recipe is chosen; choose one or several in the field Recipes.")
    wanted = []
    for recipe, keep, seed in product(choices.recipes, choices.keeps, choices.seeds):
        keep = 1.0 if recipe == "dense" else keep
        if (recipe, keep, seed) not in wanted:
            wanted.append((recipe, keep, seed))
    if len(wanted) > MOST:
        raise SpecError(
            f"The choices make {len(wanted)} runs; allowed are {MOST} at once: take fewer keeps or seeds."
        )
    return [
        recipes.build(
            recipe,
            choices.model,
            choices.task,
            keep=keep,
            seed=seed,
            teacher=recipes.teacher_for(recipe, choices.teacher),
            name=choices.name,
            settings={**choices.common, **choices.knobs.get(recipe, {})},
        )
        for recipe, keep, seed in wanted
    ]


def stages(spec: RunSpec, step: int | None = None) -> str:
    """The stages of a run in words, each with the steps it takes; at a step, the one at work is bold."""
    words = []
    for leg in legs(spec):
        name, kind = escape(leg.stage.name), " (makes the teacher)" if leg.stage.teaches else ""
        now = step is not None and leg.first <= step < leg.last
        words.append(f"{'**' if now else ''}{name}{'**' if now else ''}{kind}, steps {leg.first}–{leg.last}")
    return " → ".join(words)


def base(spec: RunSpec) -> RunSpec:
    """The spec with the recipe's own settings for its task, from which changes are told."""
    return recipes.build(
        spec.recipe,
        spec.model,
        spec.task.source,
        keep=spec.keep,
        seed=spec.seed,
        teacher=spec.teacher,
        name=spec.name,
        settings=_variant(spec),
    )


def _variant(spec: RunSpec) -> dict[str, Any]:
    found = recipes.variant_of(spec)
    return {} if found == recipes.OWN else {recipes.VARIANT: found}


def changes(spec: RunSpec) -> dict[str, Any]:
    """The settings, in the grammar of ``--set``, by which a spec departs from its recipe."""
    mine, plain = to_dict(spec), to_dict(base(spec))
    found: dict[str, Any] = _variant(spec)
    for slot in {**plain["parts"], **mine["parts"]}:
        part, other = mine["parts"].get(slot), plain["parts"].get(slot) or {}
        if part is None:
            if other:
                found[f"{slot}.type"] = "none"
            continue
        same = part["type"] == other.get("type")
        if not same:
            found[f"{slot}.type"] = part["type"]
        found |= {f"{slot}.{k}": v for k, v in part.items() if k != "type" and (not same or v != other[k])}
    for group, prefix in (("task", "data"), ("training", "training")):
        found |= {
            f"{prefix}.{k}": v for k, v in mine[group].items() if k != "source" and v != plain[group][k]
        }
    return found


def command(spec: RunSpec) -> str:
    """The command line that starts the same run; it pastes into any POSIX shell."""
    if base(spec).stages != spec.stages:
        return "python -m analysis run spec.json  # its stages stand only in the spec, saved as JSON"
    words = [
        "python",
        "-m",
        "analysis",
        "run",
        "--recipe",
        spec.recipe,
        "--model",
        spec.model,
        "--task",
        spec.task.source,
    ]
    words += ["--keep", _exact(spec.keep), "--seed", str(spec.seed)]
    settings = changes(spec)
    if "training.steps" in settings:
        words += ["--steps", str(settings.pop("training.steps"))]
    for option in ("teacher", "name"):
        if getattr(spec, option):
            words += [f"--{option}", getattr(spec, option)]
    for name, value in settings.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return shlex.join(words)


def _exact(keep: float) -> str:
    """A keep in as many digits as it takes to read the same number again."""
    return repr(float(keep)).removesuffix(".0")


def address(data: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of the launch page that repeat a saved spec, as parameters of its address.

    Raises:
        SpecError: the saved spec cannot be read by this version.
    """
    spec = from_dict(data)
    params = {
        "model": spec.model,
        "task": spec.task.source,
        "recipes": spec.recipe,
        "keeps": _exact(spec.keep),
        "seeds": str(spec.seed),
        "teacher": spec.teacher or None,
        "name": spec.name or None,
    }
    for name, value in changes(spec).items():
        params[name if name.startswith(("data.", "training.")) else f"{spec.recipe}:{name}"] = str(value)
    return params


def download(wanted: Sequence[RunSpec]) -> tuple[str, bytes]:
    """One spec as JSON, or several as a ZIP of JSON files, each of which ``python -m analysis run FILE``
    takes.
    """
    texts = {
        f"{i:03d}-{s.recipe}-{s.keep:g}-s{s.seed}.json": layout.to_json(to_dict(s), 1)
        for i, s in enumerate(wanted)
    }
    if len(texts) == 1:
        return "spec.json", next(iter(texts.values())).encode("utf-8")
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return "specs.zip", whole.getvalue()


def launch(runs: Path, wanted: Sequence[RunSpec]) -> list[str]:
    """Starts the runs and returns their ids; nothing is started when a model or the data cannot be used."""
    look(runs, wanted)
    looks = {(spec.model, spec.teacher, spec.task): spec for spec in wanted}
    for spec in looks.values():
        preflight.check(spec, runs)
    return launch_all(runs, [to_dict(spec) for spec in wanted])


def look(runs: Path, wanted: Sequence[RunSpec]) -> None:
    """Looks at names and headers alone: cheap enough for every change of the form.

    Raises:
        LabError: a model or a teacher is not there, a path lies outside the folders a visitor may read, or
            blocks do not divide the model.
    """
    for model, teacher, source in {(spec.model, spec.teacher, spec.task.source) for spec in wanted}:
        for name in filter(None, (model, teacher)):
            roots.require_name(name, hub.MODELS, ModelError)
        roots.require_name(source, hub.DATA, DataError)
    for spec in {(spec.model, spec.teacher): spec for spec in wanted}.values():
        preflight.names(spec, runs)
    for spec in {(spec.model, spec.parts.units, repr(spec.stages)): spec for spec in wanted}.values():
        preflight.units(spec, runs)


def found(variable: str, known: Sequence[str]) -> list[str]:
    """The bundled names, then the folders under the folder that an environment variable names."""
    root = os.environ.get(variable, "")
    try:
        names = sorted(e.name for e in os.scandir(root) if not e.name.startswith(".")) if root else []
    except OSError:
        names = []
    return [*known, *names[:200]]
