"""Spec to JSON and back, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

from analysis.errors import SpecError
from analysis.parts import LOSSES, SLOTS
from analysis.parts.base import Part, checked, knobs, unknown_field
from analysis.spec.core import SCHEMA_VERSION, LineUp, RunSpec, TaskSpec, Training
from analysis.spec.stages import Stage

OPTIONAL = ("lookahead", "graft", "embedding", "distillation", "hidden", "attention", "penalty")
# A slot that came later is left out where it is empty: what was written before it keeps its name.
LATER = ("lookahead", "graft", "embedding", "hidden", "attention")
STAGE = {f.name: f.default for f in fields(Stage) if f.default is not MISSING} | {"settings": {}}


def part_to_dict(part: Part) -> dict[str, Any]:
    """A part as JSON: its type and its fields."""
    return {"type": type(part).__name__, **asdict(part)}  # type: ignore[call-overload]


def part_from_dict(slot: str, data: Any) -> Part:
    """The part described by JSON.

    Raises:
        SpecError: the type is not one the slot knows, or a field is unknown or out of range.
    """
    known = {**SLOTS, **LOSSES}[slot]
    if not isinstance(data, Mapping) or data.get("type") not in known:
        given = data.get("type") if isinstance(data, Mapping) else data
        raise SpecError(f"parts.{slot} is {given!r}; allowed types are {', '.join(known)}.")
    return _build(known[data["type"]], {k: v for k, v in data.items() if k != "type"})


def _build(part: type, data: Mapping[str, Any]) -> Any:
    allowed = {k.name: k for k in knobs(part)}
    for name in data:
        if name not in allowed:
            raise SpecError(unknown_field(part, name))
    return part(**{name: checked(allowed[name], value, part.__name__) for name, value in data.items()})


def to_dict(spec: RunSpec) -> dict[str, Any]:
    """The spec as JSON-ready data; ``from_dict`` gives an equal spec back."""
    parts: dict[str, Any] = {}
    for slot in (*SLOTS, *LOSSES):
        part = getattr(spec.parts, slot)
        if part is not None or slot not in LATER:
            parts[slot] = None if part is None else part_to_dict(part)
    staged = {"stages": [asdict(s) for s in spec.stages]} if spec.stages else {}
    return {
        "schema_version": spec.schema_version,
        "name": spec.name,
        "recipe": spec.recipe,
        "model": spec.model,
        "task": asdict(spec.task),
        "keep": spec.keep,
        "seed": spec.seed,
        "teacher": spec.teacher,
        **staged,
        "training": asdict(spec.training),
        "parts": parts,
        "versions": dict(spec.versions),
    }


def from_dict(data: Any) -> RunSpec:
    """The spec described by JSON.

    Raises:
        SpecError: not an object, written by a newer version, or a key or value that is not allowed.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"a spec is a JSON object; this one is {type(data).__name__}.")
    found = data.get("schema_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise SpecError(f"schema_version is {found!r}; allowed is a whole number from 1 to {SCHEMA_VERSION}.")
    if found > SCHEMA_VERSION:
        raise SpecError(
            f"the spec has schema_version {found}, written by a newer version of this program, which reads "
            f"up to {SCHEMA_VERSION}: update the program or write the spec anew."
        )
    known = {
        "schema_version",
        "name",
        "recipe",
        "model",
        "task",
        "keep",
        "seed",
        "teacher",
        "stages",
        "training",
        "parts",
        "versions",
    }
    for key in data:
        if key not in known:
            raise SpecError(f"the spec has an unknown key {key!r}; its keys are {', '.join(sorted(known))}.")
    for key in ("recipe", "model", "task", "parts"):
        if key not in data:
            raise SpecError(f"the spec has no {key!r}; needed are recipe, model, task and parts.")
    return RunSpec(
        recipe=_text(data, "recipe"),
        model=_text(data, "model"),
        task=_build(TaskSpec, _object(data, "task")),
        parts=_line_up(_object(data, "parts")),
        training=_build(Training, _object(data, "training")),
        keep=data.get("keep", 1.0),
        seed=data.get("seed", 0),
        teacher=_text(data, "teacher"),
        stages=_stages(data.get("stages", [])),
        name=_text(data, "name"),
        versions={str(k): str(v) for k, v in _object(data, "versions").items()},
    )


def _stages(data: Any) -> tuple[Stage, ...]:
    if not isinstance(data, list) or not all(isinstance(s, Mapping) for s in data):
        raise SpecError(f"stages is {data!r}; allowed is a list of JSON objects.")
    known = [f.name for f in fields(Stage)]
    for stage in data:
        for key in stage:
            if key not in known:
                raise SpecError(f"a stage has an unknown key {key!r}; its keys are {', '.join(known)}.")
        if not isinstance(stage.get("settings", {}), Mapping) or "name" not in stage:
            raise SpecError("a stage needs a name, and its settings are a JSON object.")
    return tuple(Stage(**stage) for stage in data)


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise SpecError(f"{key} is {value!r}; allowed is a text.")
    return value


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise SpecError(f"{key} is {value!r}; allowed is a JSON object.")
    return value


def _line_up(data: Mapping[str, Any]) -> LineUp:
    slots = (*SLOTS, *LOSSES)
    for key in data:
        if key not in slots:
            raise SpecError(f"parts has an unknown slot {key!r}; its slots are {', '.join(slots)}.")
    needed = [slot for slot in SLOTS if slot not in OPTIONAL]
    for slot in needed:
        if slot not in data:
            raise SpecError(f"parts has no {slot!r}; needed are {', '.join(needed)}.")
    built = {slot: part_from_dict(slot, data[slot]) for slot in slots if data.get(slot) is not None}
    return LineUp(**built)  # type: ignore[arg-type]


def fingerprint(spec: RunSpec) -> str:
    """Eight hex digits that name what is computed; labels, versions and fields left at their default do not
    count.
    """
    return hashed(computed(to_dict(spec)))


def hashed(data: Mapping[str, Any]) -> str:
    """Eight hex digits of JSON-ready data, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def computed(data: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what a run computes: a spec as JSON without labels, versions, and fields at their default.

    Without the defaults a field that is added later leaves old runs what they were.

    Args:
        data: JSON form of a spec; what it lacks or what is unknown in it is left as it is.
    """
    found = {k: v for k, v in data.items() if k not in ("name", "versions", "schema_version")}
    for name, kind in (("task", TaskSpec), ("training", Training)):
        if isinstance(found.get(name), Mapping):
            found[name] = _without_defaults(kind, found[name])
    if isinstance(found.get("stages"), list):
        found["stages"] = [_without(STAGE, s) if isinstance(s, Mapping) else s for s in found["stages"]]
    if isinstance(found.get("parts"), Mapping):
        found["parts"] = {slot: _computed_part(slot, part) for slot, part in found["parts"].items()}
    return found


def _computed_part(slot: str, part: Any) -> Any:
    known = {**SLOTS, **LOSSES}.get(slot, {})
    if not isinstance(part, Mapping) or part.get("type") not in known:
        return part
    return _without_defaults(known[part["type"]], part)


def _without_defaults(part: type, data: Mapping[str, Any]) -> dict[str, Any]:
    return _without({k.name: k.default for k in knobs(part)}, data)


def _without(defaults: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in defaults or value != defaults[name]}
