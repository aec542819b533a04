"""GGUF: what its header lists, and a sentence for every header that lies."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import frames
from analysis.engine.inspect.gguf import TYPES, read_gguf
from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.inspect.worker import inspect
from analysis.errors import LabError, ModelError

NUMBER, TEXT, ARRAY = 4, 8, 9


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    """One tensor of a header; ``dims`` from the fastest on, as the format has them."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf(pairs: list[bytes], rows: list[bytes], data: bytes = b"", **change: Any) -> bytes:
    counts = {"version": 3, "tensors": len(rows), "keys": len(pairs), "align": 32} | change
    head = b"GGUF" + struct.pack("<IQQ", counts["version"], counts["tensors"], counts["keys"])
    head += b"".join(pairs) + b"".join(rows)
    return head + b"\0" * (-len(head) % counts["align"]) + data


W = np.arange(6, dtype="<f4").reshape(2, 3)


def test_shapes_types_and_bytes_are_listed(tmp_path: Path) -> None:
    keys = [
        pair("general.name", TEXT, text("<b>tiny\u202e")),
        pair("tokens", ARRAY, struct.pack("<IQ", TEXT, 2) + text("a") + text("b")),
        pair("scores", ARRAY, struct.pack("<IQ3f", 6, 3, 1, 2, 3)),
        pair("llama.block_count", NUMBER, struct.pack("<I", 1)),
    ]
    rows = [
        tensor("blk.0.attn_q.weight", (3, 2), 0, 0),
        tensor("blk.0.ffn_up.weight", (256, 2), 12, 64),
        tensor("blk.0.ids", (4,), 26, 32),
    ]
    data = W.tobytes().ljust(32, b"\0") + b"\1" * 16 + b"\0" * 16 + b"\2" * 288
    (tmp_path / "m.gguf").write_bytes(gguf(keys, rows, data))
    found = open_checkpoint(tmp_path / "m.gguf", tmp_path)
    assert found.format == "GGUF version 3" and found.problems == ()
    assert [(e.name, e.dtype, e.shape, e.size) for e in found.entries] == [
        ("blk.0.attn_q.weight", "F32", (2, 3), 24),
        ("blk.0.ids", "I32", (4,), 16),
        ("blk.0.ffn_up.weight", "Q4_K", (2, 256), 288),
    ]
    assert found.metadata == {
        "general.name": "<b>tiny�",
        "tokens": "2 values",
        "scores": "3 values",
        "llama.block_count": "1",
    }
    inspect(tmp_path / "m.gguf", tmp_path / "out")
    table = frames.tensors(tmp_path / "out").set_index("tensor")
    assert table.loc["blk.0.attn_q.weight", "mean"] == W.mean()
    assert table.loc["blk.0.ffn_up.weight", "note"] == "Q4_K, 288 bytes, not analysed"


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_whole_blocks(kind: int, tmp_path: Path) -> None:
    name, block, each = TYPES[kind]
    (tmp_path / "m.gguf").write_bytes(gguf([], [tensor("w", (block * 2, 3), kind, 0)], b"\0" * each * 6))
    entry = read_gguf(tmp_path / "m.gguf")[0][0]
    assert (entry.dtype, entry.shape, entry.size) == (name, (3, block * 2), 6 * each)


def test_unknown_types_and_parts_of_a_model_are_told(tmp_path: Path) -> None:
    keys = [pair("split.count", 2, struct.pack("<H", 3))]
    rows = [tensor("new", (7,), 99, 0), tensor("w", (2,), 0, 64)]
    (tmp_path / "m.gguf").write_bytes(gguf(keys, rows, b"\0" * 72, version=2))
    entries, _, problems, _ = read_gguf(tmp_path / "m.gguf")
    assert [(e.dtype, e.size) for e in entries] == [("type 99", 64), ("F32", 8)]
    assert "'new'" in problems[0] and "one of 3 parts" in problems[1]


