"""Opening a checkpoint: a path below the allowed folders, inspected in a process of its own, kept by its
stamp.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from analysis import frames
from analysis.engine import hub
from analysis.engine.inspect.files import INDEXES, SUFFIXES, WHOLE, files_of
from analysis.engine.inspect.worker import RESULT, SCHEMA_VERSION, inspect_apart
from analysis.errors import ModelError
from analysis.store.layout import ROOT
from analysis.ui import cached, nav, pick, roots, story, url

VARIABLES = (roots.CHECKPOINTS, hub.MODELS)
FOLDER = ".inspections"
KEPT = 40
LISTED = 100


def allowed(text: str) -> Path:
    """The path a visitor typed.

    Raises:
        ModelError: it is empty, outside the allowed folders, or not there.
    """
    words = text.strip()
    if not words or "\0" in words or len(words) > 4096:
        raise ModelError("The path is empty or too long; give a safetensors file or a folder that holds one.")
    below = [root / words for root in roots.roots()]
    try:
        path = next((p for p in below if p.exists()), Path(words))
    except OSError as error:  # a part too long
        raise ModelError(f"The path {words[:80]!r} cannot be followed ({error}); check it.") from None
    path = roots.require(path, roots.CHECKPOINTS, ModelError)
    if not path.exists():
        raise ModelError(
            f"There is nothing at {str(path)!r}; check the path, it is looked up below {roots.roots()[0]} "
            "first."
        )
    return path


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
    known = offered()
    typed = [text for text in url.read("path")[:1] if text not in known]
    held = st.session_state.get("path")
    options = list(dict.fromkeys([*known, *typed, *([held] if held else [])]))
    chosen = url.select(
        "Checkpoint",
        options,
        key="path",
        name=lambda p: known.get(p, p),
        accept_new_options=True,
        placeholder="Choose one, or type the path of a file of weights or a model folder",
        help="Paths are looked up below the runs folder, this repository, the working folder, and "
        "`PRUNING_LAB_CHECKPOINTS` and `PRUNING_LAB_MODELS`.",
    )
    if not chosen:
        story.stop_empty(
            "There is no checkpoint to offer: finish a run, or type the path of one.",
            to="launch",
            label="Launch a run",
        )
    return allowed(chosen)


def _stamp(path: Path, files: Sequence[Path]) -> str:
    """A name for the content of a checkpoint: the form of the inspection, paths, times of change and
    sizes.
    """
    parts = [
        str(SCHEMA_VERSION),
        str(path),
        *(f"{file.name}:{s.st_mtime_ns}:{s.st_size}" for file in files for s in [file.stat()]),
    ]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def inspected(path: Path) -> Path:
    """The folder with the inspection of a checkpoint, made now in a process of its own unless it is there
    already.

    Raises:
        ModelError: the checkpoint cannot be read.
    """
    store = nav.runs_dir() / FOLDER
    files, _ = files_of(path)
    out = store / _stamp(path, files)
    if not (out / RESULT).is_file():
        size = sum(file.stat().st_size for file in files)
        with st.spinner(f"Reading {size / 1e6:,.0f} MB in a process of its own …", show_time=True):
            store.mkdir(parents=True, exist_ok=True)
            _sweep(store)
            inspect_apart(path, out)
    problems = frames.file_problems(out)
    if problems and frames.tensors(out).empty:
        raise ModelError(problems[0])
    return out


def _sweep(store: Path) -> None:
    """Removes the oldest inspections beyond the number that is kept."""
    folders = sorted(
        (f for f in store.iterdir() if f.is_dir()), key=lambda f: f.stat().st_mtime, reverse=True
    )
    for old in folders[KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def tensor(names: Sequence[str]) -> str:
    """Lets the visitor choose one tensor."""
    return str(url.select("Tensor", list(names), key="tensor", help="Its values are drawn below."))
