"""What was cut out of a model, as its run wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import frames
from analysis.store.events import EventWriter

LAYER = {"layer": 0, "heads": 1, "heads_before": 4, "neurons": 30, "neurons_before": 100}
MEASURED: dict[str, Any] = {
    "layers": [LAYER, {**LAYER, "layer": 1, "heads": 4, "neurons": 70}],
    "parameters_before": 2000,
    "parameters": 1500,
    "difference": 2.4e-7,
    "examples": 32,
    "seconds_before": 0.2,
    "seconds": 0.15,
    "threads": 1,
    "device": "cpu",
}


def write(run: Path, **event: Any) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    with EventWriter(run / "events.jsonl") as diary:
        diary.append({"kind": "removal", "step": 10, "progress": 1.0, "time": 1.0, **event})
    return run


def test_what_was_removed_is_listed_and_said(tmp_path: Path) -> None:
    run = write(tmp_path / "a", **MEASURED)
    assert frames.removed(run)["neurons"].tolist() == [30, 70]
    said = frames.removal_sentence(run)
    for part in ("3 of 8 heads", "100 of 200 neurons", "1,500 of 2,000", "at most 2e-07", "0.75 of the time"):
        assert part in said


@pytest.mark.parametrize("event", [{}, {"layers": 3, "parameters": "x"}, {"parameters_before": 0}])
def test_a_damaged_event_says_nothing(event: dict[str, Any], tmp_path: Path) -> None:
    run = write(tmp_path / "a", **event)
    assert frames.removed(run).empty and frames.removal_sentence(run) == ""


def test_why_nothing_was_removed_is_said(tmp_path: Path) -> None:
    run = write(tmp_path / "a", reason="its weights lie transposed.")
    assert frames.removal_sentence(run) == "Nothing was removed: its weights lie transposed."


def test_a_run_without_removal(finished: Path, empty_run: Path) -> None:
    for run in (finished, empty_run):
        assert frames.removed(run).empty and frames.removal_sentence(run) == ""
