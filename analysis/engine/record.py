"""Recorded runs: finished runs in a compact form that ships with the project, so that every page has
something true to show.

Masks, bins, a sample of weights, metrics and predictions by row number are kept; model weights and texts are
not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import RunError
from analysis.store import arrays, events
from analysis.store.layout import RECORDED, read_json, run_path, write_json

LINES, FEW = 60, 10  # loss lines kept of a run with pictures, and of one that is a point on a curve
MANTISSA = 10  # bits of a recorded weight or score: 3 decimal digits, what a pixel can show


def record(
    runs: Path, ids: Iterable[str], out: Path | None = None, *, detail: str = "full", points: int = 4000
) -> list[Path]:
    """Copies finished runs into a folder of recorded runs.

    Args:
        runs: folder the runs are in.
        ids: which of them; each must be done.
        out: folder of recorded runs, None for the project's own.
        detail: "full" keeps masks, points and bins of the end; "plain" bins and points without masks; "curve"
            neither.
        points: sampled weights kept per run, at least 1.

    Returns:
        the new folders.

    Raises:
        RunError: a run is missing, not finished or already there, or the detail is not one of the three.
    """
    if detail not in ("full", "plain", "curve"):
        raise RunError(f"detail is {detail!r}; allowed is full, plain or curve.")
    target = RECORDED if out is None else out
    made = []
    for run_id in ids:
        source, folder = run_path(runs, run_id), target / run_id
        if not source.is_dir():
            raise RunError(
                f"There is no run {run_id!r} in {str(runs)!r}; only runs made there can be recorded."
            )
        if folder.resolve() == source.resolve():
            raise RunError(
                f"run {run_id!r} would be recorded over itself in {str(target)!r}; name another folder to "
                "write to."
            )
        state = read_json(source / "state.json")
        if state.get("state") != "done":
            raise RunError(
                f"run {run_id!r} is {state.get('state')!r}; only a run that is done can be recorded."
            )
        # Whole or not at all: a copy that fails half way must not take the place of an older one.
        half = target / f".{run_id}.tmp"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        _copy_texts(source, half, state, LINES if detail != "curve" else FEW)
        if detail != "curve":
            _copy_predictions(source, half)
            _copy_pictures(source, half, detail == "full", points)
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)
        made.append(folder)
    return made


def _copy_texts(source: Path, folder: Path, state: dict[str, Any], lines: int) -> None:
    write_json(folder / "spec.json", read_json(source / "spec.json"))
    own = ("pid", "pid_start", "boot_id")
    write_json(folder / "state.json", {k: v for k, v in state.items() if k not in own})
    write_json(folder / "sites.json", read_json(source / "sites.json"))
    rows = events.tail(source / "events.jsonl").rows
    losses = [row for row in rows if row["kind"] == "loss"]
    every = max(1, -(-len(losses) // lines))
    chosen = {id(row) for row in losses[::every]} | ({id(losses[-1])} if losses else set())
    kept = [row for row in rows if row["kind"] != "loss" or id(row) in chosen]
    last = max((row["number"] for row in rows if row["kind"] == "snapshot"), default=None)
    kept = [row for row in kept if row["kind"] != "snapshot" or row["number"] == last]
    text = "".join(json.dumps(_rounded(row)) + "\n" for row in kept)
    (folder / "events.jsonl").write_text(text, encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return value


def _copy_predictions(source: Path, folder: Path) -> None:
    columns = arrays.load_predictions(source / "predictions.parquet")
    test = columns["split"].astype(str) == "test"
    columns["confidence"] = short(columns["confidence"].astype(np.float32))
    arrays.save_predictions(folder / "predictions.parquet", {k: v[test] for k, v in columns.items()})


def _copy_pictures(source: Path, folder: Path, with_masks: bool, points: int) -> None:
    last = arrays.latest(source / "histograms")
    if last is None:
        return
    name = arrays.name_of(last)
    (folder / "histograms").mkdir()
    shutil.copyfile(source / "histograms" / f"{name}.npz", folder / "histograms" / f"{name}.npz")
    (folder / "points").mkdir()
    columns = arrays.load_points(source / "points" / f"{name}.parquet")
    stride = max(1, len(columns["w"]) // points)
    few = {key: column[::stride] for key, column in columns.items()}
    for key in ("w0", "w", "score"):
        few[key] = short(few[key])
    arrays.save_points(folder / "points" / f"{name}.parquet", few)
    if with_masks:
        (folder / "masks").mkdir()
        shutil.copyfile(source / "masks" / f"{name}.npz", folder / "masks" / f"{name}.npz")


def short(values: np.ndarray) -> np.ndarray:
    """Rounds float32 values to a short mantissa, which compresses to about half.

    Args:
        values: float32, any shape.

    Returns:
        float32 of the same shape, relative error at most 2**-11.
    """
    drop = 23 - MANTISSA
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(1 << (drop - 1))) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
