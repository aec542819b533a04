"""What every part shares: fields that carry their own help, unit and range, and the check of those ranges.

A part is a frozen dataclass. Its fields are its hyper-parameters; form, command line, JSON, fingerprint and
the card's knob table are all read from them, so a new field is written once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, get_type_hints

from analysis.errors import SpecError


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter as a form, a table or a command line needs it."""

    name: str
    type: type
    default: Any
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    open: str = ""
    choices: tuple[Any, ...] | None = None
    log: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages and tables."""
        if self.choices is not None:
            return "one of " + ", ".join(repr(c) for c in self.choices)
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "a text"
        kind = "a whole number" if self.type is int else "a number"
        if self.low is None and self.high is None:
            return kind
        left = "(" if self.open in ("low", "both") or self.low is None else "["
        right = ")" if self.open in ("high", "both") or self.high is None else "]"
        low = "-inf" if self.low is None else f"{self.low:g}"
        high = "inf" if self.high is None else f"{self.high:g}"
        return f"{kind} in {left}{low}, {high}{right}"


def knob(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    open: str = "",
    choices: Sequence[Any] | None = None,
    log: bool = False,
) -> Any:
    """Declares a hyper-parameter: a dataclass field that knows its help, unit and range.

    Args:
        default: value used when nothing is said.
        help: one sentence for forms, cards and ``--help``.
        unit: unit shown beside the value, "" for a pure number.
        low: smallest allowed value, None for no bound.
        high: largest allowed value, None for no bound.
        open: which bounds are themselves excluded: "", "low", "high" or "both".
        choices: allowed values when they are few.
        log: True when a slider should be logarithmic.

    Returns:
        a dataclass field.
    """
    few = tuple(choices) if choices is not None else None
    metadata: dict[str, Any] = {"help": help, "unit": unit, "low": low, "high": high, "open": open}
    metadata |= {"choices": few, "log": log}
    return field(default=default, metadata=metadata)


class Part:
    """Base of all parts; checks the range of every field when one is built."""

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for k in knobs(type(self)):
            object.__setattr__(self, k.name, checked(k, getattr(self, k.name), type(self).__name__))

    def replace(self, **changes: Any) -> Any:
        """Returns a copy with some fields changed; an unknown field is a SpecError."""
        known = {f.name for f in fields(self)}  # type: ignore[arg-type]
        for name in changes:
            if name not in known:
                raise SpecError(unknown_field(type(self), name))
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def unknown_field(part: type, name: str) -> str:
    """The sentence for a field that a part does not have."""
    names = ", ".join(k.name for k in knobs(part)) or "none"
    return f"{part.__name__} has no field {name!r}; its fields are: {names}."


def knobs(part: type) -> tuple[Knob, ...]:
    """Lists the hyper-parameters of a part class, in the order of its fields."""
    key: Any = part
    return _knobs(key)


@cache
def _knobs(part: Any) -> tuple[Knob, ...]:
    hints = get_type_hints(part)
    return tuple(
        Knob(name=f.name, type=hints[f.name], default=f.default, **f.metadata)
        for f in fields(part)
        if "help" in f.metadata
    )


def checked(k: Knob, value: Any, where: str) -> Any:
    """Returns the value in the knob's type when it is allowed.

    Text is converted (so that the command line and a form need no rules of their own); True is not a number
    here.

    Raises:
        SpecError: the value has another type or lies outside the range.
    """
    wrong = SpecError(f"{where}.{k.name} is {value!r}; allowed is {k.allowed}.")
    if k.type is bool:
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0", "yes", "no"):
            return value.strip().lower() in ("true", "1", "yes")
        if not isinstance(value, bool):
            raise wrong
        return value
    if k.type is str:
        if (
            not isinstance(value, str)
            or len(value) > 4096
            or (k.choices is not None and value not in k.choices)
        ):
            raise wrong
        return value
    try:
        if isinstance(value, bool):
            raise wrong
        number = k.type(value) if not isinstance(value, float) or k.type is float else _whole(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if k.choices is not None and number not in k.choices:
        raise wrong
    if isinstance(number, float) and not math.isfinite(number):
        raise wrong
    below = k.low is not None and (number < k.low or (number == k.low and k.open in ("low", "both")))
    above = k.high is not None and (number > k.high or (number == k.high and k.open in ("high", "both")))
    if below or above:
        raise wrong
    return number


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError
    return int(value)
