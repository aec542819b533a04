"""The header of a safetensors file: rows A1 to A4 of the table of bad inputs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import frames
from analysis.engine.inspect.header import BITS, MAX_HEADER, MAX_TENSORS, read_header
from analysis.engine.inspect.worker import inspect
from analysis.errors import LabError, ModelError
from analysis.store import jobs
from tests.inspect.made import entry, raw

NAN_HEADER = b'{"a": NaN}'
ENTRY = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
TWICE = b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}"
BAD: dict[str, tuple[Any, bytes, int | None, str]] = {
    "header longer than the file": ({}, b"", 2**40, "cut short"),
    "header of 2^63 bytes": ({}, b"", 2**63, "cut short"),
    "not UTF-8": (b"\xff\xfe", b"", None, "not JSON"),
    "not JSON": (b"hello world", b"", None, "not JSON"),
    "a list": (b"[1, 2]", b"", None, "not a JSON object"),
    "deeply nested": (b"[" * 100_000, b"", None, "not JSON"),
    "the same name twice": (TWICE, b"\0" * 8, None, "twice"),
    "entry is a number": ({"a": 3}, b"", None, "not an object"),
    "entry is NaN": (NAN_HEADER, b"", None, "not JSON"),
    "unknown type": ({"a": entry("Q3_K")}, b"\0" * 8, None, "type"),
    "type is a list": ({"a": {**entry(), "dtype": ["F32"]}}, b"\0" * 8, None, "type"),
    "negative size": ({"a": entry(shape=(-2,))}, b"\0" * 8, None, "shape"),
    "shape is true": ({"a": entry(shape=(True,))}, b"\0" * 8, None, "shape"),
    "shape and bytes disagree": ({"a": entry(shape=(3,))}, b"\0" * 8, None, "another number of bytes"),
    "huge shape": ({"a": entry(shape=(2**62, 2**62))}, b"\0" * 8, None, "another number of bytes"),
    "offsets fall": ({"a": entry(start=8, end=0)}, b"\0" * 8, None, "offsets"),
    "hole": ({"a": entry(start=4, end=12)}, b"\0" * 12, None, "leave a hole"),
    "overlap": ({"a": entry(), "b": entry(start=4, end=12)}, b"\0" * 12, None, "overlap"),
    "data cut short": ({"a": entry()}, b"\0" * 5, None, "cut short"),
    "bytes left over": ({"a": entry()}, b"\0" * 20, None, "belong to no tensor"),
    "metadata is not text": ({"__metadata__": {"a": 1}}, b"", None, "metadata"),
    "metadata is a list": ({"__metadata__": []}, b"", None, "metadata"),
}


@pytest.mark.parametrize("name", BAD)
def test_a01_a02_a03_a_malformed_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    header, data, length, words = BAD[name]
    with pytest.raises(ModelError, match=words) as caught:
        read_header(raw(tmp_path / "bad.safetensors", header, data, length))
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400


def test_a01_an_empty_and_a_tiny_file_are_too_short(tmp_path: Path) -> None:
    for content in (b"", b"abc"):
        (tmp_path / "m.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="too few"):
            read_header(tmp_path / "m.safetensors")


@pytest.mark.timeout(60)
def test_a04_a_header_bomb_is_refused_in_bounded_time(tmp_path: Path) -> None:
    one = b'"1234567":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    million = raw(tmp_path / "m.safetensors", b"{" + one * 10**6 + b"}")
    assert million.stat().st_size > 3 * MAX_HEADER
    with pytest.raises(ModelError, match=f"at most {MAX_HEADER}"):
        inspect(million, tmp_path / "out")
    short = b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    many = raw(tmp_path / "n.safetensors", b"{" + b",".join(short % i for i in range(MAX_TENSORS + 1)) + b"}")
    with pytest.raises(ModelError, match=f"lists {MAX_TENSORS + 1} tensors; at most {MAX_TENSORS}"):
        inspect(many, tmp_path / "out")


def test_a01_a_refusal_is_the_sentence_of_the_job(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        inspect(raw(tmp_path / "m.safetensors", b"hello world"), tmp_path / "out")
    note = jobs.read(tmp_path / "out")
    assert (note.state, note.reason) == ("failed", str(caught.value))
    assert frames.tensors(tmp_path / "out").empty


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(list(BITS)) | JUNK,
        "shape": st.lists(st.integers(0, 4), max_size=3) | JUNK,
        "data_offsets": st.lists(st.integers(0, 40), min_size=2, max_size=2).map(sorted) | JUNK,
        "more": JUNK,
    },
)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "__metadata__"]) | st.text(max_size=4), FIELDS | JUNK, max_size=3
    ),
    st.integers(0, 40),
)
def test_a01_a02_whatever_a_header_says_no_exception_is_but_ours(header: dict[str, Any], size: int) -> None:
    with open(os.memfd_create("header"), "wb") as file:
        text = json.dumps(header).encode()
        file.write(len(text).to_bytes(8, "little") + text + b"\0" * size)
        file.flush()
        try:
            entries, _ = read_header(Path(f"/proc/self/fd/{file.fileno()}"))
        except LabError as error:
            assert "\n" not in str(error)
        else:
            assert sum(e.size for e in entries) == size


@given(st.binary(max_size=60))
def test_a01_whatever_the_bytes_no_exception_is_but_ours(data: bytes) -> None:
    with open(os.memfd_create("header"), "wb") as file:
        file.write(data)
        file.flush()
        try:
            read_header(Path(f"/proc/self/fd/{file.fileno()}"))
        except LabError as error:
            assert "\n" not in str(error)
