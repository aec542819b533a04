"""Two checkpoints compared: every number against whole tensors, names, kills, vanishing and real files."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import frames
from analysis.engine.inspect import contrast, lost, pair, spans, stream
from analysis.engine.inspect.header import Entry
from analysis.engine.inspect.layouts import tensors
from analysis.engine.inspect.match import Side, match, put_back
from analysis.engine.inspect.pair import compare
from analysis.engine.inspect.rows import way
from analysis.errors import ModelError
from analysis.frames.compare import document
from analysis.store import jobs

ROOT = Path(__file__).resolve().parents[2]
QUERY = "encoder.layer.0.attention.self.query.weight"
KINDS = ("F32", "F16", "BF16", "F64")


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """The bits of some numbers in a type."""
    if dtype == "BF16":
        return (np.ascontiguousarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    kinds = {"F64": "f8", "F32": "f4", "F16": "f2", "U8": "u1", "I64": "i8", "I32": "i4", "F8_E4M3": "u1"}
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(kinds[dtype])


def whole(bits: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that bits stand for, as float64."""
    if dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return bits.astype(np.float64)


def save(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> Path:
    """Writes a safetensors file from names, types and numbers."""
    header, data = {}, b""
    for name, (dtype, values) in tensors.items():
        raw = stored(values, dtype).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(np.shape(values)), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def plain(path: Path, **arrays: np.ndarray) -> Path:
    return save(path, {name.replace("__", "."): ("F32", array) for name, array in arrays.items()})


def both(folder: Path, a: Any, b: Any, name: str = QUERY) -> Path:
    """Compares two files of one float32 tensor each; returns the folder of the result."""
    files = [save(folder / f"{s}.safetensors", {name: ("F32", v)}) for s, v in (("a", a), ("b", b))]
    compare(*files, folder / "out")
    return folder / "out"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pieces of a few elements, so that small tensors have many of them."""
    monkeypatch.setattr(spans, "CHUNK", 7)
    monkeypatch.setattr(spans, "SPAN", 40)
    monkeypatch.setattr(stream, "TOGETHER", 100)
    yield


def obvious(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Every number of a pair, computed on whole tensors at once."""
    good = np.isfinite(a) & np.isfinite(b)
    x, y = a[good], b[good]
    kept_a, kept_b = x != 0, y != 0
    n, both, either = len(x), (kept_a & kept_b).sum(), (kept_a | kept_b).sum()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    chance = kept_a.sum() * kept_b.sum() / n if n else 0
    apart = kept_a.sum() + kept_b.sum() - chance
    return {
        "compared": n,
        "non_finite": a.size - n,
        "l2": float(np.linalg.norm(y - x)),
        "relative": float(np.linalg.norm(y - x) / np.linalg.norm(x)) if kept_a.any() else math.nan,
        "cosine": float((x * y).sum() / size) if size else math.nan,
        "largest": float(np.abs(y - x).max(initial=0)),
        "sign_flips": int((x * y < 0).sum()),
        "zeros_a": int((~kept_a).sum()),
        "zeros_b": int((~kept_b).sum()),
        "zeros_gained": int((kept_a & ~kept_b).sum()),
        "zeros_lost": int((~kept_a & kept_b).sum()),
        "both": int(both),
        "jaccard": both / either if either else math.nan,
        "expected": chance / apart if apart else math.nan,
    }


def empty(values: np.ndarray, axis: int) -> np.ndarray:
    """Which slices along a dimension are zero throughout."""
    rest = tuple(i for i in range(values.ndim) if i != axis)
    return ~(values != 0).any(axis=rest)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from(list(itertools.product(KINDS, KINDS))),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.sampled_from([1e-4, 0.05, 1.0, 300.0]),
    st.integers(1, 60),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_every_number_agrees_with_whole_tensors(
    small: None,
    tmp_path: Path,
    shape: list[int],
    dtypes: tuple[str, str],
    seed: int,
    sparsity: float,
    scale: float,
    chunk: int,
) -> None:
    spans.CHUNK = chunk
    rng = np.random.default_rng(seed)
    first = rng.normal(0, scale, shape) * (rng.random(shape) > sparsity / 2)
    second = (first + rng.normal(0, scale, shape) * 0.7) * (rng.random(shape) > sparsity)
    if seed % 3 == 0:
        first.flat[0], second.flat[-1] = np.nan, -np.inf
    files = [
        save(tmp_path / f"{side}.safetensors", {QUERY: (dtype, values)})
        for side, dtype, values in zip("ab", dtypes, (first, second), strict=True)
    ]
    compare(*files, tmp_path / "out")
    row = frames.tensor_pairs(tmp_path / "out").iloc[0]
    a, b = (whole(stored(v, d), d) for v, d in zip((first, second), dtypes, strict=True))
    for name, value in obvious(a, b).items():
        assert row[name] == pytest.approx(
            value, rel=3e-6, abs=3e-7 if name == "cosine" else 0, nan_ok=True
        ), name
    if len(shape) > 1:
        for axis, name in enumerate(("rows", "cols")):
            assert row[f"{name}_emptied"] == (empty(b, axis) & ~empty(a, axis)).sum(), name
            assert row[f"{name}_filled"] == (empty(a, axis) & ~empty(b, axis)).sum(), name
    plane = frames.two_values(tmp_path / "out")
    assert plane["count"].sum() == row["compared"]
    assert plane.loc[plane["a_bin"] == 0, "count"].sum() == row["zeros_a"]
    assert plane.loc[(plane["a_bin"] * plane["b_bin"]) < 0, "count"].sum() == row["sign_flips"]
    tenths = frames.kept_by_size(tmp_path / "out")
    if len(tenths):
        assert tenths["weights"].sum() == pytest.approx(row["compared"] - row["zeros_a"])
        assert tenths["kept"].sum() == pytest.approx(row["both"])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_a_code_is_the_bin_of_its_value(numbers: list[float]) -> None:
    given_ = np.array([*numbers, 0.0, -0.0, 1.0, -64.0, 63.9, 1e-30, 5e-39], dtype=np.float32)
    side = contrast.values(given_, "F32")
    edges = contrast.edges()
    for value, code in zip(given_.tolist(), contrast.code(side.top, side.zero).tolist(), strict=True):
        bin_ = (
            0 if value == 0 else int(np.searchsorted(edges, abs(value), side="right").clip(1, contrast.BINS))
        )
        assert code & 127 == bin_ and (code >> 7 == 1) == (math.copysign(1, value) < 0)
    assert len(edges) == 128 and edges[-1] == 64 and (np.diff(edges) > 0).all()


@pytest.mark.parametrize("scale", [1e30, 3e38, 1e-30, 1e-42])
def test_sizes_whose_squares_float32_cannot_hold(scale: float, tmp_path: Path) -> None:
    a = np.array([[1.0, -0.5], [0.25, 0.5]], dtype=np.float32) * np.float32(scale)
    b = -a[::-1].copy()
    row = frames.tensor_pairs(both(tmp_path, a, b)).iloc[0]
    want = obvious(a.ravel().astype(np.float64), b.ravel().astype(np.float64))
    assert row["l2"] == pytest.approx(want["l2"], rel=1e-6)
    assert row["cosine"] == pytest.approx(want["cosine"], rel=1e-6)
    assert row["sign_flips"] == want["sign_flips"] and row["non_finite"] == 0


def test_magnitude_pruning_keeps_exactly_the_largest_tenth(tmp_path: Path) -> None:
    a = np.random.default_rng(0).permutation(np.arange(1, 201)) * np.resize([1, -1], 200)
    b = np.where(np.abs(a) > 180, a * 0.9, 0)
    out = both(tmp_path, a.reshape(20, 10), b.reshape(20, 10))
    tenths = frames.kept_by_size(out)
    assert tenths["share"].tolist() == [0.0] * 9 + [1.0] and tenths["chance"].iloc[0] == 0.1
    assert (tenths["low"].iloc[-1], tenths["high"].iloc[-1]) == (181, 200)
    said = " ".join(frames.difference(out))
    assert "90 % zeros among its prunable weights where A has 0 %: 180 gained, 0 lost" in said
    assert "100 % are kept in B, of the 10 % smallest 0 %; chance would keep 10 %" in said


def test_layers_and_roles_are_added_up_and_can_be_chosen(tmp_path: Path) -> None:
    names = [f"encoder.layer.{i}.attention.self.{role}.weight" for i in (0, 1) for role in ("query", "key")]
    rng = np.random.default_rng(1)
    a = {name: rng.normal(size=(6, 6)) for name in names}
    b = {name: a[name] * (rng.random((6, 6)) > 0.5) for name in names} | {names[0]: a[names[0]]}
    files = [
        save(tmp_path / f"{s}.safetensors", {k: ("F64", v) for k, v in t.items()})
        for s, t in (("a", a), ("b", b))
    ]
    compare(*files, tmp_path / "out")
    cells = frames.distances(tmp_path / "out").set_index(["layer", "role"])
    assert cells.loc[(0, "query"), "relative"] == 0 and cells.loc[(0, "query"), "cosine"] == pytest.approx(1)
    d = b[names[3]] - a[names[3]]
    assert cells.loc[(1, "key"), "relative"] == pytest.approx(np.linalg.norm(d) / np.linalg.norm(a[names[3]]))
    assert cells.loc[(1, "key"), "gained"] == (b[names[3]] == 0).mean()
    for layers, roles, chosen in (((1,), (), names[2:]), ((), ("key",), names[1::2]), ((7,), (), [])):
        plane = frames.two_values(tmp_path / "out", layers=layers, roles=roles)
        assert plane.loc[plane["b_bin"] == 0, "count"].sum() == sum((b[n] == 0).sum() for n in chosen)
    overall = frames.zero_overlap(tmp_path / "out").iloc[-1]
    assert overall["site"] == "overall" and overall["both"] == sum((v != 0).sum() for v in b.values())


def entries(shape: tuple[int, ...], *names: str) -> list[Entry]:
    return [Entry(name, "F32", shape, Path("x"), 0, 4) for name in names]


def sides(listed: list[Entry]) -> list[Side]:
    return put_back(tensors(listed, {}))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("encoder.layer.0.w.weight", "encoder.layer.0.w.weight"),
        ("bert.encoder.layer.0.w.weight", "encoder.layer.0.w.weight"),
        ("module.bert.encoder.layer.0.w.weight", "model.encoder.layer.0.w.weight"),
        ("layers.0.w.weight", "text.backbone.layers.0.w.weight"),
        ("x.LayerNorm.gamma", "x.LayerNorm.weight"),
        ("bert.x.LayerNorm.beta", "roberta.x.LayerNorm.bias"),
        ("fc.weight_orig", "fc.weight"),
        ("fc.weight", "module.fc.parametrizations.weight.original"),
        ("_orig_mod.fc.bias", "fc.bias"),
    ],
)
def test_partners_are_found_whatever_stands_in_front(a: str, b: str) -> None:
    for left, right in ((a, b), (b, a)):
        found = match(sides(entries((2, 2), left)), sides(entries((2, 2), right)))
        assert [(x.entry.name, y.entry.name) for x, y in found.pairs] == [(left, right)]
        assert not found.missing and not found.extra and not found.reshaped


