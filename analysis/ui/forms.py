"""Widgets from dataclass fields: the only place that knows a part has fields."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis import parts
from analysis.parts.base import Knob, Part, knobs
from analysis.spec import RunSpec
from analysis.spec.codec import OPTIONAL
from analysis.ui import url

SLOT_TITLES = {
    "score": "Score: what a weight is worth",
    "units": "Units: what is pruned together",
    "select": "Selection: which scores stay",
    "schedule": "Schedule: when it is cut",
    "reparam": "Mask: from the stored weight to the one that computes",
    "optimizer": "Optimizer",
    "lookahead": "Look-ahead: where the gradient is evaluated",
    "graft": "Graft: layers among the teacher's",
    "embedding": "Word embeddings: how their table is stored",
    "task": "Loss of the task",
    "distillation": "Loss against the teacher's answer",
    "hidden": "Loss against the teacher's hidden states",
    "attention": "Loss against the teacher's attention",
    "penalty": "Penalty on scores or weights",
}


SLOTS = tuple(SLOT_TITLES)
FOLLOWERS = ("graft", "distillation", "hidden", "attention")  # they ask for a teacher


def slots(spec: RunSpec) -> dict[str, Part]:
    """The filled slots of a spec's line-up, in the order of the card."""
    return {slot: part for slot in SLOTS if (part := getattr(spec.parts, slot)) is not None}


def knobs_of(part: Part) -> tuple[Knob, ...]:
    """The hyper-parameters of a part, in the order of its fields."""
    return knobs(type(part))


def _words(knob: Knob) -> str:
    name = "learning rate" if knob.name == "lr" else knob.name.replace("_", " ")
    # "Steps (steps)" says the same twice.
    unit = f" ({knob.unit})" if knob.unit and knob.unit not in name.split() else ""
    return name[:1].upper() + name[1:] + unit


def _help(knob: Knob) -> str:
    return f"{knob.help[:1].upper()}{knob.help[1:]}. Allowed is {knob.allowed}.".replace("[", r"\[")


def field(knob: Knob, current: Any, key: str) -> Any:
    """One widget for one hyper-parameter; its range is checked where the spec is built, in words."""
    common: dict[str, Any] = {"help": _help(knob)}
    if knob.choices is not None:
        return url.select(_words(knob), knob.choices, key=key, default=current, **common)
    if knob.type is bool:
        return url.value(_words(knob), key=key, default=current, widget=st.toggle, **common)
    if knob.type is int:
        return url.value(_words(knob), key=key, default=current, widget=st.number_input, step=1, **common)
    if knob.type is float:
        step = 10.0 ** (len(f"{int(1 / current)}") * -1) if knob.log and 0 < current < 1 else 0.05
        number = st.number_input
        return url.value(
            _words(knob), key=key, default=current, widget=number, step=step, format="%.6g", **common
        )
    return url.value(_words(knob), key=key, default=current, widget=st.text_input, **common)


def fields(
    part: Part, slot: str, *, prefix: str = "", only: Collection[str] = (), columns: int = 3
) -> dict[str, Any]:
    """The form of one part.

    Args:
        part: whose fields become widgets, their values the defaults.
        slot: its slot, the first half of the setting's name.
        prefix: put before the names in the address, so that two recipes do not share a field.
        only: names of the fields shown; none shows all.
        columns: widgets beside each other.

    Returns:
        the settings that differ from the part, in the grammar of ``--set``: {"score.lr": 0.02}.
    """
    chosen = [knob for knob in knobs_of(part) if not only or knob.name in only]
    changed = {}
    for start in range(0, len(chosen), columns):
        for column, knob in zip(st.columns(columns), chosen[start : start + columns], strict=False):
            with column:
                current = getattr(part, knob.name)
                value = field(knob, current, f"{prefix}{slot}.{knob.name}")
            if value is not None and value != current:
                changed[f"{slot}.{knob.name}"] = value
    return changed


def _kind(slot: str, part: Part | None, prefix: str) -> tuple[Part | None, dict[str, Any]]:
    """Lets the visitor put another part into a slot; returns the part and the setting that does it."""
    known = {**parts.SLOTS, **parts.LOSSES}[slot]
    now = type(part).__name__ if part is not None else "none"
    options = [*known, "none"] if slot in OPTIONAL else list(known)
    if len(options) < 2:
        return part, {}
    title = lambda name: known[name].title.capitalize() if name in known else "None"  # noqa: E731
    chosen = url.select(
        "Part", options, key=f"{prefix}{slot}.type", default=now, name=title, help=SLOT_TITLES[slot]
    )
    if chosen == now:
        return part, {}
    return (None if chosen == "none" else known[chosen]()), {f"{slot}.type": chosen}


def line_up(spec: RunSpec, prefix: str) -> dict[str, Any]:
    """The form of all slots of a recipe.

    Args:
        spec: whose line-up is the default.
        prefix: put before the names in the address.

    Returns:
        the settings that were changed, in the grammar of ``--set``.
    """
    changed: dict[str, Any] = {}
    for slot in SLOTS:
        part = getattr(spec.parts, slot)
        if slot in FOLLOWERS and part is None and not spec.teacher:
            continue
        st.markdown(f"**{SLOT_TITLES[slot]}**")
        part, setting = _kind(slot, part, prefix)
        changed |= setting
        if part is not None:
            changed |= fields(part, slot, prefix=prefix)
    return changed


COLUMNS = {
    "knob": st.column_config.TextColumn(width="small"),
    "default": st.column_config.TextColumn(width=70),
    "unit": st.column_config.TextColumn(width=90),
    "allowed": st.column_config.TextColumn(width="small"),
    "meaning": st.column_config.TextColumn(width="large"),
}


def table(line: dict[str, Part]) -> pd.DataFrame:
    """The knobs of several parts as a table for a card: what it is, its default, what is allowed."""
    rows: list[Sequence[str]] = [
        (f"{slot}.{knob.name}", str(getattr(part, knob.name)), knob.unit, knob.allowed, knob.help)
        for slot, part in line.items()
        for knob in knobs_of(part)
    ]
    return pd.DataFrame(rows, columns=["knob", "default", "unit", "allowed", "meaning"], dtype="str")
