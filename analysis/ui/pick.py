"""Choosing runs: one choice is shared by all pages that inspect a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath

import streamlit as st

from analysis.figures.theme import recipe_title
from analysis.store.arrays import latest, numbers
from analysis.store.runs import RunInfo
from analysis.ui import cached, nav, story, url

ICONS = {
    "queued": "schedule",
    "running": "progress_activity",
    "done": "check_circle",
    "failed": "error",
    "stopped": "stop_circle",
    "diverged": "trending_up",
    "crashed": "warning",
    "unreadable": "help",
}


def percent(fraction: float) -> str:
    """A fraction as a person writes it: 0.03 becomes "3 %"; unknown becomes "?"."""
    return "?" if not math.isfinite(fraction) else f"{100 * fraction:.3g} %"


def short_name(name: str) -> str:
    """A model or task without its folders or its "bundled:"."""
    return PurePath(name.removeprefix("bundled:")).name or name


def label(info: RunInfo) -> str:
    """One line that tells a run from the others."""
    if info.state == "unreadable":
        return f"{info.id} (unreadable)"
    words = [info.name or recipe_title(info.recipe).capitalize(), f"{percent(info.keep)} kept", short_name(info.task)]
    words += [f"seed {info.seed}", info.id.rsplit("-", 1)[-1]]
    return " · ".join(words) + (" (recorded)" if info.recorded else "")


def title(info: RunInfo) -> str:
    """What a run is called in a heading: its name, else its recipe."""
    return recipe_title(info.recipe).capitalize()


def has_masks(info: RunInfo) -> bool:
    """Whether a run has written at least one mask."""
    return latest(info.path / "masks") is not None


def flagship(infos: Sequence[RunInfo]) -> str | None:
    """The run a first visit shows: recorded movement at the smallest keep, else the first there is."""
    ranked = sorted(infos, key=lambda i: (not i.recorded, i.recipe != "movement", i.keep, i.id))
    return ranked[0].id if ranked else None


def masked_runs() -> list[RunInfo]:
    """All runs whose masks can be looked at; ends the page with an explanation when there are none."""
    infos = [info for info in cached.runs(nav.runs_dir()) if info.state != "unreadable" and has_masks(info)]
    if not infos:
        story.stop_empty("No run has written a mask yet: start one, and it appears here with its first snapshot.")
    return infos


def run(infos: Sequence[RunInfo], text: str = "Run", key: str = "run") -> RunInfo:
    """Lets the visitor choose one run; the choice is in the address and goes along to other pages."""
    by_id = {info.id: info for info in infos}
    chosen = url.select(
        text,
        list(by_id),
        key=key,
        default=flagship(infos),
        name=lambda i: label(by_id[i]),
        shared=True,
        help="Your own runs come first; recorded ones ship with the project.",
    )
    return by_id[chosen]


def several(infos: Sequence[RunInfo], text: str, key: str, default: Sequence[str], most: int = 10) -> list[RunInfo]:
    """Lets the visitor choose several runs, at most as many as there are colours."""
    by_id = {info.id: info for info in infos}
    chosen = url.many(
        text, list(by_id), key=key, default=default, name=lambda i: label(by_id[i]), shared=True, max_selections=most
    )
    return [by_id[i] for i in chosen]


def snapshot(info: RunInfo, folder: str = "masks") -> int | None:
    """Lets the visitor choose the step whose mask is shown; None is the latest, the only choice when there is one."""
    steps = numbers(info.path / folder)
    if len(steps) < 2:
        return None
    step = url.select(
        "Step", steps, key="step", default=steps[-1], widget=st.select_slider, help="Training step of the snapshot."
    )
    return None if step == steps[-1] else step


def names(infos: Sequence[RunInfo]) -> dict[str, RunInfo]:
    """Runs under labels that differ: recipe and keep, then whatever tells equal ones apart."""
    found: dict[str, RunInfo] = {}
    for info in infos:
        text = info.name or f"{recipe_title(info.recipe)} {percent(info.keep)}"
        for more in ("", f", seed {info.seed}", f", {info.id.rsplit('-', 1)[-1]}"):
            if text + more not in found:
                found[text + more] = info
                break
    return found


def sites(info: RunInfo) -> list[str] | None:
    """Lets the visitor narrow the view to layers, roles or one site; returns the names, None for all sites."""
    frame = cached.frame("sites", info.path)
    with st.container(horizontal=True):
        layers = url.many("Layers", sorted(set(frame["layer"])), key="layer", placeholder="all layers", name=layer_name)
        roles = url.many("Roles", list(dict.fromkeys(frame["role"])), key="role", placeholder="all roles", name=role_name)
        rows = frame[frame["layer"].isin(layers or set(frame["layer"])) & frame["role"].isin(roles or set(frame["role"]))]
        site = url.select("Site", ["", *rows["site"]], key="site", name=lambda name: name or "all of these")
    if site:
        return [site]
    return None if len(rows) == len(frame) else list(rows["site"])


def layer_name(layer: int) -> str:
    """A layer as written in a list: "layer 3", or "no layer" where the model has none there."""
    return f"layer {layer}" if layer >= 0 else "no layer"


def role_name(role: str) -> str:
    """A role as written in a list: "attention output" for "attn_out"."""
    return {"attn_out": "attention output", "ffn_in": "feed-forward in", "ffn_out": "feed-forward out"}.get(role, role)