def test_a_rule_counts_only_for_a_single_partner_of_the_same_shape() -> None:
    a = sides([*entries((2, 2), "enc.w", "dec.w", "fc.weight"), *entries((3,), "model.b")])
    b = sides([*entries((2, 2), "w"), *entries((4,), "b"), *entries((5, 2), "fc.weight")])
    found = match(a, b)
    assert not found.pairs and [x.name for x, _ in found.reshaped] == ["fc.weight"]
    assert {t.name for t in found.missing} == {"enc.w", "dec.w", "model.b"}
    assert {t.name for t in found.extra} == {"w", "b"}


def test_whole_names_come_first_and_parts_of_a_model_are_not_taken_for_each_other() -> None:
    found = match(sides(entries((2,), "x.w", "model.x.w")), sides(entries((2,), "x.w")))
    assert [(a.name, b.name) for a, b in found.pairs] == [("x.w", "x.w")]
    assert [t.name for t in found.missing] == ["model.x.w"]
    found = match(sides(entries((2,), "encoder.0.w")), sides(entries((2,), "decoder.0.w")))
    assert not found.pairs


@given(
    st.lists(st.text("ab.", min_size=1, max_size=6), max_size=8),
    st.lists(st.text("ab.", max_size=6), max_size=8),
)
def test_every_tensor_is_in_exactly_one_list(first: list[str], second: list[str]) -> None:
    a, b = (sides(entries((2,), *dict.fromkeys(names))) for names in (first, second))
    found = match(a, b)
    left = [t for t, _ in (*found.pairs, *found.reshaped)] + list(found.missing)
    right = [t for _, t in (*found.pairs, *found.reshaped)] + list(found.extra)
    key = lambda t: t.entry.name  # noqa: E731
    assert sorted(left, key=key) == sorted(a, key=key) and sorted(right, key=key) == sorted(b, key=key)


