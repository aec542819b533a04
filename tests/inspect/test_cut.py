"""What a cut would remove, and a picture of a matrix, against sorting and averaging the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import frames
from analysis.engine.inspect import exact, window
from analysis.engine.inspect.worker import inspect
from analysis.errors import ModelError
from analysis.store import arrays
from tests.inspect import made

SMALL = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def checkpoint(folder: Path, dtype: str, seed: int, sparsity: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = {}
    for i, scale in enumerate((1.0, 0.1, 0.3)):
        w = rng.normal(0, scale, (30, 40)) * (rng.random((30, 40)) >= sparsity)
        tensors[f"encoder.layer.{i}.intermediate.dense.weight"] = made.floats(dtype, w)
    made.write(folder / "m.safetensors", tensors)
    inspect(folder / "m.safetensors", folder / "out")
    return {name: made.read(dtype, raw) for name, (_, _, raw) in tensors.items()}


@given(
    st.sampled_from(["BF16", "F16", "F32"]),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.4]),
    st.sampled_from(["global", "matrix"]),
)
@settings(suppress_health_check=SMALL, max_examples=20, deadline=None)
def test_a_cut_is_what_sorting_says(
    tmp_path: Path, dtype: str, seed: int, share: float, sparse: float, scope: str
) -> None:
    weights = checkpoint(tmp_path, dtype, seed, sparse)
    found = frames.cut(tmp_path / "out", share, scope=scope)
    total = 3600 if scope == "global" else 1200
    wanted = int(np.ceil(share * total - 1e-9))
    every = np.sort(np.concatenate([np.abs(w).ravel() for w in weights.values()]))
    for row, w in zip(found.to_dict("records"), weights.values(), strict=True):
        sizes = np.sort(np.abs(w).ravel())
        assert row["zeros"] == (w == 0).sum() and row["weights"] == 1200
        if not wanted:
            assert row["removed"] == row["zeros"]
            continue
        threshold = (every if scope == "global" else sizes)[wanted - 1]
        surely, at_most = (sizes < threshold * (1 - 2**-8)).sum(), (sizes <= threshold * (1 + 2**-8)).sum()
        assert surely <= row["below"] <= row["removed"] and row["below"] + row["at"] <= at_most + 1
        assert row["removed"] <= max(row["below"] + row["at"], row["zeros"])
        if dtype != "F32":
            assert row["below"] == (sizes < threshold).sum() and row["at"] == (sizes == threshold).sum()
    zeros = found["zeros"]
    if scope == "global":
        assert found["removed"].sum() == pytest.approx(max(wanted, zeros.sum()), abs=1e-6)
    else:
        assert found["removed"].tolist() == pytest.approx(np.maximum(wanted, zeros).tolist())
    if scope == "global" and wanted:
        low, high = found.attrs["threshold"]
        assert low <= every[wanted - 1] <= high and (low == high or dtype == "F32")
        assert high - low <= 2**-8 * low
        if low < high:
            assert found["at"].sum() == ((every >= low) & (every < high)).sum()


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1), st.sampled_from([0.0, 0.4]))
@settings(suppress_health_check=SMALL, max_examples=10, deadline=None)
def test_a_second_look_gives_the_threshold_to_the_last_bit(
    tmp_path: Path, seed: int, share: float, sparse: float
) -> None:
    weights = checkpoint(tmp_path, "F32", seed, sparse)
    every = np.sort(np.concatenate([np.abs(w).ravel() for w in weights.values()]))
    wanted = every[int(np.ceil(share * 3600 - 1e-9)) - 1]
    attrs = frames.cut(tmp_path / "out", share).attrs
    if wanted == 0:
        assert attrs["threshold"] == (0.0, 0.0)
        return
    exact.exact(tmp_path / "out", attrs["threshold"][0], attrs["rank"], tmp_path / "exact")
    found = frames.exact_threshold(tmp_path / "exact")
    assert found["threshold"] == wanted and found["at"] == (every == wanted).sum()


def test_what_is_not_finite_stays_whatever_the_cut(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(30, 40))
    w[0, :4] = np.nan, np.inf, -np.inf, np.nan
    path = made.write(tmp_path / "m.safetensors", {"h.0.mlp.fc1.weight": made.floats("F32", w)})
    inspect(path, tmp_path / "out")
    assert frames.cut(tmp_path / "out", 1.0)["removed"].tolist() == [1196]
    assert frames.cut(tmp_path / "out", 0.5)["removed"].tolist() == [600]


def test_the_sentence_on_a_cut_has_its_numbers(tmp_path: Path) -> None:
    checkpoint(tmp_path, "BF16", 0, 0.4)
    zeros = int(frames.cut(tmp_path / "out", 0.5)["zeros"].sum())
    said = frames.cut_sentence(frames.cut(tmp_path / "out", 0.5), 0.5)
    assert f"To 50 %: {1800 - zeros:,} more of 3,600 weights would go; |w| up to" in said
    assert "nothing more would go" in frames.cut_sentence(frames.cut(tmp_path / "out", 0.1), 0.1)
    assert "a threshold of its own" in frames.cut_sentence(
        frames.cut(tmp_path / "out", 0.5, scope="matrix"), 0.5
    )
    assert frames.cut_sentence(frames.cut(tmp_path / "none", 0.5), 0.5) == "There are no weights to cut."


def test_sizes_count_every_weight_that_is_not_zero(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path, "F32", 1, 0.4)
    found = frames.sizes(tmp_path / "out")
    every = np.abs(np.concatenate([w.ravel() for w in weights.values()]))
    assert found["count"].sum() == (every > 0).sum()
    assert found["share"].sum() == pytest.approx((every > 0).mean())
    for row in found.to_dict("records"):
        inside = ((every >= row["low"]) & (every < row["high"])).sum()
        assert row["count"] == pytest.approx(inside, abs=max(3, 0.05 * inside))  # a code may lie on an edge


@given(st.integers(0, 2**32 - 1), st.integers(0, 500), st.integers(1, 500), st.integers(1, 700))
@settings(suppress_health_check=SMALL, max_examples=10, deadline=None)
def test_a_picture_is_the_mean_of_its_tiles(
    tmp_path: Path, seed: int, top: int, tall: int, wide: int
) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=(500, 700)) * (rng.random((500, 700)) > 0.7)).astype("f4")
    name = "h.0.mlp.fc1.weight"
    inspect(made.write(tmp_path / "m.safetensors", {name: made.floats("F32", w)}), tmp_path / "out")
    window.window(tmp_path / "out", name, (top, top + tall, 0, wide), tmp_path / "picture")
    found = frames.window(tmp_path / "picture")
    tile = found.attrs["tile"]
    first, last = min(top, 499), max(min(top, 499) + 1, min(top + tall, 500))
    assert tile == -(-max(last - first, wide) // window.PIXELS) and found.attrs["shape"] == (500, 700)
    assert len(found) == -(-(last - first) // tile) * -(-wide // tile)
    for row in found.sample(min(40, len(found)), random_state=0).to_dict("records"):
        part = w[row["row"] : min(row["row"] + tile, last), row["col"] : min(row["col"] + tile, wide)]
        mean = part.mean() if tile == 1 else np.abs(part).mean()
        assert row["size"] == pytest.approx(mean, rel=1e-5, abs=1e-7)
        assert row["keep"] == pytest.approx((part != 0).mean(), abs=0.0101)
        assert (row["keep"] == 0) == (not part.any()) and (row["keep"] == 1) == bool((part != 0).all())


def test_a_tile_says_its_share_in_whole_per_cent(tmp_path: Path) -> None:
    w = np.zeros((10 * window.PIXELS, 10))
    for kept in range(101):  # a tile is 10 × 10 weights
        w[10 * kept : 10 * kept + 10].reshape(-1)[:kept] = 1
    path = made.write(tmp_path / "m.safetensors", {"a.weight": made.floats("F32", w)})
    inspect(path, tmp_path / "out")
    window.window(tmp_path / "out", "a.weight", (0, len(w), 0, 10), tmp_path / "picture")
    found = arrays.load_arrays(tmp_path / "picture" / window.RESULT)
    assert found["tile"] == 10 and found["kept"][:101, 0].tolist() == list(range(101))


def test_a_picture_of_nothing_is_a_sentence(tmp_path: Path) -> None:
    path = made.write(tmp_path / "m.safetensors", {"a.bias": made.floats("F32", np.ones(3))})
    inspect(path, tmp_path / "out")
    for name, words in (("none", "no tensor"), ("a.bias", "no matrix")):
        with pytest.raises(ModelError, match=words):
            window.window(tmp_path / "out", name, (0, 1, 0, 1), tmp_path / "picture")
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    with pytest.raises(ModelError, match="has changed"):
        window.window(tmp_path / "out", "a.bias", (0, 1, 0, 1), tmp_path / "picture")
    assert frames.window(tmp_path / "none").empty
