"""Opening a checkpoint: a path below the allowed folders, inspected in a process of its own, kept by its
stamp.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from analysis import frames
from analysis.engine import hub
from analysis.engine.inspect import cache
from analysis.engine.inspect.files import INDEXES, SUFFIXES, WHOLE
from analysis.engine.inspect.locate import locate
from analysis.errors import ModelError
from analysis.store.layout import ROOT
from analysis.ui import cached, nav, pick, roots, story, uploads, url, working

VARIABLES = (roots.CHECKPOINTS, hub.MODELS)
SHOWN = ("tensor", "role", "layer", "shape", "dtype", "bytes", "zeros", "sparsity", "note")
LISTED = 100


def allowed(text: str) -> Path:
    """What a visitor typed, as a path: a path, a run, a bundled model, a hub id in the local cache.

    Raises:
        ModelError: it is empty, outside the allowed folders, or not there.
    """
    words = text.strip()
    below = [root / words for root in roots.roots()] if words and "\0" not in words else []
    try:
        path = next((p for p in below if p.exists()), None)
    except OSError:  # a part too long: the search below says so
        path = None
    return roots.require(path or locate(words, nav.runs_dir()), roots.CHECKPOINTS, ModelError)


def offered() -> dict[str, str]:
    """Checkpoints that need no typing: models of finished runs, bundled weights, and what the
    variables name.
    """
    runs = [info for info in cached.runs(nav.runs_dir()) if (info.path / "model").is_dir()]
    found = {str(info.path / "model"): f"Run · {pick.label(info)}" for info in runs[:LISTED]}
    for file in sorted((ROOT / "analysis" / "bundle").rglob("*.safetensors"))[:LISTED]:
        found[str(file.parent)] = f"Bundled · {file.parent.name}"
    for variable in VARIABLES:
        named = os.environ.get(variable)
        if named and os.path.isdir(named):
            paths = [path for entry in sorted(Path(named).iterdir()) for path in _openable(entry)]
            found |= {str(path): f"{Path(named).name} · {path.relative_to(named)}" for path in paths[:LISTED]}
    return found


def _openable(path: Path) -> list[Path]:
    """What can be opened at a path, judged by names alone: a file, a model folder, or the files of a folder
    of several.
    """
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    files = sorted(file for file in path.glob("*") if file.suffix in SUFFIXES)
    whole = len(files) == 1 or any((path / name).is_file() for name in (*WHOLE, *INDEXES))
    return [path] if whole else files


def ask() -> Path:
    """Lets the visitor choose or type a checkpoint; ends the page while there is none.

    Raises:
        ModelError: the path may not or cannot be opened.
    """
    top = st.container()
    sent = uploads.offered()
    known = sent | offered()
    newest = next(reversed(sent), None)
    if newest is not None and st.session_state.get("lab.sent") != newest:
        st.session_state["path"] = newest
    st.session_state["lab.sent"] = newest
    typed = [text for text in url.read("path")[:1] if text not in known]
    held = st.session_state.get("path")
    options = list(dict.fromkeys([*known, *typed, *([held] if held else [])]))
    with top:
        chosen = url.select(
            "Checkpoint",
            options,
            key="path",
            shared=True,  # always in the address: the newest run, which comes first, will be another one
            name=lambda p: known.get(p, p),
            accept_new_options=True,
            placeholder="Choose one, or type a path, a run's id, or a hub id that is in the local cache",
            help="Paths are looked up below the runs folder, this repository, the working folder, and "
            "`PRUNING_LAB_CHECKPOINTS` and `PRUNING_LAB_MODELS`.",
        )
    if not chosen:
        story.stop_empty(
            "There is no checkpoint to offer: finish a run, or type the path of one.",
            to="launch",
            label="Launch a run",
        )
    return allowed(meant(chosen, known))


def meant(text: str, known: Mapping[str, str]) -> str:
    """What a visitor typed, or the one offer whose name holds it."""
    if text in known:
        return text
    found = [path for path, name in known.items() if text.strip().lower() in name.lower()]
    return found[0] if len(found) == 1 and text.strip() else text


def inspected(path: Path) -> Path:
    """The folder with the inspection of a checkpoint; ends the page while there is more to wait for.

    It is made in a process of its own, which goes on when the page is left; one that is there is used again.

    Raises:
        ModelError: the path holds nothing that can be read.
    """
    runs = nav.runs_dir()
    out = cache.begin(path, runs)

    def again() -> None:
        cache.begin(path, runs, again=True)

    shown = uploads.name_of(path)
    working.finish(out, f"Reading {shown!r}", again, lambda: _so_far(out), {path.name: shown})
    return out


def _so_far(out: Path) -> None:
    """The tensors as headers and names tell of them, and what has been read of their values."""
    found = frames.tensors(out)
    if len(found):
        read = int(found["zeros"].notna().sum())
        st.caption(f"{len(found):,} tensors, the values of {read:,} read so far.")
        st.dataframe(found[list(SHOWN)].head(LISTED * 10), hide_index=True)
