"""Accuracy against compute: worked numbers of the front, chosen on validation and shown on test."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import frames
from analysis.frames.front import amount, best_at, log_area, on_front
from analysis.frames.runs import RESULTS
from analysis.frames.tables import table
from analysis.store.events import EventWriter
from tests.frames.folder import write_run

RUNS = [(1, 0.50), (2, 0.62), (2, 0.60), (3, 0.61), (4, 0.70), (8, 0.69), (10, 0.74)]
FRONT = [(1, 0.50), (2, 0.62), (4, 0.70), (10, 0.74)]


def split(runs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    macs, values = np.array(runs, dtype=np.float64).T
    return macs, values


def front_of(runs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    macs, values = split(runs)
    return sorted(r for r, keep in zip(runs, on_front(macs, values), strict=True) if keep)


def test_the_front_and_its_area() -> None:
    assert front_of(RUNS) == FRONT
    assert log_area(*split(FRONT), 1, 10) == pytest.approx(0.615712, abs=1e-6)
    assert front_of([*RUNS, (5, 0.66)]) == FRONT  # a run that is beaten changes nothing
    assert front_of([*RUNS, *RUNS]) == FRONT  # nor does doing everything twice
    assert front_of(RUNS[::-1]) == FRONT


def test_the_best_for_a_budget_never_falls() -> None:
    macs, values = split(FRONT)
    found = [best_at(macs, values, c) for c in (1, 1.9, 2, 3.99, 4, 10, 1e9)]
    assert found == [0.50, 0.50, 0.62, 0.62, 0.70, 0.74, 0.74]
    assert math.isnan(best_at(macs, values, 0.5))


def test_an_area_without_an_interval_is_unknown() -> None:
    macs, values = split(FRONT)
    assert math.isnan(log_area(macs, values, 0.5, 10))  # nothing is known below 1
    assert math.isnan(log_area(macs, values, 4, 4)) and math.isnan(log_area(macs[:0], values[:0], 1, 2))
    assert log_area(macs, values, 4, 10) == pytest.approx(0.70)


def results(*rows: tuple[str, float, float, float, int]) -> pd.DataFrame:
    """Rows of (recipe, compute, validation, test, seed); one setting per recipe and compute."""
    fixed = {"metric": "accuracy", "lr": 1e-3, "keep_target": 0.5, "keep_prunable": 0.5}
    return table(
        RESULTS,
        [
            {"recipe": r, "macs": c, "split": s, "value": v, "seed": seed, "settings": f"{c:g}", **fixed}
            for r, c, validation, test, seed in rows
            for s, v in (("validation", validation), ("test", test))
        ],
    )


def test_a_trial_is_chosen_on_validation_and_shown_on_test() -> None:
    found = frames.trials(
        results(("movement", 1, 0.6, 0.5, 0), ("movement", 2, 0.5, 0.9, 0), ("movement", 4, 0.7, 0.4, 0))
    )
    assert found["front"].tolist() == [True, False, True]
    assert found["test"].tolist() == [0.5, 0.9, 0.4] and found["validation"].tolist() == [0.6, 0.5, 0.7]


def test_seeds_are_one_trial_and_recipes_have_fronts_of_their_own() -> None:
    found = frames.trials(
        results(
            ("movement", 2, 0.6, 0.5, 0),
            ("movement", 2, 0.8, 0.7, 1),
            ("compute_optimal", 1, 0.5, 0.4, 0),
            ("compute_optimal", 4, 0.55, 0.45, 0),
        )
    )
    assert found["recipe"].tolist() == ["compute_optimal", "compute_optimal", "movement"]
    assert found["front"].all()
    last = found.iloc[2]
    assert (last["runs"], last["low"], last["high"]) == (2, 0.5, 0.7)
    assert (last["validation"], last["test"]) == (pytest.approx(0.7), pytest.approx(0.6))
    areas = frames.areas(found)
    assert areas["low"].tolist() == [2, 2] and areas["high"].tolist() == [4, 4]  # where both are known
    assert areas["area"].tolist() == pytest.approx([0.4, 0.6])
    assert areas["spent"].tolist() == [5, 4] and areas["trials"].tolist() == [2, 1]
    said = frames.front_sentences(areas)
    assert said[0].startswith("movement: 0.600 on average between 2 and 4 multiply-adds")


def test_compute_of_all_trials_adds_up() -> None:
    first, second = ("movement", 3, 0.6, 0.5, 0), ("movement", 4, 0.7, 0.6, 0)
    both = frames.areas(frames.trials(results(first, second)))
    alone = [frames.areas(frames.trials(results(r)))["spent"][0] for r in (first, second)]
    assert both["spent"].tolist() == [sum(alone)] == [7]


def test_runs_that_do_not_say_their_compute_are_left_out() -> None:
    found = frames.trials(results(("movement", math.nan, 0.6, 0.5, 0)))
    assert found.empty and frames.areas(found).empty and frames.front_sentences(frames.areas(found)) == []
    only = results(("movement", 1, 0.6, 0.5, 0))
    assert frames.trials(only[only["split"] == "test"]).empty  # nothing to choose by


def test_results_hold_the_compute_that_a_run_wrote(tmp_path: Path) -> None:
    told, silent = write_run(tmp_path / "a-1"), write_run(tmp_path / "b-1", seed=1)
    with EventWriter(told / "events.jsonl") as events:
        events.append({"kind": "compute", "step": 100, "macs_run": 3_000_000_000})
    found = frames.results(tmp_path, recorded=False).set_index("run")["macs"]
    assert set(found[told.name]) == {3e9} and np.isnan(found[silent.name]).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1_822_000_000, "1.82 G"), (999_600, "1 M"), (4.0892e9, "4.09 G"), (12, "12"), (2.5e13, "25 T")],
)
def test_large_numbers_are_written_short(value: float, text: str) -> None:
    assert amount(value) == text
