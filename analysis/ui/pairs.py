"""Comparing two checkpoints: choosing them, the comparison in a process of its own, and what it found."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.engine.inspect.header import files_of
from analysis.engine.inspect.pair import RESULT, SCHEMA_VERSION
from analysis.frames.compare_verdict import share
from analysis.store import jobs
from analysis.store.layout import ROOT
from analysis.ui import cached, checkpoints, guard, live, nav, pick, url

MODULE = "analysis.engine.inspect.pair"
KEPT = 20
EXAMPLES = 3
SHOWN = (
    *("tensor", "role", "layer", "shape", "relative", "cosine", "flipped", "zeros_a", "zeros_b"),
    *("zeros_gained", "zeros_lost", "jaccard", "expected", "equal", "note", "name_b"),
)
AT_ONCE = 2 * 2**30  # bytes that are read without being asked for
PATIENCE = 1.5  # seconds in which small ones are done, and a progress bar would only flicker
SIDES = {"a": "A, the original", "b": "B, what became of it"}


def ask() -> tuple[Path, Path] | None:
    """Lets the visitor choose or type two checkpoints; None while one of them is not chosen.

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
                    name=lambda p: known.get(p, p) or "Choose one, or type a path",
                    accept_new_options=True,
                    help="A safetensors file, a model folder or a run. Paths are looked up below the runs "
                    "folder, this repository, the working folder, and `PRUNING_LAB_CHECKPOINTS` and "
                    "`PRUNING_LAB_MODELS`.",
                )
            )
    if not all(texts):
        _examples(known)
        return None
    return checkpoints.allowed(texts[0]), checkpoints.allowed(texts[1])


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
        nav.link("compare", f"{known[a]} against {other}", a=a, b=b)
    nav.link("launch", "Launch a run: its model appears here")


def _likely(known: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs that have something to say to each other: what a run began with and its model, neighbours."""
    out = []
    for info in cached.runs(nav.runs_dir()):
        begun = str(ROOT / "analysis" / "bundle" / info.model.removeprefix("bundled:"))
        if str(info.path / "model") in known and begun in known:
            out.append((begun, str(info.path / "model")))
    first: dict[str, str] = {}
    for path in (p for p, name in known.items() if p.endswith(".safetensors")):
        folder = str(Path(path).parent)
        if folder in first:
            out.append((first[folder], path))
            first.pop(folder)
        else:
            first[folder] = path
    return list(dict.fromkeys(out))


def compared(a: Path, b: Path) -> Path | None:
    """The folder with the comparison, begun now where it is small or asked for; None while it is not whole.

    Raises:
        ModelError: one of them cannot be read.
    """
    stamps = [str(SCHEMA_VERSION)]
    size = 0
    for path in (a, b):
        stamps.append(str(path))
        for file in files_of(path)[0]:
            status = file.stat()
            size += status.st_size
            stamps.append(f"{file.name}:{status.st_mtime_ns}:{status.st_size}")
    key = hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    folder = nav.runs_dir() / checkpoints.FOLDER / f"pair-{key}"
    note = jobs.read(folder)
    if note.state == "absent" and size <= AT_ONCE:
        note = _begin(folder, a, b)
    elif note.state == "absent" and _asked(size):
        _begin(folder, a, b)
        st.rerun()  # without the button
    if note.state == "done" and (folder / RESULT).is_file():
        return folder
    if note.state == "working":
        live.follow(lambda: _progress(folder), True)
    elif note.state != "absent":
        _over(note, folder, a, b)
    return None


def _asked(size: int) -> bool:
    st.info(f"Both together are {amount(size)}.", icon=":material/hourglass_empty:")
    return st.button("Compare", key="compare", type="primary", icon=":material/compare_arrows:")


def _begin(folder: Path, a: Path, b: Path) -> jobs.Note:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    jobs.begin(folder, MODULE, str(a), str(b), str(folder))
    end = time.monotonic() + PATIENCE
    while not (note := jobs.read(folder)).over and time.monotonic() < end:
        time.sleep(0.03)
    return note


def _progress(folder: Path) -> bool:
    note = jobs.read(folder)
    part = note.done / note.total if note.total else 0.0
    words = [f"{amount(note.done)} of {amount(note.total)} read" if note.total else "Reading the headers"]
    words += [f"{live.duration(note.left)} left"] if note.left is not None else []
    st.progress(min(1.0, part), " · ".join(words))
    st.button(
        "Cancel",
        key="cancel",
        icon=":material/stop_circle:",
        on_click=guard.action(lambda: jobs.cancel(folder)),
        help="The tensors that are finished are kept, and the comparison can go on from there.",
    )
    return not note.over


def _over(note: jobs.Note, folder: Path, a: Path, b: Path) -> None:
    """Says why there is no result, with the button that tries again."""
    if note.state == "failed":
        st.error(guard.escape(note.reason), icon=":material/error:")
    else:
        why = "was cancelled" if note.state == "cancelled" else "ended before it was done"
        st.warning(
            f"The comparison {why}; the tensors it had finished are kept.", icon=":material/stop_circle:"
        )
    st.button(
        "Try again" if note.state == "failed" else "Go on",
        key="again",
        icon=":material/play_arrow:",
        on_click=guard.action(lambda: jobs.begin(folder, MODULE, str(a), str(b), str(folder))),
    )


def _sweep(store: Path) -> None:
    """Removes the oldest comparisons beyond the number that is kept, none on which work goes on."""
    folders = sorted(store.glob("pair-*"), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in folders[KEPT - 1 :]:
        if jobs.read(old).over:
            shutil.rmtree(old, ignore_errors=True)


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
