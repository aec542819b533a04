"""Choosing runs: one choice is shared by all pages that inspect a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import pandas as pd
import streamlit as st

from analysis.figures.layers import ROLES
from analysis.figures.theme import recipe_title
from analysis.frames.sites import COLUMN_HEADS
from analysis.store.arrays import latest, numbers
from analysis.store.runs import RunInfo
from analysis.ui import cached, nav, story, url

FINDS = ("SigmoidThreshold", "OpenGate", "LearnedKeep")  # selections that find their own keep
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
    words = [title(info), share(info), short_name(info.task), f"seed {info.seed}"]
    words += [info.name] if info.name else []
    words.append(info.id.rsplit("-", 1)[-1])
    return " · ".join(words) + (" (recorded)" if info.recorded else "")


def title(info: RunInfo) -> str:
    """What a run is called in a heading: the words for its recipe."""
    words = recipe_title(info.recipe)
    return words[:1].upper() + words[1:]


def share(info: RunInfo) -> str:
    """What a run was asked to keep; "asked" where the recipe finds its own keep and may miss it."""
    parts = info.spec.get("parts")
    select = parts.get("select") if isinstance(parts, dict) else None
    finds = isinstance(select, dict) and select.get("type") in FINDS
    return f"{percent(info.keep)} {'asked' if finds else 'kept'}"


def factored(info: RunInfo) -> bool:
    """Whether a run stores matrices as two factors, so that its masks say nothing."""
    parts = info.spec.get("parts")
    reparam = parts.get("reparam") if isinstance(parts, dict) else None
    return isinstance(reparam, dict) and reparam.get("type") == "LowRank"


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
        story.stop_empty(
            "No run has written a mask yet: start one, and it appears here with its first snapshot."
        )
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


def several(
    infos: Sequence[RunInfo], text: str, key: str, default: Sequence[str], most: int = 10
) -> list[RunInfo]:
    """Lets the visitor choose several runs, at most as many as there are colours."""
    by_id = {info.id: info for info in infos}
    chosen = url.many(
        text,
        list(by_id),
        key=key,
        default=default,
        name=lambda i: label(by_id[i]),
        shared=True,
        max_selections=most,
    )
    return [by_id[i] for i in chosen]


def snapshot(info: RunInfo, folder: str = "masks") -> int | None:
    """Lets the visitor choose the step whose mask is shown; None is the latest, the only choice when there is
    one.
    """
    steps = numbers(info.path / folder)
    if len(steps) < 2:
        return None
    step = url.select(
        "Step",
        steps,
        key="step",
        default=steps[-1],
        widget=st.select_slider,
        help="Training step of the snapshot.",
    )
    return None if step == steps[-1] else step


def names(infos: Sequence[RunInfo]) -> dict[str, RunInfo]:
    """Runs under short labels that differ: recipe and keep, then whatever tells equal ones apart."""
    found: dict[str, RunInfo] = {}
    for info in infos:
        text = f"{recipe_title(info.recipe)} {percent(info.keep)}"
        for more in (
            "",
            f", seed {info.seed}",
            f", {info.name[:24]}",
            f", {info.id.rsplit('-', 1)[-1]}",
            f", {info.id}",
        ):
            if text + more not in found:
                found[text + more] = info
                break
    return found


def sites(info: RunInfo) -> list[str] | None:
    """Lets the visitor narrow the view to layers, roles or one site; returns the names, None for all
    sites.
    """
    frame = cached.frame("sites", info.path)
    with st.container(horizontal=True):
        layers = url.many(
            "Layers", sorted(set(frame["layer"])), key="layer", placeholder="all layers", name=layer_name
        )
        roles = url.many(
            "Roles", list(dict.fromkeys(frame["role"])), key="role", placeholder="all roles", name=role_name
        )
        rows = frame[
            frame["layer"].isin(layers or set(frame["layer"]))
            & frame["role"].isin(roles or set(frame["role"]))
        ]
        site = url.select("Site", ["", *rows["site"]], key="site", name=lambda name: name or "all of these")
    if site:
        return [site]
    return None if len(rows) == len(frame) else list(rows["site"])


def layer_name(layer: int) -> str:
    """A layer as written in a list: "layer 3", or "no layer" where the model has none there."""
    return f"layer {layer}" if layer >= 0 else "no layer"


def role_name(role: str) -> str:
    """A role as the figures write it: "feed-forward in" for "ffn in"."""
    return ROLES.get(role, role)


@dataclass(frozen=True)
class Site:
    """One matrix, with what its picture needs: shape, heads, and whether heads are rows or columns."""

    name: str
    shape: tuple[int, int]
    heads: int
    heads_along: str


def site(info: RunInfo) -> Site:
    """Lets the visitor choose one matrix."""
    frame = cached.frame("structure", info.path).set_index("site")
    name = url.select("Matrix", list(frame.index), key="site", help="One prunable matrix of the model.")
    row = frame.loc[name]
    along = "columns" if row["role"] == COLUMN_HEADS else "rows"
    return Site(name, (int(row["rows"]), int(row["cols"])), int(row["heads"]), along)


def rivals(infos: Sequence[RunInfo], info: RunInfo | None, most: int = 4) -> list[str]:
    """Runs worth setting beside one: of its model and task, its keep and seed first, one per kind."""
    first = info or next((i for i in infos if i.id == flagship(infos)), None)
    if first is None:
        return []
    alike = [i for i in infos if (i.model, i.task) == (first.model, first.task) and i.recipe != "dense"]
    alike.sort(
        key=lambda i: (
            i.id != first.id,
            abs(i.keep - first.keep),
            i.recipe == first.recipe,
            i.recorded != first.recorded,
            i.seed != first.seed,
            i.id,
        )
    )
    found: dict[tuple[str, float], str] = {}
    for i in alike:
        found.setdefault((i.recipe, i.keep), i.id)
    return list(found.values())[:most]


def other(infos: Sequence[RunInfo], first: RunInfo) -> RunInfo:
    """Lets the visitor choose a second run; the likeliest is another recipe at the same keep."""
    by_id = {info.id: info for info in infos}
    same = [i.id for i in infos if i.model == first.model and i.id != first.id]
    likely = [*(i for i in rivals(infos, first, 2) if i != first.id), *same]
    chosen = url.select(
        "Second run",
        list(by_id),
        key="with",
        default=likely[0] if likely else None,
        name=lambda i: label(by_id[i]),
    )
    return by_id[chosen]


def stack(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several runs under each other, the run's label in front."""
    found = [table.assign(run=name) for name, table in tables.items()]
    whole = pd.concat(found, ignore_index=True) if found else pd.DataFrame({"run": []})
    return whole[["run", *[column for column in whole.columns if column != "run"]]]


def overlap_sentence(frame: pd.DataFrame, a: str, b: str) -> str:
    """The overall overlap of two masks beside chance, in one sentence."""
    whole = frame[frame["site"] == "overall"]
    if whole.empty or not math.isfinite(float(whole["jaccard"].iloc[0])):
        return (
            f"{a} and {b} have no matrix of the same name and shape in common, so their masks cannot be "
            "compared."
        )
    row = whole.iloc[0]
    times = f", {row['jaccard'] / row['expected']:.1f} times chance" if row["expected"] > 0 else ""
    return (
        f"{a[:1].upper()}{a[1:]} and {b} keep {int(row['kept_a']):,} and {int(row['kept_b']):,} weights and "
        f"share {int(row['both']):,}: "
        f"an overlap of {percent(row['jaccard'])}, where chance gives {percent(row['expected'])}{times}."
    )
