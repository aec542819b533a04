"""The grammar of ``--set``: ``part.field=value``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.errors import SpecError
from analysis.parts import LOSSES, SLOTS
from analysis.parts.base import Part, checked, knobs, unknown_field
from analysis.spec.codec import OPTIONAL
from analysis.spec.core import LineUp, RunSpec, TaskSpec

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
    data = _of(settings, "data") | _of(settings, "task", DATA)
    training = _of(settings, "training")
    own = {name: v for name, v in settings.items() if name.partition(".")[0] not in ("data", "training")}
    return dataclasses.replace(
        spec,
        task=_set(spec.task, data) if data else spec.task,
        training=_set(spec.training, training) if training else spec.training,
        parts=changed(spec.parts, {n: v for n, v in own.items() if not _is_data(n)}),
    )


def _of(settings: Mapping[str, Any], slot: str, only: Sequence[str] = ()) -> dict[str, Any]:
    split = ((name.partition("."), value) for name, value in settings.items())
    return {field: v for (found, _, field), v in split if found == slot and (not only or field in only)}


def _is_data(name: str) -> bool:
    slot, _, field = name.partition(".")
    return slot == "task" and field in DATA


def changed(line_up: LineUp, settings: Mapping[str, Any]) -> LineUp:
    """Returns the line-up with some fields and parts changed.

    Args:
        line_up: where to start from.
        settings: ``slot.field`` or ``slot.type`` to value, as for ``with_settings``.

    Raises:
        SpecError: a name or a value that is not allowed, or parts that do not go together.
    """
    parts: dict[str, Part | None] = {slot: getattr(line_up, slot) for slot in (*SLOTS, *LOSSES)}
    # Fields of one part change together: two values that fit each other may not fit the old ones one by one.
    fields: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        slot, _, field = name.partition(".")
        if slot in parts and field == "type":
            parts[slot] = _other_type(slot, value)
        elif slot in parts and field:
            fields.setdefault(slot, {})[field] = value
        else:
            raise SpecError(
                f"{name!r} is not a setting; allowed is PART.FIELD with PART one of "
                f"{', '.join((*SLOTS, *LOSSES, 'training'))}, for example score.lr=0.05."
            )
    for slot, values in fields.items():
        part = parts[slot]
        if part is None:
            raise SpecError(
                f"{slot}.{next(iter(values))} is set but {slot} is empty here; fill it first with "
                f"{slot}.type=..."
            )
        parts[slot] = _set(part, values)
    return type(line_up)(**parts)  # type: ignore[arg-type]


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
