"""The grammar of ``--set``: ``part.field=value``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from analysis.errors import SpecError
from analysis.parts import LOSSES, SLOTS
from analysis.parts.base import Part, checked, knobs, unknown_field
from analysis.spec.codec import OPTIONAL
from analysis.spec.core import RunSpec, TaskSpec

DATA = tuple(k.name for k in knobs(TaskSpec))


def with_settings(spec: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """Returns the spec with some fields changed.

    Args:
        spec: where to start from.
        settings: name to value. Names are ``slot.field`` (``score.lr``, ``schedule.warmup``,
            ``penalty.weight``), ``slot.type`` (another part in that slot, ``none`` to empty an optional one),
            ``data.field`` or ``task.field`` for the columns and limits of the task (``task.text``),
            ``training.field``; values may be text.

    Returns:
        a new spec.

    Raises:
        SpecError: a name or a value that is not allowed.
    """
    task, training = spec.task, spec.training
    parts: dict[str, Part | None] = {slot: getattr(spec.parts, slot) for slot in (*SLOTS, *LOSSES)}
    # Fields of one part change together: two values that fit each other may not fit the old ones one by one.
    changed: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        slot, _, field = name.partition(".")
        if slot in ("data", "task") and field in DATA:
            changed.setdefault("data", {})[field] = value
        elif slot == "training" or (slot in parts and field and field != "type"):
            changed.setdefault(slot, {})[field] = value
        elif slot in parts and field == "type":
            parts[slot] = _other_type(slot, value)
        else:
            raise SpecError(
                f"{name!r} is not a setting; allowed is PART.FIELD with PART one of "
                f"{', '.join((*SLOTS, *LOSSES, 'training'))}, for example score.lr=0.05."
            )
    for slot, values in changed.items():
        if slot == "data":
            task = _set(task, values)
        elif slot == "training":
            training = _set(training, values)
        else:
            part = parts[slot]
            if part is None:
                field = next(iter(values))
                raise SpecError(
                    f"{slot}.{field} is set but {slot} is empty here; fill it first with {slot}.type=..."
                )
            parts[slot] = _set(part, values)
    line_up = type(spec.parts)(**parts)  # type: ignore[arg-type]
    return dataclasses.replace(spec, task=task, training=training, parts=line_up)


def _set(part: Any, values: Mapping[str, Any]) -> Any:
    known = {k.name: k for k in knobs(type(part))}
    for field in values:
        if field not in known:
            raise SpecError(unknown_field(type(part), field))
    name = type(part).__name__
    return part.replace(**{field: checked(known[field], value, name) for field, value in values.items()})


def _other_type(slot: str, value: Any) -> Part | None:
    known = {**SLOTS, **LOSSES}[slot]
    if slot in OPTIONAL and value == "none":
        return None
    if value not in known:
        none = ", none" if slot in OPTIONAL else ""
        raise SpecError(f"{slot}.type is {value!r}; allowed is one of {', '.join(known)}{none}.")
    return known[value]()
