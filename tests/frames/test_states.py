"""Every frame of a run, in every condition a run folder can be in: same columns, same types, no exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import frames
from tests.frames.folder import tear, write_run

OF_A_RUN: dict[str, Callable[[Path], pd.DataFrame]] = {
    "losses": frames.losses,
    "keeps": frames.keeps,
    "evals": frames.evals,
    "sites": frames.sites,
    "structure": frames.structure,
    "points": frames.points,
    "plane": frames.plane,
    "start plane": lambda p: frames.plane(p, "start"),
    "thresholds": frames.thresholds,
    "box": lambda p: frames.box(p, "score", -1, 1, -9, 9),
    "mask_picture": lambda p: frames.mask_picture(p, "encoder.layer.0.query"),
    "overlap": lambda p: frames.overlap(p, p),
    "overlap_matrix": lambda p: frames.overlap_matrix({"a": (p, None), "b": (p, 0)}),
    "rank_agreement": lambda p: frames.rank_agreement(p, p),
    "quadrants": lambda p: frames.quadrants(frames.plane(p)),
    "tensors": frames.tensors,
    "denominators": frames.denominators,
    "layers": frames.layers,
    "tensor_histogram": lambda p: frames.tensor_histogram(p, "x"),
}
ONLY_INSPECTED = ("tensors", "denominators", "layers", "tensor_histogram")


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def damage(path: Path) -> Path:
    """Cuts every file of a run short, as a full disk or a bad copy may."""
    for file in path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            file.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize("name", OF_A_RUN)
def test_columns_and_types_do_not_depend_on_the_condition_of_a_run(name: str, tmp_path: Path) -> None:
    build = OF_A_RUN[name]
    full = build(write_run(tmp_path / "runs" / "full-1"))
    assert len(full) or name in ONLY_INSPECTED
    (tmp_path / "runs" / "empty-1").mkdir()
    broken = damage(write_run(tmp_path / "runs" / "broken-1"))
    for path in (tmp_path / "runs" / "none-1", tmp_path / "runs" / "empty-1", broken):
        assert types(build(path)) == types(full), path.name
        assert list(build(path).index) == list(range(len(build(path))))


def test_torn_and_foreign_lines_are_left_out(finished: Path) -> None:
    before = len(frames.losses(finished)), len(frames.keeps(finished))
    tear(finished)
    losses, keeps = frames.losses(finished), frames.keeps(finished)
    assert len(losses) == before[0] + 1 and np.isnan(losses["value"].iloc[-1])
    assert len(keeps) == before[1] + 1 and np.isnan(keeps["progress"].iloc[-1])
    assert len(frames.results(finished.parent, recorded=False)) == 2


def test_runs_and_results_of_a_missing_an_empty_and_a_mixed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    assert frames.runs(folder, recorded=False).empty and frames.results(folder, recorded=False).empty
    folder.mkdir()
    assert frames.runs(folder, recorded=False).empty
    write_run(folder / "a-1", value=0.75, lr=3e-3)
    (folder / "b-1").mkdir()
    runs, results = frames.runs(folder, recorded=False), frames.results(folder, recorded=False)
    assert dict(zip(runs["run"], runs["state"], strict=True)) == {"a-1": "done", "b-1": "unreadable"}
    assert types(runs) == types(frames.runs(tmp_path / "nothing", recorded=False))
    test = results[results["split"] == "test"]
    assert len(test) == 1 and test["value"].item() == 0.75 and test["lr"].item() == 3e-3
    assert test["keep_prunable"].item() == 0.25 and test["keep_model"].item() == 0.75
    assert test["recipe"].item() == "movement" and test["floor"].item() == 0.5


def test_a_look_ahead_during_a_run_is_no_result(tmp_path: Path) -> None:
    path = write_run(tmp_path / "runs" / "a-1")
    ahead = [e for e in (path / "events.jsonl").read_text().splitlines() if '"final"' in e]
    (path / "events.jsonl").write_text("".join(f"{line}\n" for line in ahead[:-3]))  # the end is cut off
    assert len(frames.evals(path)) == len(ahead) - 3 > 0
    assert frames.results(tmp_path / "runs", recorded=False).empty


def test_many_stacks_runs_under_their_labels(tmp_path: Path) -> None:
    paths = {label: write_run(tmp_path / f"{label}-1", steps=10) for label in ("a", "b")}
    stacked = frames.many(paths, "losses")
    assert list(stacked["run"].unique()) == ["a", "b"]
    assert set(stacked["term"]) == {"loss", "task", "penalty"}
    assert types(stacked) == types(frames.many({"x": tmp_path / "none"}, "losses"))


def test_counts_of_a_run(finished: Path, tmp_path: Path) -> None:
    assert frames.counts(finished) == {"prunable": 1536, "encoder": 1636, "model": 4608}
    assert frames.counts(tmp_path) == {"prunable": 0, "encoder": 0, "model": 0}
