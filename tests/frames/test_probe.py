"""What a probe's files say: frames with the declared columns, and sentences whose numbers are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import frames
from analysis.frames import probe
from analysis.store import arrays, layout

ABOUT = {"metric": "accuracy", "rows": 872, "floor": 0.509, "floor_note": "always the most frequent class"}
NAMES = ("keep", "by", "scope", "state", "value", "error", "rows", "zeros", "seconds")
DENSE = ("", "", "verified", 0.881, 0.011, 872)


def written(folder: Path, points: list[tuple[Any, ...]], **about: Any) -> Path:
    """A folder of a probe; a point is keep, by, scope, state, value, error and rows."""
    layout.write_json(folder / "about.json", {**ABOUT, "prunable": 1000, **about})
    rows = [(*point, round(1000 * (1 - point[0])), 0.1) for point in points]
    arrays.save_table(folder / "points.parquet", dict(zip(NAMES, map(list, zip(*rows)), strict=True)))  # noqa: B905
    return folder


def test_points_are_sorted_and_the_verified_one_is_the_best(tmp_path: Path) -> None:
    cut = ("magnitude", "global")
    points = [(0.3, *cut, "estimated", 0.7, 0.03, 256), (0.5, *cut, "verified", 0.86, 0.01, 872)]
    points += [(1.0, *DENSE), (0.5, *cut, "estimated", 0.852, 0.022, 256)]
    found = frames.probe_points(written(tmp_path, points))
    assert found.dtypes.astype(str).to_dict() == probe.POINTS
    assert list(found["keep"]) == [1, 0.5, 0.5, 0.3]
    assert np.allclose(found["sparsity"], [0, 0.5, 0.5, 0.7])
    best = probe.probe_best(found)
    assert list(zip(best["keep"], best["state"], strict=True)) == [
        *((1, "verified"), (0.5, "verified"), (0.3, "estimated"))
    ]


def test_sentences_have_the_numbers_of_the_files(tmp_path: Path) -> None:
    cut = ("magnitude", "global")
    points = [(1.0, *DENSE), (0.5, *cut, "estimated", 0.852, 0.022, 256)]
    said = " ".join(frames.probe_sentences(written(tmp_path, points)))
    assert "As opened, accuracy is 88.1 % on all 872 rows of the test split; the floor, always" in said
    assert "is 50.9 %." in said and "50 % kept about 85.2 % ± 2.2 (estimated on 256 rows)" in said
    assert "costs" not in said, "a price needs points that are verified"
    points += [(0.5, *cut, "verified", 0.86, 0.01, 872), (0.7, *cut, "verified", 0.875, 0.01, 872)]
    said = " ".join(frames.probe_sentences(written(tmp_path, points)))
    assert "70 % kept 87.5 %; 50 % kept 86.0 % (estimated 85.2 % ± 2.2 on 256)" in said
    assert "The furthest of them that costs at most 1 point keeps 70 %." in said
    assert "Below the floor" not in said and "already zero" not in said


@pytest.mark.parametrize(
    ("value", "about", "parts"),
    [
        (0.2, {}, ["Below the floor: the model may number its labels otherwise"]),
        (0.812, {"metric": "pearson", "floor": 0.0}, ["pearson is 0.812 on"]),
        (float("nan"), {}, ["accuracy is no finite number on"]),
        (0.8, {"prunable": 500}, ["accuracy is 80.0 %"]),
    ],
)
def test_odd_results_are_said_as_they_are(
    value: float, about: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    point = (1.0, "", "", "verified", value, float("nan"), 872)
    said = " ".join(frames.probe_sentences(written(tmp_path, [point], **about)))
    assert all(part in said for part in parts)


def test_zeros_of_the_opened_model_are_said(tmp_path: Path) -> None:
    written(tmp_path, [(1.0, *DENSE)])
    table = arrays.load_table(tmp_path / "points.parquet")
    arrays.save_table(tmp_path / "points.parquet", {**table, "zeros": [400]})
    assert "40 % of its prunable weights are already zero as opened" in frames.probe_sentences(tmp_path)[-1]


def test_times_name_their_kernel_or_their_reason(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"variant": "dense", "seconds": 0.0064, "ratio": 1.0, "kernel": "dense float32: MKL 1"},
        {"variant": "masked", "seconds": 0.0065, "ratio": 1.02, "kernel": "dense float32: MKL 1"},
        {"variant": "CSR", "reason": "too few zeros."},
        {"variant": "reduced", "seconds": 0.003, "ratio": 0.47, "parameters": 1234, "difference": 2e-7},
    ]
    names = ("variant", "seconds", "ratio", "kernel", "reason", "parameters", "difference")
    common = {"keep": [0.1] * 4, "examples": [32] * 4, "shape": ["32 × 19"] * 4}
    arrays.save_table(
        tmp_path / "latency.parquet", {**common, **{n: [r.get(n) for r in rows] for n in names}}
    )
    times = frames.probe_latency(tmp_path)
    assert times.dtypes.astype(str).to_dict() == probe.LATENCY and np.isnan(times["ratio"][2])
    assert frames.probe_speed(tmp_path) == [
        "Dense, a forward pass over 32 examples (32 × 19) takes 6.4 ms (float32: MKL 1).",
        "Masked to 10 %, it takes 1.02 of the dense time: the kernel is the same and does not know which "
        "numbers are zero.",
        "CSR: not timed; too few zeros.",
        "Reduced, it takes 0.47 of the dense time with 1,234 numbers stored; outputs differ from those of "
        "the masked model by at most 2e-07.",
    ]


@pytest.mark.parametrize("damage", ["", "PAR1", "not parquet at all"])
def test_damaged_and_missing_files_give_empty_frames(damage: str, tmp_path: Path) -> None:
    for name in ("points.parquet", "latency.parquet", "about.json"):
        if damage:
            (tmp_path / name).write_text(damage)
    assert frames.probe_points(tmp_path).empty and frames.probe_latency(tmp_path).empty
    assert frames.probe_sentences(tmp_path) == frames.probe_speed(tmp_path) == []
