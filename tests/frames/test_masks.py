"""Sites, structure and overlap against masks small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import frames
from analysis.store import arrays


def mask_run(path: Path, masks: dict[int, dict[str, np.ndarray]], **site: object) -> Path:
    """A run with given masks; every site has the shape of its first mask."""
    (path / "masks").mkdir(parents=True)
    first = next(iter(masks.values()))
    entries = [
        {
            "site": name,
            "role": "query",
            "layer": i,
            "rows": m.shape[0],
            "cols": m.shape[1],
            "heads": None,
            **site,
        }
        for i, (name, m) in enumerate(first.items())
    ]
    (path / "sites.json").write_text(json.dumps({"sites": entries}))
    (path / "spec.json").write_text(json.dumps({"training": {"steps": 100}}))
    for number, found in masks.items():
        arrays.save_masks(path / "masks" / f"{number:06d}.npz", found)
    return path


def of(text: str) -> np.ndarray:
    return np.array([[c == "1" for c in row] for row in text.split()])


def test_sites_count_what_is_kept(tmp_path: Path) -> None:
    run = mask_run(tmp_path / "a", {5: {"q": of("110 000 001"), "k": of("1111 1111")}})
    sites = frames.sites(run)
    assert sites["weights"].tolist() == [9, 8]
    assert sites["kept"].tolist() == [3.0, 8.0]
    assert sites["keep"].tolist() == [pytest.approx(1 / 3), 1.0]
    assert sites["sparsity"].tolist() == [pytest.approx(2 / 3), 0.0]
    assert frames.sites(run, 99)["kept"].isna().all()


def test_structure_counts_empty_rows_columns_and_heads(tmp_path: Path) -> None:
    mask = of("1000 0000 0000 0000")
    row = frames.structure(mask_run(tmp_path / "a", {1: {"q": mask}}, heads=2)).iloc[0]
    assert (row["rows_empty"], row["cols_empty"], row["heads_empty"]) == (3, 3, 1)
    across = frames.structure(
        mask_run(tmp_path / "b", {1: {"q": of("1010 0000")}}, heads=2, role="attention output")
    )
    assert across["heads_empty"].item() == 0
    assert frames.structure(mask_run(tmp_path / "d", {1: {"q": mask}}, heads=3))["heads_empty"].isna().all()


def test_mask_picture_is_the_mean_of_its_blocks(tmp_path: Path) -> None:
    run = mask_run(tmp_path / "a", {1: {"q": of("11000 11000 00011")}})
    exact = frames.mask_picture(run, "q")
    assert exact["keep"].tolist() == of("11000 11000 00011").ravel().astype(float).tolist()
    coarse = frames.mask_picture(run, "q", pixels=2)
    assert coarse[["row", "col"]].to_numpy().tolist() == [[0, 0], [0, 2], [1, 0], [1, 2]]
    assert coarse["keep"].tolist() == pytest.approx([1.0, 0.0, 0.5, 1 / 3])
    assert frames.mask_picture(run, "unknown").empty


def test_overlap_of_two_small_masks(tmp_path: Path) -> None:
    a = mask_run(tmp_path / "a", {1: {"q": of("1100 1100"), "k": of("1111")}})
    b = mask_run(tmp_path / "b", {1: {"q": of("1010 1000"), "k": of("0000")}})
    found = frames.overlap(a, b)
    assert found["site"].tolist() == ["q", "k", "overall"]
    assert found["kept_a"].tolist() == [4, 4, 8] and found["kept_b"].tolist() == [3, 0, 3]
    assert found["both"].tolist() == [2, 0, 2]
    assert found["jaccard"].tolist() == pytest.approx([2 / 5, 0.0, 2 / 9])
    r_a, r_b = 4 / 8, 3 / 8
    assert found["expected"][0] == pytest.approx(r_a * r_b / (r_a + r_b - r_a * r_b))
    assert found["expected"][2] == pytest.approx(
        1.5 / (11 - 1.5)
    )  # 4 · 3 / 8 weights shared by chance, of 8 + 3


def test_overlap_skips_what_cannot_be_compared(tmp_path: Path) -> None:
    a = mask_run(tmp_path / "a", {1: {"q": of("11 00"), "k": of("10")}})
    b = mask_run(tmp_path / "b", {1: {"q": of("110 000")}})
    assert frames.overlap(a, b).empty
    empty = mask_run(tmp_path / "c", {1: {"q": of("00 00")}})
    assert frames.overlap(empty, empty)["jaccard"].isna().all()


def test_overlap_matrix_is_symmetric_with_ones_on_the_diagonal(tmp_path: Path) -> None:
    runs = {name: mask_run(tmp_path / name, {1: {"q": of(t)}}) for name, t in (("a", "1100"), ("b", "0110"))}
    found = frames.overlap_matrix({name: (path, None) for name, path in runs.items()})
    assert found[["a", "b"]].to_numpy().tolist() == [["a", "a"], ["a", "b"], ["b", "a"], ["b", "b"]]
    assert found["jaccard"].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1])
    assert found["expected"].tolist() == pytest.approx([1 / 3] * 4)


@pytest.mark.parametrize(("keep", "chance"), [(0.1, 0.0526), (0.5, 0.3333), (0.03, 0.0152)])
def test_chance_of_equal_keeps_is_r_over_two_minus_r(keep: float, chance: float) -> None:
    assert frames.expected_jaccard(1e6, keep * 1e6, keep * 1e6) == pytest.approx(chance, abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_chance_agrees_with_random_masks(seed: int, r_a: float, r_b: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random(200_000) < r_a, rng.random(200_000) < r_b
    measured = (a & b).sum() / (a | b).sum()
    assert frames.expected_jaccard(a.size, int(a.sum()), int(b.sum())) == pytest.approx(measured, abs=0.01)


def test_rank_agreement_is_one_with_itself_and_minus_one_reversed(tmp_path: Path) -> None:
    paths = []
    for name, sign in (("a", 1), ("b", -1)):
        path = mask_run(tmp_path / name, {1: {"q": of("11111")}})
        (path / "points").mkdir()
        score = sign * np.arange(5.0)
        row = {"w0": score, "w": score, "score": score, "kept": score > 0}
        arrays.save_points(
            path / "points" / "000001.parquet", {"site": ["q"] * 5, "index": np.arange(5), **row}
        )
        paths.append(path)
    assert frames.rank_agreement(paths[0], paths[0])["spearman"].tolist() == pytest.approx([1, 1])
    assert frames.rank_agreement(paths[0], paths[1])["spearman"].tolist() == pytest.approx([-1, -1])
