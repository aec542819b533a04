"""The one pass over the values against slow, obvious computations on the whole tensor."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.engine.inspect import reading, stream, values
from analysis.engine.inspect.header import Entry
from analysis.engine.inspect.kinds import KINDS, edges
from analysis.engine.inspect.reading import spans
from analysis.engine.inspect.values import Found, analyse
from tests.inspect import made

SMALL = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def entry(path: Path, dtype: str, shape: tuple[int, ...], raw: np.ndarray) -> Entry:
    path.write_bytes(np.ascontiguousarray(raw).tobytes())
    return Entry("w", dtype, shape, path, 0, raw.nbytes)


def measured(found: Entry, mask: Entry | None = None) -> Found:
    """All spans of a tensor, joined."""
    first, *rest = [analyse(found, begin, end, mask) for begin, end in spans(found)]
    for more in rest:
        first.join(more)
    return first


def blocks_empty(w: np.ndarray) -> int:
    """Counts empty blocks of 32 x 32 one by one."""
    rows, cols = w.shape
    return sum(not w[i : i + 32, j : j + 32].any() for i in range(0, rows, 32) for j in range(0, cols, 32))


def most(w: np.ndarray, size: int) -> int:
    return int((w.reshape(-1, size) != 0).sum(axis=1).max())


@given(
    st.sampled_from(["F32", "F16", "BF16", "F64"]),
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([0.0, 0.5, 0.97, 1.0]),
    st.sampled_from(["weights", "rows", "columns", "blocks", "2:4"]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([64, 1 << 19]),
)
@settings(suppress_health_check=SMALL, max_examples=60, deadline=None)
def test_everything_agrees_with_whole_tensors(
    tmp_path: Path, dtype: str, rows: int, cols: int, sparsity: float, how: str, seed: int, chunk: int
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 0.1, (rows, cols))
    keep = {
        "weights": rng.random((rows, cols)),
        "rows": np.repeat(rng.random((rows, 1)), cols, 1),
        "columns": np.repeat(rng.random((1, cols)), rows, 0),
        "blocks": np.kron(rng.random((-(-rows // 32), -(-cols // 32))), np.ones((32, 32)))[:rows, :cols],
        "2:4": np.tile([1.0, 1.0, 0.0, 0.0], rows * cols)[: rows * cols].reshape(rows, cols),
    }[how]
    _, shape, raw = made.floats(dtype, w * (keep >= (0.5 if how == "2:4" else sparsity)))
    w = made.read(dtype, raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "CHUNK", chunk)
        patch.setattr(reading, "CHUNK", chunk)
        patch.setattr(reading, "LONGEST", 64 * chunk)
        patch.setattr(reading, "SPAN", 32 * chunk)
        found = measured(entry(tmp_path / "w", dtype, shape, raw))
    said, seen = found.tally.summary(), found.structure
    assert said["zeros"] == (w == 0).sum() and said["nonfinite"] == 0
    assert (said["min"], said["max"]) == (w.min(), w.max())
    assert said["mean"] == pytest.approx(w.mean(), abs=1e-9)
    assert said["std"] == pytest.approx(w.std(), rel=1e-6, abs=1e-9)
    wanted = np.quantile(np.abs(w), values.QUANTILES, method="inverted_cdf")
    near = 0 if dtype in ("F16", "BF16") else 2.0**-8
    assert said["quantiles"] == pytest.approx(wanted.tolist(), rel=near, abs=1e-37)
    assert seen is not None
    assert (seen.row_used == w.any(axis=1)).all() and (seen.col_used == w.any(axis=0)).all()
    assert seen.blocks_empty == blocks_empty(w)
    assert seen.most == {m: most(w, m) for m in (2, 4, 8, 16) if cols % m == 0}
    shown, counts = found.tally.histogram()
    assert counts.sum() == (w != 0).sum() and (np.diff(shown) > 0).all()
    if near == 0:
        other, often = np.unique(w[w != 0], return_counts=True)
        assert (shown == other).all() and (counts == often).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40))
@settings(suppress_health_check=SMALL, max_examples=20, deadline=None)
def test_kernels_and_rows_longer_than_a_piece(tmp_path: Path, seed: int, area: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(rows, 300, area)).astype("f4") * (rng.random((rows, 300, 1)) > 0.9)
    w[rng.random(rows) > 0.7] = 0
    flat = w[:, :, 0]
    for data, shape in ((w, w.shape), (flat, flat.shape)):
        found = entry(tmp_path / "w", "F32", shape, data)
        whole = measured(found)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(values, "CHUNK", 64)
            patch.setattr(reading, "CHUNK", 64)
            patch.setattr(reading, "LONGEST", 128)
            patch.setattr(reading, "SPAN", 32)
            parts = measured(found)
        for seen in (whole, parts):
            assert seen.structure is not None
            rest = data.reshape(rows, 300, -1)
            assert (seen.structure.row_used == rest.any(axis=(1, 2))).all()
            assert (seen.structure.col_used == rest.any(axis=(0, 2))).all()
            if data.ndim == 2:
                assert seen.structure.blocks_empty == blocks_empty(data)
                assert seen.structure.most == {m: most(data, m) for m in (2, 4)}
        assert whole.tally.summary()["zeros"] == parts.tally.summary()["zeros"] == (data == 0).sum()


def test_rows_between_a_piece_and_a_chunk_have_their_blocks_counted(tmp_path: Path) -> None:
    w = np.zeros((64, 70_000), dtype="<f4")
    w[3, 5] = w[40, 69_999] = 1
    found = measured(entry(tmp_path / "w", "F32", w.shape, w))
    assert found.structure is not None
    assert found.structure.blocks_empty == 2 * -(-70_000 // 32) - 2
    assert found.structure.row_used.sum() == found.structure.col_used.sum() == 2


def test_doubles_beyond_single_precision_are_told_where_they_can_be(tmp_path: Path) -> None:
    said = measured(entry(tmp_path / "w", "F64", (4,), np.full(4, 1e300))).tally.summary()
    assert (said["min"], said["max"], said["nonfinite"]) == (1e300, 1e300, 0)
    assert said["std"] is None and said["quantiles"] == [None] * 7
    some = np.array([1.0] + [1e200] * 15)
    said = measured(entry(tmp_path / "v", "F64", (16,), some)).tally.summary()
    assert said["std"] is None and said["quantiles"][3:] == [None] * 4
    assert said["quantiles"][0] == pytest.approx(1.0, rel=2**-8)


def test_no_quantile_lies_beyond_the_largest_value(tmp_path: Path) -> None:
    said = measured(entry(tmp_path / "w", "F32", (5,), np.ones(5, "<f4"))).tally.summary()
    assert said["quantiles"] == [1.0] * 7


def test_many_small_tensors_stay_small(tmp_path: Path) -> None:
    found = measured(entry(tmp_path / "w", "F32", (1,), np.ones(1, "<f4")))
    assert len(pickle.dumps(found)) < 2000
    groups = stream.grouped([(4, i) for i in range(1000)])
    assert max(map(len, groups)) <= stream.MANY and [i for g in groups for i in g] == list(range(1000))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_what_is_not_finite_is_counted_and_left_out(dtype: str, tmp_path: Path) -> None:
    w = np.array([[np.nan, np.inf, -np.inf, 0.0], [-0.0, 1.0, 2.0, 1e-30]])
    _, shape, raw = made.floats(dtype, w)
    said = measured(entry(tmp_path / "w", dtype, shape, raw)).tally.summary()
    zeros = 3 if dtype == "F16" else 2  # 1e-30 is zero in half precision
    assert (said["nonfinite"], said["zeros"], said["max"]) == (3, zeros, 2.0)
    assert said["mean"] == pytest.approx(0.6)
    gone = measured(entry(tmp_path / "n", dtype, shape, np.full_like(raw, raw[0, 0]))).tally.summary()
    assert gone["nonfinite"] == 8 and gone["mean"] is None and gone["quantiles"] is None


def test_large_doubles_are_finite_and_small_ones_are_no_zeros(tmp_path: Path) -> None:
    w = np.array([1e300, -1e300, 1e-300, 0.0])
    said = measured(entry(tmp_path / "w", "F64", (4,), w)).tally.summary()
    assert (said["nonfinite"], said["zeros"], said["max"], said["min"]) == (0, 1, 1e300, -1e300)


TORCH = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}


@pytest.mark.parametrize("dtype", TORCH)
def test_every_code_of_eight_bits_means_what_torch_says(dtype: str, tmp_path: Path) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    wanted = codes.view(TORCH[dtype]).to(torch.float32).double().numpy()
    wanted = np.where(np.isfinite(wanted), wanted, np.nan)
    assert np.array_equal(edges(dtype), wanted, equal_nan=True)
    found = measured(entry(tmp_path / "w", dtype, (16, 16), codes.numpy()))
    said, good = found.tally.summary(), wanted[np.isfinite(wanted)]
    assert said["nonfinite"] == np.isnan(wanted).sum() and said["zeros"] == (good == 0).sum()
    assert (said["min"], said["max"]) == (good.min(), good.max())
    assert found.structure is not None and found.structure.blocks_empty == 0


def test_four_bit_floats_are_two_to_a_byte_the_first_in_the_lower_half(tmp_path: Path) -> None:
    table = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert edges("F4").tolist() == [*table, *(-v for v in table)]
    raw = np.array([[0x10, 0x00], [0x08, 0x0F]], dtype=np.uint8)  # rows [0 .5 0 0], [-0 0 -6 0]
    found = measured(entry(tmp_path / "w", "F4", (2, 4), raw))
    assert found.tally.summary()["zeros"] == 6 and found.tally.summary()["min"] == -6
    assert found.structure is not None and found.structure.col_used.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("I8", "i1"), ("U8", "u1"), ("I16", "<i2"), ("U16", "<u2"), ("I32", "<i4"), ("U32", "<u4"),
     ("I64", "<i8"), ("U64", "<u8"), ("BOOL", "?")],
)  # fmt: skip
def test_whole_numbers_have_zeros_extremes_and_mean(dtype: str, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    info = None if kind == "?" else np.iinfo(kind)
    w = (
        rng.integers(0, 2, 99).astype(bool)
        if info is None
        else rng.integers(info.min, info.max, 99, dtype=kind)
    )
    w[:7] = 0
    said = measured(entry(tmp_path / "w", dtype, (99,), w)).tally.summary()
    assert said["zeros"] == (w == 0).sum() and said["nonfinite"] == 0
    assert (said["min"], said["max"]) == (float(w.min()), float(w.max()))
    assert said["mean"] == pytest.approx(w.astype(np.float64).mean())
    assert (said["quantiles"] is None) == (not KINDS[dtype].codes)


def test_complex_numbers_are_measured_by_their_absolute_value(tmp_path: Path) -> None:
    w = np.array([3 + 4j, 0, 1j, -2], dtype="<c8")
    said = measured(entry(tmp_path / "w", "C64", (4,), w)).tally.summary()
    assert (said["zeros"], said["min"], said["max"], said["mean"]) == (1, 0.0, 5.0, 2.0)


@given(st.sampled_from(["F32", "BF16"]), st.sampled_from(["F32", "BF16", "BOOL"]), st.integers(0, 2**32 - 1))
@settings(suppress_health_check=SMALL, max_examples=15, deadline=None)
def test_a_mask_is_applied_before_anything_is_counted(
    tmp_path: Path, dtype: str, mask: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w, kept = rng.normal(size=(64, 48)), rng.random((64, 48)) > 0.8
    _, shape, raw = made.floats(dtype, w)
    flags = kept if mask == "BOOL" else made.floats(mask, kept.astype(float))[2]
    found = measured(entry(tmp_path / "w", dtype, shape, raw), entry(tmp_path / "m", mask, shape, flags))
    want = made.read(dtype, raw) * kept
    assert found.tally.summary()["zeros"] == (want == 0).sum()
    assert found.tally.summary()["mean"] == pytest.approx(want.mean())
    assert found.structure is not None and (found.structure.row_used == want.any(axis=1)).all()


def test_a_tensor_in_another_order_than_its_shape_has_values_and_no_structure(tmp_path: Path) -> None:
    w = np.arange(12, dtype="<f4").reshape(3, 4)
    found = entry(tmp_path / "w", "F32", (3, 4), w)
    found = Entry("w", "F32", (3, 4), found.file, 0, found.size, ordered=False)
    seen = measured(found)
    assert seen.structure is None and seen.tally.summary()["max"] == 11