def test_missing_extra_and_reshaped_tensors_are_listed(tmp_path: Path) -> None:
    w = np.ones((4, 4))
    a = plain(tmp_path / "a.safetensors", same=w, only_a=w[:1], other=w)
    b = plain(tmp_path / "b.safetensors", same=w, only_b=w[:, :1], other=w[:2])
    compare(a, b, tmp_path / "out")
    alone = frames.unpaired(tmp_path / "out").set_index("tensor")
    assert alone["kind"].to_dict() == {"only_a": "only in A", "only_b": "only in B", "other": "other shape"}
    assert (alone.loc["other", "shape_a"], alone.loc["other", "shape_b"]) == ("4 × 4", "2 × 4")
    told = document(tmp_path / "out")
    assert (told["missing"], told["extra"]) == (["only_a"], ["only_b"])
    assert told["reshaped"] == [{"name": "other", "shape_a": "4 × 4", "shape_b": "2 × 4"}]
    assert (
        "1 of A's 3 tensors have a partner in B; 1 missing in B (such as only_a), 1 only in B (such as "
        "only_b), 1 of another shape (such as other)" in (frames.difference(tmp_path / "out")[0])
    )


@pytest.mark.parametrize("mask_type", ["F32", "U8", "BF16"])
def test_a_mask_stored_beside_its_weight_is_multiplied_in(
    small: None, mask_type: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    w, m = rng.normal(size=(8, 5)), rng.random((8, 5)) > 0.6
    a = save(tmp_path / "a.safetensors", {"layers.0.fc1.weight": ("F32", w)})
    parts = {"layers.0.fc1.weight_orig": ("F32", w), "layers.0.fc1.weight_mask": (mask_type, m)}
    b = save(tmp_path / "b.safetensors", parts)
    compare(a, b, tmp_path / "out")
    row = frames.tensor_pairs(tmp_path / "out").iloc[0]
    assert len(frames.unpaired(tmp_path / "out")) == 0 and row["name_b"] == "layers.0.fc1.weight_orig"
    assert row["zeros_b"] == row["zeros_gained"] == (~m).sum() and row["note"] == "B is taken times its mask"
    assert row["l2"] == pytest.approx(np.linalg.norm((w * ~m).astype("f4")), rel=1e-6)


def test_other_types_are_compared_by_their_bytes_or_not_at_all(tmp_path: Path) -> None:
    ints, w = np.arange(6), np.ones(6)
    same = {"ids": ("I64", ints), "x.qweight": ("I32", ints), "f8": ("F8_E4M3", ints), "mixed": ("I64", ints)}
    a = save(tmp_path / "a.safetensors", same)
    b = save(tmp_path / "b.safetensors", {**same, "f8": ("F8_E4M3", ints + 1), "mixed": ("F32", w)})
    compare(a, b, tmp_path / "out")
    found = frames.tensor_pairs(tmp_path / "out").set_index("tensor")
    assert found["how"].to_dict() == {"ids": "bytes", "x.qweight": "bytes", "f8": "bytes", "mixed": ""}
    assert found["equal"].to_dict() == {"ids": True, "x.qweight": True, "f8": False, "mixed": False}
    assert found["l2"].isna().all() and found.loc["mixed", "note"] == "I64 and F32, not compared"
    told = {p["name"]: p for p in document(tmp_path / "out")["pairs"]}
    assert told["mixed"]["equal"] is None and told["f8"]["equal"] is False and told["ids"]["l2"] is None
    said = " ".join(frames.difference(tmp_path / "out"))
    assert "1 pairs could not be compared" in said
    assert "1 tensors of types that are only compared byte by byte have other bytes in B" in said


def test_equal_files_are_said_to_be_equal(tmp_path: Path) -> None:
    out = both(tmp_path, np.eye(4), np.eye(4))
    assert frames.difference(out) == [
        "1 of 1 tensors of A have a partner in B, and B has no more.",
        "They are equal in every weight that both have.",
    ]
    assert document(out)["pairs"][0]["equal"] is True and json.dumps(document(out))


def test_a_kept_mask_and_a_lost_one_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((30, 30)) > 0.9
    a = rng.normal(size=(30, 30)) * mask
    kept = " ".join(frames.difference(both(tmp_path, a, a * 1.1)))
    assert "Jaccard index of 1.000" in kept and "the mask was kept" in kept
    lost_ = " ".join(frames.difference(both(tmp_path, a, a + 0.01)))
    assert "100 % of A's zeros are not zero in B" in lost_ and f"0 gained, {(~mask).sum()} lost" in lost_


def test_empty_scalar_and_zero_tensors_divide_nothing_by_zero(tmp_path: Path) -> None:
    tensors = {"none": np.zeros((0, 4)), "scalar": np.float32(3), "zeros": np.zeros((3, 3))}
    a, b = (plain(tmp_path / f"{s}.safetensors", **tensors) for s in "ab")
    compare(a, b, tmp_path / "out")
    found = frames.tensor_pairs(tmp_path / "out").set_index("tensor")
    assert found["equal"].all() and found["l2"].tolist() == [0, 0, 0]
    assert found["relative"].isna().to_dict() == {"none": True, "scalar": False, "zeros": True}
    assert frames.kept_by_size(tmp_path / "out")["weights"].sum() == 0  # the one matrix holds nothing


def test_doubles_too_small_for_their_squares_are_not_equal(tmp_path: Path) -> None:
    a, b = (
        save(tmp_path / f"{side}.safetensors", {QUERY: ("F64", np.full((2, 2), value))})
        for side, value in (("a", 1e-170), ("b", 0.0))
    )
    compare(a, b, tmp_path / "out")
    assert frames.tensor_pairs(tmp_path / "out")["equal"].tolist() == [False]
    assert "They are equal" not in " ".join(frames.difference(tmp_path / "out"))


def seen(a: np.ndarray, b: np.ndarray) -> contrast.Contrast:
    found = contrast.Contrast(a.shape)
    found.add(*(contrast.values(np.float32(side).ravel(), "F32") for side in (a, b)), 0)
    return found


def test_heads_and_neurons_are_lost_with_their_rows_or_their_columns() -> None:
    full, rows, cols, head = np.ones((4, 8, 8))
    rows[2:4], cols[:, 6:8], head[:4] = 0, 0, 0
    matrices = {
        "attention.self.value": seen(full, head),  # one of the two value heads that four queries share
        "attention.output.dense": seen(full, cols),
        "attention.self.query": seen(full, full * 0),
        "intermediate.dense": seen(rows, full),
        "output.dense": seen(full, cols),
    }
    listed = entries((8, 8), *(f"bert.encoder.layer.3.{name}.weight" for name in matrices))
    whats = tensors(listed, {"num_attention_heads": 4, "num_key_value_heads": 2})
    assert [what.heads for what in whats] == [2, 4, 4, 0, 0]
    found = [lost.emptied(w.entry.name, w, one) for w, one in zip(whats, matrices.values(), strict=True)]
    heads, neurons = lost.lost((3, one) for one in found if one)
    assert heads["block"] == "bert.encoder.layer.3" and (heads["total"], heads["lost"]) == (4, 3)
    assert (neurons["total"], neurons["empty_a"], neurons["lost"], neurons["regained"]) == (8, 2, 2, 2)
    (turned,) = tensors(entries((4, 8), "h.0.mlp.c_fc.weight"), {})
    gone = lost.emptied(turned.name, turned, seen(full[:4], cols[:4]))
    assert gone and gone["b"] == [6, 7], "stored the other way round"
    listed = [Entry(f"h.0.mlp.{n}.weight", "F32", s, Path("x"), 0, 0) for n, s in TOLD.items()]
    *_, square = tensors(listed, {})  # pruned to as many neurons as inputs: its neighbour tells
    gone = lost.emptied(square.name, square, seen(full, cols))
    assert gone and gone["b"] == [6, 7]


TOLD = {"c_fc": (12, 8), "c_proj": (8, 8)}


def test_heads_lost_in_a_file_are_told_with_the_heads_of_its_config(tmp_path: Path) -> None:
    names = [f"layers.{i}.self_attn.{name}.weight" for i in (0, 1) for name in ("v_proj", "o_proj")]
    a = {name: ("F32", np.ones((8, 8))) for name in names}
    b = {name: (dtype, w.copy()) for name, (dtype, w) in a.items()}
    b[names[1]][1][:, 2:6] = 0
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    compare(save(tmp_path / "a.safetensors", a), save(tmp_path / "b.safetensors", b), tmp_path / "out")
    found = frames.lost_units(tmp_path / "out")
    assert found["layer"].tolist() == [0, 1] and set(found["kind"]) == {"heads"}
    assert found["total"].tolist() == [4, 4] and found["lost"].tolist() == [2, 0]
    said = " ".join(frames.difference(tmp_path / "out"))
    assert "2 of 8 heads are lost in B, in 1 layer" in said
    assert frames.tensor_pairs(tmp_path / "out")["heads_lost"].tolist() == [0, 2, 0, 0]


def several(folder: Path, count: int = 12) -> tuple[Path, Path]:
    """Two files of several tensors with something of everything."""
    rng = np.random.default_rng(4)
    a = {f"encoder.layer.{i}.output.dense.weight": rng.normal(size=(9, 11)) for i in range(count)}
    b = {name: w * (rng.random(w.shape) > 0.4) for name, w in a.items()}
    b["encoder.layer.5.output.dense.weight"][3] = 0
    first, second = (plain(folder / f"{s}.safetensors", **t) for s, t in (("a", a), ("b", b)))
    return first, second


def same(one: Path, two: Path) -> None:
    """Two results say the same in every table."""
    for read in (
        frames.tensor_pairs,
        frames.lost_units,
        frames.two_values,
        frames.kept_by_size,
        frames.zero_overlap,
    ):
        assert read(one).equals(read(two)), read.__name__
    assert len(frames.tensor_pairs(one)) and len(frames.two_values(one))


def test_a_cancelled_comparison_goes_on_where_it_was(small: None, tmp_path: Path) -> None:
    a, b = several(tmp_path)
    total = compare(a, b, tmp_path / "whole")["bytes"]

    def stop(done: float, total: float) -> None:
        if done > total / 2:
            raise jobs.Cancelled

    with pytest.raises(jobs.Cancelled):
        compare(a, b, tmp_path / "out", stop)
    assert not (tmp_path / "out" / pair.RESULT).exists()
    told: list[float] = []
    again = compare(a, b, tmp_path / "out", lambda done, total: told.append(done / total))
    assert 0 < again["bytes"] <= total / 2 and told[0] > 0.5 and told == sorted(told) and told[-1] == 1
    same(tmp_path / "whole", tmp_path / "out")
    assert not (tmp_path / "out" / pair.PARTIAL).exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from analysis.engine.inspect import pair, spans, stream
from analysis.store.jobs import Job
spans.CHUNK, spans.SPAN, pair.EVERY, pair.SPARING, stream.SMALL, stream.TOGETHER = 7, 40, 0, 0, 0, 100
a, b, out = map(Path, sys.argv[1:])
def tell(done, total):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
with Job(out, "bytes"):
    pair.compare(a, b, out, tell)
"""


def run(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_a_killed_process_takes_its_helpers_along_and_costs_no_whole_tensor(
    small: None, tmp_path: Path
) -> None:
    a, b = several(tmp_path)
    total = compare(a, b, tmp_path / "whole")["bytes"]
    assert run(KILLED, a, b, tmp_path / "out").returncode == -signal.SIGKILL
    end = time.monotonic() + 10
    while jobs.read(tmp_path / "out").state != "crashed" and time.monotonic() < end:
        time.sleep(0.02)
    assert jobs.read(tmp_path / "out").state == "crashed", "a helper still holds the lock"
    again = compare(a, b, tmp_path / "out")
    assert 0 < again["bytes"] < total
    same(tmp_path / "whole", tmp_path / "out")


SHARED = """
import os, sys
from pathlib import Path
from analysis.engine.inspect import pair, spans, stream
from analysis.errors import ModelError
spans.CHUNK, spans.SPAN, stream.SMALL, stream.TOGETHER = 7, 40, 0, 100
a, b, out = map(Path, sys.argv[1:])
pair.compare(a, b, out)
def work(task):
    os._exit(9)
pair.work = work
try:
    pair.compare(a, b, out)
except ModelError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_two_processes_find_what_one_finds_and_a_killed_helper_is_a_sentence(
    small: None, tmp_path: Path
) -> None:
    a, b = several(tmp_path)
    compare(a, b, tmp_path / "whole")
    done = run(SHARED, a, b, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "was killed, perhaps for want of memory" in done.stdout and "\n" not in done.stdout.strip()
    same(tmp_path / "whole", tmp_path / "out")


def test_another_file_of_that_name_is_compared_from_the_start(small: None, tmp_path: Path) -> None:
    a, b = several(tmp_path)

    def stop(done: float, total: float) -> None:
        raise jobs.Cancelled

    with pytest.raises(jobs.Cancelled):
        compare(a, b, tmp_path / "out", stop)
    os.utime(b, ns=(1, 1))
    whole_ = sum(e.stat().st_size for e in (a, b))
    assert compare(a, b, tmp_path / "out")["bytes"] > whole_ / 2


@pytest.mark.parametrize(
    ("change", "words"), [("cut", "became shorter"), ("touch", "changed while it was read")]
)
def test_a_file_that_changes_meanwhile_is_a_sentence(
    small: None, change: str, words: str, tmp_path: Path
) -> None:
    a, b = several(tmp_path)

    def act(done: float, total: float) -> None:
        if change == "cut":
            os.truncate(b, b.stat().st_size // 2)
        else:
            os.utime(b, ns=(1, 1))

    with pytest.raises(ModelError, match=words) as caught:
        compare(a, b, tmp_path / "out", act)
    assert "\n" not in str(caught.value)
    assert frames.comparison(tmp_path / "out")["error"] == str(caught.value)


def test_the_process_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    a, _ = several(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"GIF89a" + b"\0" * 50)
    for other in (tmp_path / "bad.safetensors", tmp_path / "none"):
        jobs.begin(tmp_path / "out", pair.__name__, str(a), str(other), str(tmp_path / "out"))
        note = jobs.wait(tmp_path / "out")
        assert note.state == "failed" and other.name in note.reason and "\n" not in note.reason
    jobs.begin(tmp_path / "out", pair.__name__, str(a), str(a), str(tmp_path / "out"))
    note = jobs.wait(tmp_path / "out")
    assert note.state == "done" and note.done == note.total > 0
    assert frames.comparison(tmp_path / "out")["error"] is None


def test_names_of_strangers_stay_harmless_and_apart(tmp_path: Path) -> None:
    names = ["../../x", "<img src=x onerror=1>", "\u202egnp", "n\0ul", "y" * 5000, "y" * 5001]
    a, b = (save(tmp_path / f"{s}.safetensors", {n: ("F32", np.ones(2)) for n in names}) for s in "ab")
    compare(a, b, tmp_path / "out")
    found = frames.tensor_pairs(tmp_path / "out")["tensor"].tolist()
    assert len(set(found)) == 6 and all(len(n) <= 210 and n.isprintable() for n in found)


@pytest.mark.parametrize("damage", [b"", b"PK", b"{}"])
def test_damaged_results_are_empty_tables(damage: bytes, tmp_path: Path) -> None:
    for name in (pair.RESULT, pair.PAIRS, pair.OTHERS, pair.STRUCTURES, pair.PLANES):
        (tmp_path / name).write_bytes(damage)
    frame, alone = frames.tensor_pairs(tmp_path), frames.unpaired(tmp_path)
    assert frame.empty and alone.empty and frames.difference(tmp_path) == []
    assert frames.two_values(tmp_path).empty and frames.kept_by_size(tmp_path).empty
    assert frames.distances(tmp_path).empty and frames.zero_overlap(tmp_path).empty
    assert document(tmp_path) == {"pairs": [], "missing": [], "extra": [], "reshaped": []}


def test_a_damaged_partial_result_is_begun_anew(small: None, tmp_path: Path) -> None:
    a, b = several(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / pair.PARTIAL).write_bytes(b"PK\3\4 nonsense")
    assert compare(a, b, tmp_path / "out")["bytes"] == compare(a, b, tmp_path / "whole")["bytes"] > 0
    same(tmp_path / "whole", tmp_path / "out")


def test_removed_layers_and_channels_of_a_real_family_are_found_and_named(
    checkpoints_dir: Path, tmp_path: Path
) -> None:
    family = checkpoints_dir / "distiller_ssl_resnet20"
    for name, share in (("ch_regularized_dense", 0.089), ("4D_regularized_5Lremoved_finetuned", 0.068)):
        compare(family / "dense.safetensors", family / f"{name}.safetensors", tmp_path / name)
        known = frames.counted(frames.tensor_pairs(tmp_path / name)).sum(numeric_only=True)
        assert known["zeros_a"] == 0 and known["zeros_gained"] / known["compared"] == pytest.approx(
            share, abs=0.002
        )
    channels = frames.tensor_pairs(tmp_path / "ch_regularized_dense").set_index("tensor")
    assert channels["cols_emptied"].sum() == 69 and channels.loc["layer1.0.conv2.weight", "cols_emptied"] == 5
    removed = "layer1.0.conv1 layer1.0.conv2 layer1.1.conv1 layer1.1.conv2 layer2.2.conv2".split()
    said = " ".join(frames.difference(tmp_path / "4D_regularized_5Lremoved_finetuned"))
    assert f"5 matrices ({', '.join(f'{name}.weight' for name in removed)}) are zero throughout in B" in said
    before, after = (family / f"4D_regularized_5Lremoved{x}.safetensors" for x in ("", "_finetuned"))
    compare(before, after, tmp_path / "tuned")
    assert "the same weights are zero in both, so the mask was kept" in " ".join(
        frames.difference(tmp_path / "tuned")
    )


def test_a_deeper_real_network_has_extra_tensors(checkpoints_dir: Path, tmp_path: Path) -> None:
    files = [checkpoints_dir / "cifar_resnet" / f"resnet{n}.safetensors" for n in (20, 56)]
    compare(*files, tmp_path / "out")
    alone = frames.unpaired(tmp_path / "out")
    assert set(alone["kind"]) == {"only in B"} and "layer1.3.conv1.weight" in set(alone["tensor"])
    assert frames.distances(tmp_path / "out")["cosine"].abs().max() < 0.3, "trained apart from each other"


def test_the_bundled_model_against_itself_renamed_and_pruned(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    first = ROOT / "analysis" / "bundle" / "text"
    model = load_file(first / "model.safetensors")
    names = [n for n in model if n.endswith("intermediate.dense.weight")]
    pruned = {f"bert.{n}": w.copy() for n, w in model.items()}
    for name in names:
        pruned[f"bert.{name}"][:7] = 0
    save_file(pruned, tmp_path / "b.safetensors")
    compare(first, tmp_path / "b.safetensors", tmp_path / "out")
    said = " ".join(frames.difference(tmp_path / "out"))
    assert f"{len(model)} partners have another name in B" in said
    assert f"{7 * len(names)} of {256 * len(names)} neurons are lost in B, in {len(names)} layers" in said
    found = frames.tensor_pairs(tmp_path / "out").set_index("tensor")
    assert found["equal"].sum() == len(model) - len(names)
    assert (found.loc[names, "zeros_gained"] == 7 * 128).all() and found["zeros_lost"].sum() == 0


def test_a_tensor_of_two_names_is_counted_once() -> None:
    listed = sides(entries((2,), "a", "b"))
    assert pair.Labels(list(zip(listed, listed, strict=True))).tied == [False, True]


def test_values_in_another_order_are_left_alone() -> None:
    (plain_,), (turned,) = (
        sides([Entry("a", "F32", (2, 3), Path("x"), 0, 24, ordered=ordered)]) for ordered in (True, False)
    )
    assert way(plain_, plain_)[0] == "values" and way(plain_, turned)[0] == way(turned, plain_)[0] == ""


@pytest.mark.slow
def test_a_pair_of_any_size_fits_in_bounded_memory(tmp_path: Path) -> None:
    each, row = 64 * 2**20, 8192
    block = np.random.default_rng(0).integers(0, 2**14, each // 2, dtype=np.uint16).tobytes()
    for side in "ab":
        header = {
            f"layers.{i}.fc1.weight": {
                "dtype": "BF16",
                "shape": [each // 2 // row, row],
                "data_offsets": [i * each, (i + 1) * each],
            }
            for i in range(4)
        }
        text = json.dumps(header).encode()
        (tmp_path / f"{side}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + block * 4)
    code = (
        "import resource, sys, pathlib, numpy, pyarrow.parquet;"
        "from analysis.engine.inspect.pair import compare; a, b, out = map(pathlib.Path, sys.argv[1:]);"
        "peak = lambda who: resource.getrusage(who).ru_maxrss;"
        "before = peak(resource.RUSAGE_SELF); compare(a, b, out);"
        "print(max(peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN)) / 1024 - before / 1024)"
    )
    done = run(code, tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 64
