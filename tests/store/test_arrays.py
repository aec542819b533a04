from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from analysis.store import arrays


@given(arrays_of.arrays(bool, arrays_of.array_shapes(max_dims=3, max_side=9)))
def test_a_mask_comes_back_as_it_was_packed(mask: np.ndarray) -> None:
    packed = arrays.pack(mask)
    assert packed.dtype == np.uint8
    assert packed.nbytes == -(-mask.size // 8)
    assert (arrays.unpack(packed, *mask.shape) == mask).all()


def test_unit_i_is_bit_seven_minus_i_of_its_byte() -> None:
    mask = np.zeros((2, 5), bool)
    mask[0, 0] = mask[1, 4] = True
    assert arrays.pack(mask).tolist() == [0b10000000, 0b01000000]


def test_masks_are_saved_per_site_whatever_the_sites_are_called(tmp_path: Path) -> None:
    names = ["encoder.layer.0.query", "file", "../../x", "a/b", "héhé", "allow_pickle"]
    masks = {name: np.arange(12).reshape(3, 4) % (n + 2) == 0 for n, name in enumerate(names)}
    path = tmp_path / "000001.npz"
    arrays.save_masks(path, masks)
    found = arrays.load_masks(path)
    assert list(found) == names
    assert all((arrays.unpack(found[name], 3, 4) == masks[name]).all() for name in names)
    assert list(arrays.load_masks(path, ["file", "nobody"])) == ["file"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001.npz"]


def test_equal_masks_make_equal_files(tmp_path: Path) -> None:
    masks = {"a": np.eye(9, dtype=bool)}
    arrays.save_masks(tmp_path / "a.npz", masks)
    arrays.save_masks(tmp_path / "b.npz", {"a": np.eye(9, dtype=bool)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_pickled_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"[Oo]bject arrays cannot be saved"):
        arrays.save_arrays(tmp_path / "a.npz", {"a": np.array([object()])})
    assert list(tmp_path.iterdir()) == []
    np.savez(tmp_path / "b.npz", a=np.array([{"x": 1}]))
    with pytest.raises(ValueError, match="allow_pickle"):
        arrays.load_arrays(tmp_path / "b.npz")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
def test_a_damaged_file_is_a_value_error(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.npz"
    arrays.save_planes(
        path, {"weight_edges": np.linspace(0, 1, 65), "score_kept": np.ones((2, 64, 64), np.uint32)}
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or keep == 0 else keep * len(data))])
    with pytest.raises(ValueError, match=r"a\.npz is damaged|pickle"):
        arrays.load_planes(path)


def test_planes_keep_their_types(tmp_path: Path) -> None:
    planes = {
        "sites": np.array(["a", "bb"]),
        "weight_edges": np.linspace(-1, 1, 65, dtype=np.float32),
        "score_kept": np.ones((2, 64, 64), np.uint32),
        "threshold": np.array([np.nan, 0.5], np.float32),
    }
    arrays.save_planes(tmp_path / "000001.npz", planes)
    found = arrays.load_planes(tmp_path / "000001.npz")
    assert {name: array.dtype for name, array in found.items()} == {n: a.dtype for n, a in planes.items()}
    assert found["sites"].tolist() == ["a", "bb"]
    assert np.isnan(found["threshold"][0])
    assert list(arrays.load_planes(tmp_path / "000001.npz", ["sites"])) == ["sites"]


def test_points_come_back_by_site(tmp_path: Path) -> None:
    points = {
        "site": ["a", "a", "b"],
        "index": np.array([0, 7, 3]),
        "w0": np.array([0.5, -1.0, np.nan]),
        "w": np.array([0.25, 0.0, 1.0]),
        "score": np.array([1.0, -np.inf, 0.0]),
        "kept": np.array([True, False, True]),
    }
    arrays.save_points(tmp_path / "000001.parquet", points)
    found = arrays.load_points(tmp_path / "000001.parquet")
    assert list(found) == list(points)
    assert found["site"].tolist() == ["a", "a", "b"]
    assert (found["index"].dtype, found["w"].dtype, found["kept"].dtype) == (np.int32, np.float32, np.bool_)
    assert np.isnan(found["w0"][2])
    some = arrays.load_points(tmp_path / "000001.parquet", ["b"])
    assert some["index"].tolist() == [3]
    assert arrays.load_points(tmp_path / "000001.parquet", ["nobody"])["w"].tolist() == []


def test_no_points_are_still_columns(tmp_path: Path) -> None:
    arrays.save_points(tmp_path / "0.parquet", {k: [] for k in ("site", "index", "w0", "w", "score", "kept")})
    found = arrays.load_points(tmp_path / "0.parquet", ["a"])
    assert {name: len(column) for name, column in found.items()} == dict.fromkeys(found, 0)
    assert len(found) == 6


def test_predictions_come_back_and_a_torn_table_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    columns = {
        "row": np.arange(3, dtype=np.int32),
        "label": ["x", "y", "x"],
        "confidence": np.float32([0.5, 1, 0]),
    }
    arrays.save_predictions(path, columns)
    assert arrays.load_predictions(path)["label"].tolist() == ["x", "y", "x"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged"):
        arrays.load_predictions(path)


def test_moments_are_found_by_number_and_half_written_ones_are_not(tmp_path: Path) -> None:
    assert arrays.latest(tmp_path / "none") is None
    names = [
        "000010.npz",
        "000002.npz",
        "1000000.parquet",
        "000300",
        "000400.tmp",
        "000500.npz.ab12.tmp",
        "x.npz",
        "12.npz",
    ]
    for name in names:
        (tmp_path / name).touch()
    assert arrays.numbers(tmp_path) == [2, 10, 300, 1000000]
    assert arrays.latest(tmp_path) == 1000000
    assert arrays.name_of(7) == "000007"
    assert arrays.name_of(1234567) == "1234567"


@given(st.integers(0, 10**9 - 1))
def test_a_number_and_its_name_are_the_same_thing(number: int) -> None:
    found = arrays._NUMBERED.fullmatch(arrays.name_of(number))
    assert found is not None
    assert int(found[1]) == number
