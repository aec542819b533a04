"""Frames kept between reruns, keyed by the files they were read from (path, time of change, size), in bounded
number.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import frames
from analysis.store import runs as run_store
from analysis.store.layout import RECORDED
from analysis.store.runs import RunInfo

Stamp = tuple[tuple[str, int, int], ...]
_WATCHED = (
    "",
    "state.json",
    "spec.json",
    "sites.json",
    "events.jsonl",
    "masks",
    "points",
    "histograms",
    "predictions.parquet",
    "inspection.json",
    "window.npz",
)


def stamp(path: Path, names: tuple[str, ...] = _WATCHED) -> Stamp:
    """What identifies the content of a folder: name, time of change (ns) and size of the files that
    matter.
    """
    found = []
    for name in names:
        try:
            status = os.stat(os.path.join(path, name))
        except OSError:
            continue
        found.append((name, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _folders(runs_dir: Path) -> list[Path]:
    """The folders directly in the runs folder and in the recorded one; unreadable ones give none."""
    found: list[Path] = []
    for root in (runs_dir, RECORDED):
        try:
            found += [
                Path(entry.path) for entry in os.scandir(root) if entry.is_dir() and entry.name[0] not in "._"
            ]
        except OSError:
            continue
    return sorted(found)


@st.cache_data(max_entries=96, show_spinner=False)
def _frame(name: str, path: str, arguments: tuple[tuple[str, Any], ...], files: Stamp) -> Any:
    return getattr(frames, name)(Path(path), **dict(arguments))


def frame(name: str, path: Path, **arguments: Any) -> Any:
    """Calls a function of `analysis.frames` on one run, or gives back what it returned while no file has
    changed.

    Args:
        name: name of the function.
        path: folder of the run.
        **arguments: further arguments; lists are handed on as tuples.
    """
    fixed = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(arguments.items()))
    return _frame(name, str(path), fixed, stamp(path))


@st.cache_data(max_entries=48, show_spinner=False)
def _pair(
    name: str, a: str, b: str, arguments: tuple[tuple[str, Any], ...], files: tuple[Stamp, Stamp]
) -> Any:
    return getattr(frames, name)(Path(a), Path(b), **dict(arguments))


def pair(name: str, a: Path, b: Path, **arguments: Any) -> pd.DataFrame:
    """As `frame`, for the functions that compare two runs."""
    return _pair(name, str(a), str(b), tuple(sorted(arguments.items())), (stamp(a), stamp(b)))


@st.cache_data(max_entries=8, show_spinner=False)
def _results(runs_dir: str, files: tuple[Any, ...]) -> pd.DataFrame:
    return frames.results(Path(runs_dir))


def results(runs_dir: Path) -> pd.DataFrame:
    """What all runs measured, own and recorded."""
    files = tuple((str(path), stamp(path, ("state.json", "events.jsonl"))) for path in _folders(runs_dir))
    return _results(str(runs_dir), files)


def runs(runs_dir: Path) -> list[RunInfo]:
    """All runs, own ones first and newest first; read anew each time, because a state also depends on
    a lock.
    """
    return run_store.list_runs(runs_dir)
