"""Seeds to bands, learning rates to their best, and sentences that say no more than the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import frames
from analysis.bundle import demo
from analysis.frames.runs import RESULTS, digest
from analysis.frames.tables import table
from analysis.spec import to_dict
from analysis.store import layout
from tests.frames.folder import write_run


def results(
    *rows: tuple[str, float, float, int], split: str = "test", lr: float = 1e-3, settings: str = ""
) -> pd.DataFrame:
    """Rows of (recipe, keep, value, seed)."""
    fixed = {
        "split": split,
        "lr": lr,
        "settings": settings,
        "metric": "accuracy",
        "floor": 0.5,
        "model": "m",
        "task": "t",
    }
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
    assert found["mean"].tolist() == pytest.approx([0.85])  # each seed has one vote


def test_a_repetition_does_not_move_a_recorded_point() -> None:
    shipped = results(("movement", 0.1, 0.8, 0), ("movement", 0.1, 0.9, 1)).assign(recorded=True)
    own = results(("movement", 0.1, 0.2, 0), ("movement", 0.1, 0.7, 2))
    found = frames.curves(pd.concat([own, shipped]))
    assert found["mean"].tolist() == pytest.approx([0.8])  # .8, .9 as recorded, and the new seed's .7
    assert found["runs"].tolist() == [3]


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
    joined = frames.curves(frame, by=("recipe",))
    assert joined["mean"].tolist() == [0.7, 0.8, 0.6]  # two rates at one keep are no band
    assert joined["variant"].tolist() == ["", "", "learning rate 0.003"]


def test_other_settings_are_other_points_and_the_most_frequent_ones_are_plain() -> None:
    frame = pd.concat(
        [
            results(("movement", 0.1, 0.8, 0), ("movement", 0.1, 0.9, 1), settings="aaaaaaaa"),
            results(("movement", 0.1, 0.1, 2), ("magnitude", 0.1, 0.7, 0), settings="bbbbbbbb"),
        ]
    )
    found = frames.curves(frame, by=("recipe",))
    assert found[["recipe", "variant", "settings", "runs"]].to_numpy().tolist() == [
        ["magnitude", "", "bbbbbbbb", 1],
        ["movement", "", "aaaaaaaa", 2],
        ["movement", "other settings (bbbbbbbb)", "bbbbbbbb", 1],
    ]
    assert found["low"].tolist() == [0.7, 0.8, 0.1] and frames.usual(found)["high"].tolist() == [0.7, 0.9]
    others = found[found["variant"] != ""]
    assert frames.usual(others).equals(others)


def test_of_equally_many_runs_the_recorded_ones_are_plain() -> None:
    recorded = results(("movement", 0.1, 0.8, 0), settings="bbbbbbbb").assign(recorded=True)
    found = frames.curves(pd.concat([results(("movement", 0.1, 0.9, 0), settings="aaaaaaaa"), recorded]))
    assert frames.usual(found)["settings"].tolist() == ["bbbbbbbb"]


def test_a_line_of_best_rates_stays_one_line() -> None:
    frame = pd.concat([results(("movement", 0.1, 0.8, 0)), results(("movement", 0.3, 0.9, 0), lr=3e-3)])
    assert frames.curves(frame, by=("recipe",))["variant"].tolist() == ["", ""]


def write_spec(path: Path, training: dict[str, object], **more: object) -> None:
    spec = layout.read_json(path / "spec.json")
    layout.write_json(path / "spec.json", {**spec, **more, "training": {**spec["training"], **training}})


def test_runs_of_unlike_length_are_two_points_and_threads_change_nothing(tmp_path: Path) -> None:
    for seed, (threads, evaluations) in enumerate([(0, 8), (1, 4)]):
        path = write_run(tmp_path / f"same-{seed}", seed=seed, value=0.8 + seed / 100)
        write_spec(path, {"threads": threads, "evaluations": evaluations}, versions={"torch": str(seed)})
    write_spec(write_run(tmp_path / "long-1", seed=2, steps=200, value=0.9), {"threads": 0, "evaluations": 8})
    found = frames.results(tmp_path, recorded=False)
    assert found.groupby("settings")["run"].agg(lambda runs: sorted(set(runs))).sort_values().tolist() == [
        ["long-1"],
        ["same-0", "same-1"],
    ]
    assert found["settings"].str.fullmatch("[0-9a-f]{8}").all()
    points = frames.curves(found)
    assert points["keep"].tolist() == [0.25, 0.25] and points["runs"].tolist() == [2, 1]
    assert points["low"].tolist() == [0.8, 0.9] and points["high"].tolist() == [0.81, 0.9]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seed": 5, "keep": 0.1, "name": "x", "versions": {}, "schema_version": 2}, True),
        ({"training": {"steps": 400, "batch": 32, "threads": 1, "snapshots": 9, "points": 7}}, True),
        ({"training": {"steps": 400, "batch": 64}}, False),
        ({"parts": {"optimizer": {"type": "AdamW", "lr": 0.1}, "score": {"lr": 0.1}}}, True),
        ({"parts": {"optimizer": {"type": "AdamW", "lr": 0.1}, "score": {"lr": 0.2}}}, False),
        ({"task": {"train_rows": 50}}, False),
        ({"teacher": "run:a"}, False),
        ({"task": {"train_rows": 0, "max_length": 128}}, True),  # a default that an older spec does not name
    ],
)
def test_settings_are_all_that_decides_what_is_computed(change: dict[str, object], same: bool) -> None:
    parts = {"optimizer": {"type": "AdamW", "lr": 0.001}, "score": {"lr": 0.1}}
    spec = {"recipe": "movement", "seed": 0, "keep": 0.3, "task": {"train_rows": 0}, "parts": parts}
    spec["training"] = {"steps": 400, "batch": 32, "threads": 0}
    assert (digest({**spec, **change}) == digest(spec)) is same


def test_the_recorded_seeds_share_their_settings_with_runs_of_today(tmp_path: Path) -> None:
    found = frames.results(tmp_path)
    movement = found[(found["recipe"] == "movement") & (found["task"] == demo.TASK)]
    planned = next(p for p in demo.comparison() if p.recipe == "movement")
    assert planned.training.threads == 0 and set(movement["settings"]) == {digest(to_dict(planned))}


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


def test_verdict_leaves_other_settings_out_unless_there_are_only_others() -> None:
    frame = pd.concat(
        [
            results(
                *seeds("movement", 0.1, 0.8, 0.8), *seeds("magnitude", 0.1, 0.7, 0.7), settings="aaaaaaaa"
            ),
            results(("movement", 0.1, 0.1, 0), settings="bbbbbbbb"),
            results(("movement", 0.1, 0.2, 0), settings="cccccccc"),
        ]
    )
    points = frames.curves(frame, by=("recipe",))
    (sentence,) = frames.verdict(points)
    assert "movement leads magnitude by 10.0 points" in sentence
    only = frames.verdict(points[points["variant"] != ""])
    assert "movement, other settings (cccccccc) leads movement, other settings (bbbbbbbb)" in only[0]


def test_the_best_learning_rate_of_some_settings_says_nothing_about_others() -> None:
    frame = pd.concat(
        [
            results(("movement", 0.1, 0.8, 0), split="validation", lr=1e-3, settings="aaaaaaaa"),
            results(("movement", 0.1, 0.7, 0), split="validation", lr=3e-3, settings="aaaaaaaa"),
            results(("movement", 0.1, 0.9, 0), split="validation", lr=3e-3, settings="bbbbbbbb"),
        ]
    )
    assert sorted(frames.best_lr(frame)["value"]) == [0.8, 0.9]


def test_verdict_turns_round_when_lower_is_better() -> None:
    (sentence,) = said(*seeds("a", 0.1, 0.2, 0.3), *seeds("b", 0.1, 0.8, 0.9), better="lower")
    assert "a leads b by 60.0 points, and the ranges of their seeds do not overlap" in sentence
