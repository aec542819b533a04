"""Seeds to bands, learning rates to their best, and sentences that say no more than the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import frames
from analysis.frames.runs import RESULTS
from analysis.frames.tables import table


def results(*rows: tuple[str, float, float, int], split: str = "test", lr: float = 1e-3) -> pd.DataFrame:
    """Rows of (recipe, keep, value, seed)."""
    fixed = {"split": split, "lr": lr, "metric": "accuracy", "floor": 0.5, "model": "m", "task": "t"}
    return table(
        RESULTS,
        [
            {"recipe": r, "keep_target": k, "keep_prunable": k, "value": v, "seed": s, **fixed}
            for r, k, v, s in rows
        ],
    )


def test_seeds_become_mean_lowest_and_highest() -> None:
    found = frames.curves(
        results(
            ("movement", 0.1, 0.8, 0),
            ("movement", 0.1, 0.9, 1),
            ("movement", 0.1, 0.85, 2),
            ("movement", 0.3, 0.9, 0),
        )
    )
    first, second = found.to_dict("records")
    assert (first["keep"], first["runs"], first["low"], first["high"]) == (pytest.approx(0.1), 3, 0.8, 0.9)
    assert first["mean"] == pytest.approx(0.85) and first["lr"] == 1e-3 and not first["recorded"]
    assert (second["runs"], second["low"], second["mean"], second["high"]) == (1, 0.9, 0.9, 0.9)


def test_the_same_seed_twice_is_one_seed() -> None:
    found = frames.curves(
        results(("movement", 0.1, 0.8, 0), ("movement", 0.1, 0.8, 0), ("movement", 0.1, 0.9, 1))
    )
    assert found["runs"].tolist() == [2]


def test_lines_are_split_by_recipe_and_learning_rate_and_other_splits_left_out() -> None:
    frame = pd.concat(
        [
            results(("movement", 0.1, 0.8, 0), ("magnitude", 0.1, 0.7, 0)),
            results(("movement", 0.1, 0.6, 0), lr=3e-3),
            results(("movement", 0.1, 0.99, 0), split="validation"),
            results(("movement", 0.1, float("nan"), 1)),
        ]
    )
    found = frames.curves(frame)
    assert found[["recipe", "lr", "mean"]].to_numpy().tolist() == [
        ["magnitude", 1e-3, 0.7],
        ["movement", 1e-3, 0.8],
        ["movement", 3e-3, 0.6],
    ]
    assert frames.curves(frame, by=("recipe",))["runs"].tolist() == [1, 1]  # two rates, one seed


def test_a_learned_keep_is_gathered_by_what_was_measured() -> None:
    frame = results(("soft_movement", np.nan, 0.8, 0), ("soft_movement", np.nan, 0.9, 1))
    frame["keep_prunable"] = [0.0301, 0.0299]
    found = frames.curves(frame)
    assert found["runs"].tolist() == [2] and found["keep"].item() == pytest.approx(0.03)


def test_nothing_gives_the_same_columns() -> None:
    empty = frames.curves(table(RESULTS))
    assert (
        empty.dtypes.astype(str).to_dict()
        == frames.curves(results(("a", 0.1, 0.5, 0))).dtypes.astype(str).to_dict()
    )
    assert frames.best_lr(table(RESULTS)).empty


def test_the_best_learning_rate_is_chosen_on_validation_never_on_test() -> None:
    frame = pd.concat(
        [
            results(("magnitude", 0.1, 0.70, 0), split="validation", lr=1e-3),
            results(("magnitude", 0.1, 0.80, 0), split="validation", lr=3e-3),
            results(("magnitude", 0.1, 0.99, 0), split="test", lr=1e-3),
            results(("magnitude", 0.1, 0.75, 0), split="test", lr=3e-3),
            results(("movement", 0.1, 0.60, 0), split="test", lr=3e-3),
        ]
    )
    best = frames.best_lr(frame)
    test = best[best["split"] == "test"]
    assert test[["recipe", "lr", "value"]].to_numpy().tolist() == [["magnitude", 3e-3, 0.75]]


def test_pareto_leaves_out_what_another_point_beats() -> None:
    points = pd.DataFrame({"keep": [0.1, 0.3, 0.3, 0.5, np.nan], "mean": [0.7, 0.9, 0.8, 0.9, 1.0]})
    assert frames.pareto(points).tolist() == [True, True, False, False, False]


def seeds(recipe: str, keep: float, *values: float) -> list[tuple[str, float, float, int]]:
    return [(recipe, keep, v, s) for s, v in enumerate(values)]


def said(*rows: tuple[str, float, float, int], **options: str) -> list[str]:
    return frames.verdict(frames.curves(results(*rows), by=("recipe",)), **options)


def test_verdict_names_the_leader_the_points_and_that_ranges_are_apart() -> None:
    sentences = said(*seeds("movement", 0.03, 0.84, 0.87, 0.86), *seeds("magnitude", 0.03, 0.69, 0.60, 0.62))
    assert sentences == [
        "With about 3 % of the prunable weights kept, movement leads magnitude by 22.0 points, and the "
        "ranges of their seeds do not overlap (3 and 3 seeds)."
    ]


def test_verdict_says_when_magnitude_leads_and_when_ranges_overlap() -> None:
    (sentence,) = said(*seeds("movement", 0.3, 0.88, 0.92), *seeds("magnitude", 0.3, 0.91, 0.95))
    assert "magnitude leads movement by 3.0 points, but the ranges of their seeds overlap" in sentence


def test_verdict_warns_of_single_runs_and_calls_ties_level() -> None:
    sentences = said(("movement", 0.1, 0.9, 0), ("magnitude", 0.1, 0.8, 0))
    assert "movement and magnitude were run only once, so this may be chance" in sentences[0]
    assert sentences[-1].startswith("Every point is a single run")
    assert "are level" in said(*seeds("a", 0.1, 0.8, 0.8), *seeds("b", 0.1, 0.8, 0.8))[0]


def test_verdict_finds_the_crossing_between_measured_points() -> None:
    sentences = said(
        *seeds("movement", 0.1, 0.8, 0.8), *seeds("movement", 0.4, 0.9, 0.9),
        *seeds("magnitude", 0.1, 0.7, 0.7), *seeds("magnitude", 0.4, 1.0, 1.0),
    )  # fmt: skip
    crossing = [s for s in sentences if "cross" in s]
    assert len(crossing) == 1 and "near 20 % kept" in crossing[0]
    assert "magnitude is higher above it, movement below it" in crossing[0]


def test_verdict_without_anything_to_compare_says_what_is_missing() -> None:
    assert "at least two recipes" in said(("movement", 0.1, 0.9, 0))[0]
    assert "at least two recipes" in said(("movement", 0.1, 0.9, 0), ("dense", 1.0, 0.9, 0))[0]
    assert "no two recipes" in said(("movement", 0.1, 0.9, 0), ("magnitude", 0.5, 0.9, 0))[0]
    assert len(frames.verdict(frames.curves(table(RESULTS)))) == 1


def test_verdict_turns_round_when_lower_is_better() -> None:
    (sentence,) = said(*seeds("a", 0.1, 0.2, 0.3), *seeds("b", 0.1, 0.8, 0.9), better="lower")
    assert "a leads b by 60.0 points, and the ranges of their seeds do not overlap" in sentence


def test_changes_name_what_happened_to_each_answer(tmp_path: Path) -> None:
    def made(*answers: str) -> pd.DataFrame:
        rows = {"row": np.arange(5), "label": ["1", "1", "1", "1", "1"], "prediction": list(answers)}
        rest = {"confidence": np.ones(5), "keep": np.ones(5), "split": ["test"] * 5}
        return pd.DataFrame({**rows, **rest})

    found = frames.changes(made("1", "0", "1", "0", "0"), made("1", "1", "0", "2", "0"))
    assert found["change"].tolist() == [
        "still right",
        "became right",
        "became wrong",
        "wrong in another way",
        "still wrong",
    ]
    assert frames.changes(made(*"11111"), frames.predictions(tmp_path)).empty