PLAIN = tensor("w", (2,), 0, 0)
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no GGUF file"),
    "another file": (b"x" * 40, "no GGUF file"),
    "version 1": (gguf([], [], version=1), "version 1;"),
    "big-endian": (gguf([], [], version=3 << 24), "version 50331648"),
    "2^60 tensors": (gguf([], [], tensors=2**60), "at most 200000"),
    "2^60 keys": (gguf([], [], keys=2**60), "at most 200000 and 100000"),
    "fewer tensors than told": (gguf([], [PLAIN], tensors=9), "cut short|dimensions|name of"),
    "a name of 2^40 bytes": (gguf([], [struct.pack("<Q", 2**40)]), "name of"),
    "a text of 2^40 bytes": (gguf([pair("a", TEXT, struct.pack("<Q", 2**40))], []), "cut short"),
    "an array of 2^60 numbers": (gguf([pair("a", ARRAY, struct.pack("<IQ", 4, 2**60))], []), "cut short"),
    "an array of 2^60 texts": (gguf([pair("a", ARRAY, struct.pack("<IQ", 8, 2**60))], []), "over 4000000"),
    "arrays of arrays": (gguf([pair("a", ARRAY, struct.pack("<IQ", 9, 1) * 9)], []), "unknown type 9"),
    "an unknown type of metadata": (gguf([pair("a", 77, b"")], []), "unknown type 77"),
    "a key twice": (gguf([pair("a", 7, b"\1")] * 2, []), "twice"),
    "a tensor twice": (gguf([], [PLAIN, tensor("w", (2,), 0, 32)], b"\0" * 40), "the same name"),
    "99 dimensions": (gguf([], [tensor("w", (1,) * 99, 0, 0)]), "99 dimensions"),
    "an alignment of 0": (gguf([pair("general.alignment", 4, b"\0" * 4)], []), "alignment"),
    "an alignment of 2^31": (gguf([pair("general.alignment", 4, b"\0\0\0\x80")], []), "alignment"),
    "off the alignment": (gguf([], [tensor("w", (2,), 0, 8)], b"\0" * 16), "off the alignment"),
    "overlap": (gguf([], [tensor("v", (9,), 0, 0), tensor("w", (2,), 0, 32)], b"\0" * 40), "inside another"),
    "beyond the file": (gguf([], [tensor("w", (2,), 0, 2**62)]), "cut short"),
    "a huge shape": (gguf([], [tensor("w", (2**63, 2**63), 0, 0)], b"\0" * 8), "cut short"),
    "data cut": (gguf([], [PLAIN], b"\0" * 7), "cut short"),
    "half a block": (gguf([], [tensor("w", (33,), 2, 0)], b"\0" * 64), "no multiple of 32"),
}


@pytest.mark.parametrize("name", BAD)
def test_a01_a02_a03_a_malformed_gguf_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    data, words = BAD[name]
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=words) as caught:
        open_checkpoint(tmp_path / "m.gguf", tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a01_every_cut_is_told(tmp_path: Path) -> None:
    whole = gguf([pair("general.name", TEXT, text("tiny"))], [PLAIN], W.tobytes()[:8])
    for length in range(len(whole)):
        (tmp_path / "m.gguf").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read_gguf(tmp_path / "m.gguf")


@given(st.binary(max_size=120), st.integers(0, 3), st.integers(0, 3))
def test_whatever_the_bytes_no_exception_is_but_ours(data: bytes, tensors: int, keys: int) -> None:
    with open(os.memfd_create("gguf"), "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + data)
        file.flush()
        try:
            entries = read_gguf(Path(f"/proc/self/fd/{file.fileno()}"))[0]
        except LabError as error:
            assert "\n" not in str(error)
        else:
            assert all(e.start + e.size <= 24 + len(data) for e in entries)


@given(st.integers(24, 200), st.binary(min_size=1, max_size=9))
def test_whatever_is_changed_in_a_good_file_no_exception_is_but_ours(place: int, new: bytes) -> None:
    good = gguf([pair("general.name", TEXT, text("tiny"))], [PLAIN, tensor("v", (32,), 2, 32)], b"\0" * 50)
    place %= len(good)
    with open(os.memfd_create("gguf"), "wb") as file:
        file.write(good[:place] + new + good[place + len(new) :])
        file.flush()
        try:
            read_gguf(Path(f"/proc/self/fd/{file.fileno()}"))
        except LabError as error:
            assert "\n" not in str(error)


def test_a_long_text_is_cut_before_it_is_looked_at(tmp_path: Path) -> None:
    long = struct.pack("<Q", 20 * 2**20) + b"a" * (20 * 2**20)
    listed = struct.pack("<IQ", TEXT, 1) + long
    keys = [pair("template", TEXT, long), pair("tokens", ARRAY, listed), pair("last", TEXT, text("z"))]
    (tmp_path / "m.gguf").write_bytes(gguf(keys, [tensor("a", (3, 2), 0, 0)], W.tobytes()))
    tracemalloc.start()
    try:
        entries, told, _, _ = read_gguf(tmp_path / "m.gguf")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told == {"template": "a" * 499 + "…", "tokens": "1 values", "last": "z"}
    assert [e.name for e in entries] == ["a"] and peak < 2**20


def test_names_and_texts_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.engine.inspect.gguf.MAX_KEPT", 1000)
    keys = [pair(f"{i:<400}", TEXT, text("x" * 90)) for i in range(3)]
    for count, good in ((2, True), (3, False)):
        (tmp_path / "m.gguf").write_bytes(gguf(keys[:count], [], b""))
        if good:
            assert len(read_gguf(tmp_path / "m.gguf")[1]) == count
        else:
            with pytest.raises(ModelError, match="over 1000 bytes of names and texts"):
                read_gguf(tmp_path / "m.gguf")
