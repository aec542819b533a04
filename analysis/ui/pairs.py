"""Comparing two checkpoints: choosing them, the comparison in a process of its own, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.engine.inspect import pair
from analysis.engine.inspect.files import SUFFIXES
from analysis.frames.compare_verdict import share
from analysis.store import jobs
from analysis.store.layout import ROOT
from analysis.ui import cached, checkpoints, guard, nav, pick, url, working

EXAMPLES = 3
SHOWN = (
    *("tensor", "role", "layer", "shape", "relative", "cosine", "flipped", "zeros_a", "zeros_b"),
    *("zeros_gained", "zeros_lost", "jaccard", "expected", "equal", "note", "name_b"),
)
AT_ONCE = 2 * 2**30  # bytes that are read without being asked for
SIDES = {"a": "A, the original", "b": "B, what became of it"}


def ask() -> tuple[Path, Path]:
    """Lets the visitor choose or type two checkpoints; ends the page while one of them is not chosen.

    Raises:
        ModelError: a path may not or cannot be opened.
    """
    known = checkpoints.offered()
    left, middle, right = st.columns([10, 1, 10], vertical_alignment="bottom")
    middle.button(
        "",
        key="swap",
        icon=":material/swap_horiz:",
        help="Let A and B change places",
        on_click=guard.action(_swap),
        width="stretch",
    )
    texts = []
    for column, (key, label) in zip((left, right), SIDES.items(), strict=True):
        typed = [
            text for text in (*url.read(key)[:1], st.session_state.get(key)) if text and text not in known
        ]
        with column:
            texts.append(
                url.select(
                    label,
                    list(dict.fromkeys(["", *known, *typed])),
                    key=key,
                    shared=True,  # always in the address, also after an example was followed
                    name=lambda p: known.get(p, p) or "Choose one, or type a path",
                    accept_new_options=True,
                    help="A file of weights, a model folder, a run, or a hub id in the local cache, looked "
                    "up below the runs folder, this repository, the working folder, and "
                    "`PRUNING_LAB_CHECKPOINTS` and `PRUNING_LAB_MODELS`.",
                )
            )
    if not all(texts):
        _examples(known)
        st.stop()
    a, b = (checkpoints.allowed(checkpoints.meant(text, known)) for text in texts)
    return a, b


def _swap() -> None:
    held = st.session_state
    held["a"], held["b"] = held.get("b", ""), held.get("a", "")


def _examples(known: dict[str, str]) -> None:
    """Says what to do where nothing is chosen, with pairs worth comparing one click away."""
    st.info(
        "Choose two checkpoints of the same model: before and after fine-tuning or pruning, or two methods.",
        icon=":material/info:",
    )
    for a, b in _likely(known)[:EXAMPLES]:
        other = Path(b).name if Path(a).parent == Path(b).parent else known[b]
        nav.link("compare", guard.escape(f"{known[a]} against {other}"), a=a, b=b)
    nav.link("launch", "Launch a run: its model appears here")


def _likely(known: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs that have something to say to each other: what a run began with and its model, neighbours."""
    out = []
    for info in cached.runs(nav.runs_dir()):
        begun = str(ROOT / "analysis" / "bundle" / info.model.removeprefix("bundled:"))
        if str(info.path / "model") in known and begun in known:
            out.append((begun, str(info.path / "model")))
    first: dict[str, str] = {}
    for path in (p for p in known if Path(p).suffix in SUFFIXES):
        folder = str(Path(path).parent)
        if folder in first:
            out.append((first[folder], path))
            first.pop(folder)
        else:
            first[folder] = path
    return list(dict.fromkeys(out))


def compared(a: Path, b: Path) -> Path:
    """The folder with the comparison, begun now where it is small or asked for; ends the page while there is
    more to wait for.

    Raises:
        ModelError: one of them cannot be read.
    """
    runs = nav.runs_dir()
    out, size = pair.place(a, b, runs)

    def again() -> None:
        pair.begin(a, b, runs, again=True)

    if size > AT_ONCE and jobs.read(out).state == "absent":
        st.info(f"Both together are {amount(size)}.", icon=":material/hourglass_empty:")
        st.button(
            "Compare",
            key="compare",
            type="primary",
            icon=":material/compare_arrows:",
            on_click=guard.action(again),
        )
        st.stop()
    working.finish(pair.begin(a, b, runs), f"Comparing {a.name!r} with {b.name!r}", again)
    return out


def amount(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def numbers(folder: Path) -> dict[str, str]:
    """The four numbers on top of the page, by their names."""
    frame = frames.counted(cached.frame("tensor_pairs", folder))
    both, alone = len(cached.frame("tensor_pairs", folder)), len(cached.frame("unpaired", folder))
    total = frame.select_dtypes("number").sum()
    squares = (frame[["l2", "norm_a"]] ** 2).sum()
    zeros = [_of(total[f"zeros_{side}"], total["compared"]) for side in ("a", "b")]
    return {
        "Tensors that both have": f"{both:,} of {both + alone:,}",
        "Distance of B from A": _of(squares["l2"] ** 0.5, squares["norm_a"] ** 0.5),
        "Zeros in A, in B": " → ".join(zeros),
        "Signs changed": _of(total["sign_flips"], total["both"]),
    }


def _of(part: float, whole: float) -> str:
    return share(part / whole) if whole else "–"


def narrow(folder: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Lets the visitor narrow a view to layers and roles; () for all."""
    known = cached.frame("distances", folder)
    with st.container(horizontal=True):
        layers = url.many(
            "Layers", sorted(set(known["layer"])), key="layer", placeholder="all layers", name=pick.layer_name
        )
        roles = url.many(
            "Roles",
            list(dict.fromkeys(known["role"])),
            key="role",
            placeholder="all roles",
            name=pick.role_name,
        )
    return tuple(layers), tuple(roles)


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What there is to look up beside the pairs: tensors without a partner, and heads and neurons lost."""
    found = {
        "Tensors without a partner": cached.frame("unpaired", folder),
        "Heads and neurons": cached.frame("lost_units", folder),
    }
    return {title: frame for title, frame in found.items() if len(frame)}


def problems(folder: Path) -> Sequence[str]:
    """What does not agree inside one of the checkpoints, in sentences that name it."""
    found = frames.comparison(folder)
    sides = [(side.upper(), found.get(side)) for side in SIDES]
    return [
        f"{side}: {p}" for side, told in sides if isinstance(told, dict) for p in told.get("problems", [])
    ]
