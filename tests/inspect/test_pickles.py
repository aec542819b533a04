"""PyTorch files: listed where they lie and never run; rows A15 to A17 of the table of bad inputs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from analysis.engine.inspect import unpickle
from analysis.engine.inspect.header import Entry, read_header
from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.inspect.pickles import entries_of, read_pickles
from analysis.engine.inspect.worker import inspect
from analysis.engine.inspect.zips import storages
from analysis.errors import LabError, ModelError


def stored(entry: Entry) -> bytes:
    with open(entry.file, "rb") as file:
        file.seek(entry.start)
        return file.read(entry.size)


def bert() -> dict[str, torch.Tensor]:
    """The weights of a small BERT, some of them bfloat16, with a tied and a transposed matrix."""
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForMaskedLM(BertConfig(**sizes, intermediate_size=32, max_position_embeddings=12))
    found = OrderedDict(model.state_dict())
    for name in [n for n in found if "intermediate" in n]:
        found[name] = found[name].bfloat16()
    return found


def test_zip_and_legacy_files_hold_the_bytes_that_safetensors_holds(tmp_path: Path) -> None:
    weights = bert()
    new, old, plain = tmp_path / "new.pt", tmp_path / "old.bin", tmp_path / "model.safetensors"
    save_file({n: t.clone() for n, t in weights.items()}, plain)
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"lr": 0.1}}, new)
    torch.save(weights, old, _use_new_zipfile_serialization=False)
    want = {e.name: (e.dtype, e.shape, stored(e)) for e in read_header(plain)[0]}
    assert {dtype for dtype, *_ in want.values()} == {"F32", "BF16"}
    entries, problems, kind = read_pickles([new, old], tmp_path)
    assert kind == "PyTorch before 1.6" and len(problems) == 1
    assert "'new.pt' also holds 'epoch', 'optimizer' beside the state dictionary" in problems[0]
    for file in (new, tmp_path / "storages" / "old.bin.storages"):
        found = [e for e in entries if e.file == file]
        assert {e.name: (e.dtype, e.shape, stored(e)) for e in found} == want and all(
            e.ordered for e in found
        )
        starts = {e.name: e.start for e in found}
        word, output = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
        assert starts[word] == starts[output] and len(set(starts.values())) < len(starts)


@pytest.mark.slow
def test_a12_shards_of_both_kinds_are_read_through_their_index(tmp_path: Path) -> None:
    weights = bert()
    names = [n for n in weights if "decoder" not in n]
    parts = {"a.bin": names[:10], "b.bin": names[10:]}
    for name, held in parts.items():
        torch.save(
            {n: weights[n] for n in held}, tmp_path / name, _use_new_zipfile_serialization=name == "a.bin"
        )
    index = {n: name for name, held in parts.items() for n in held}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    work = tmp_path / "work"
    work.mkdir()
    found = open_checkpoint(tmp_path, work)
    assert sorted(e.name for e in found.entries) == sorted(names) and found.problems == ()
    assert found.format == "PyTorch before 1.6, 2 shards" and [f.name for f in found.files] == list(parts)
    for entry in found.entries:
        assert stored(entry) == weights[entry.name].contiguous().view(torch.uint8).numpy().tobytes()


def listed(path: Path, tmp_path: Path) -> list[Entry]:
    """What the other process does, done in this one: slow to start, it is started for few tests only."""
    told = json.loads(json.dumps(unpickle.listing(path, tmp_path / "storages" / path.name)))
    with open(path, "rb") as file:
        return entries_of(told, path, storages(file, path.name), path.name)


def saved(thing: Any, tmp_path: Path) -> Path:
    torch.save(thing, tmp_path / "m.pt")
    return tmp_path / "m.pt"


def test_views_are_told_apart(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    images = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    found = {
        e.name: e
        for e in listed(
            saved(
                {
                    "whole": whole,
                    "turned": whole.t(),
                    "rows": whole[1:3],
                    "column": whole[:, 2],
                    "images": images,
                    "none": torch.empty(0, 3),
                    "one": torch.tensor(2.0),
                    "sparse": torch.eye(3).to_sparse(),
                    "wide": torch.zeros(2, dtype=torch.complex128),
                    "small": torch.zeros(5).to(torch.float8_e4m3fn),
                },
                tmp_path,
            ),
            tmp_path,
        )
    }
    assert {n: (e.dtype, e.ordered) for n, e in found.items()} == {
        "whole": ("F32", True),
        "turned": ("F32", False),
        "rows": ("F32", True),
        "column": ("F32 view", False),
        "images": ("F32", False),
        "none": ("F32", True),
        "one": ("F32", True),
        "sparse": ("F32 sparse", False),
        "wide": ("complex128", True),
        "small": ("F8_E4M3", True),
    }
    assert found["turned"].shape == (6, 4) and found["turned"].start == found["whole"].start
    assert stored(found["rows"]) == whole[1:3].numpy().tobytes()
    assert sorted(stored(found["images"])) == sorted(images.contiguous().numpy().tobytes())


def test_names_are_dotted_and_unique(tmp_path: Path) -> None:
    w = torch.zeros(2)
    nested = {"a": {"b": [w, w.clone()]}, 3: w.clone(), (1, 2): w.clone(), b"x": w.clone()}
    names = {e.name for e in listed(saved(nested, tmp_path), tmp_path)}
    assert names == {"a.b.0", "a.b.1", "3", "<tuple>", "<bytes>"}
    assert [e.name for e in listed(saved(w, tmp_path), tmp_path)] == ["tensor"]
    with pytest.raises(unpickle.Refused, match=r"'a\.b'"):
        listed(saved({"a": {"b": w}, "a.b": w}, tmp_path), tmp_path)


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch CANARY",)


def hidden(path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "hook": Bomb()}, path)


def bare(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def legacy(path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "hook": Bomb()}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("model.pt", bare, "nothing of it was run"),
        ("model.pkl", bare, "nothing of it was run"),
        ("pytorch_model.bin", bare, "nothing of it was run"),
        ("renamed.safetensors", bare, "nothing of it was run"),
        ("renamed.gguf", bare, "no GGUF file"),
        ("zipped.safetensors", hidden, "nothing of it was run"),
        ("model.npy", bare, "never loaded"),
        ("model.joblib", bare, "never loaded"),
    ],
)
def test_a15_code_is_refused_before_any_process_sees_it(
    name: str, make: Callable[[Path], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(ModelError, match=words) as caught:
        inspect(tmp_path / name, tmp_path / "out")
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "CANARY").exists()


def test_a15_code_inside_a_torch_file_is_refused_in_the_process_that_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (hidden, legacy):
        make(tmp_path / "pytorch_model.bin")
        with pytest.raises(pickle.UnpicklingError) as caught:
            unpickle.listing(tmp_path / "pytorch_model.bin", tmp_path / "storages" / "copy")
        assert unpickle.reason(caught.value) == {"error": "code", "detail": "posix.system"}
    with pytest.raises(ModelError, match=r"posix\.system.*nothing of it was run and it is never loaded"):
        inspect(tmp_path, tmp_path / "out")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save({"step": torch.zeros(2).numpy()[0]}, tmp_path / "scalar.pt")
    for name in ("module.pt", "scalar.pt"):
        with pytest.raises(pickle.UnpicklingError) as caught:
            unpickle.listing(tmp_path / name, tmp_path / "storages" / "copy")
        assert unpickle.reason(caught.value)["error"] == "code"
    assert not (tmp_path / "CANARY").exists()


def packed(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return out.getvalue()


def changed(data: bytes, mark: bytes, at: int, new: bytes, which: int = 0) -> bytes:
    """Replaces bytes ``at`` after the n-th place where a signature stands."""
    place = -1
    for _ in range(which + 1):
        place = data.index(mark, place + 1)
    return data[: place + at] + new + data[place + at + len(new) :]


GOOD = {"m/data.pkl": b"\x80\x02}q\x00.", "m/data/0": b"\0" * 64}
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
LOOSE = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 2**40, 2**40, 2**40, 0)
FAR = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
with pytest.warns(UserWarning, match="Duplicate name"):
    _twice = io.BytesIO()
    with zipfile.ZipFile(_twice, "w") as _archive:
        for _name in (*GOOD, "m/data/0"):
            _archive.writestr(_name, b"\0" * 64)
ZIPS: dict[str, tuple[bytes, str]] = {
    "a bomb": (packed(GOOD | {"m/data/1": b"\0" * 10**7}, zipfile.ZIP_DEFLATED), "compressed"),
    "compressed by bzip2": (packed(GOOD, zipfile.ZIP_BZIP2), "compressed"),
    "the same name twice": (_twice.getvalue(), "same name"),
    "the same name in capitals": (packed(GOOD | {"m/DATA/0": b""}), "same name"),
    "encrypted": (changed(packed(GOOD), CENTRAL, 8, b"\x01"), "encrypted"),
    "encrypted in the member only": (changed(packed(GOOD), LOCAL, 6, b"\x01"), "not what the zip directory"),
    "compressed in the member only": (changed(packed(GOOD), LOCAL, 8, b"\x08"), "not what the zip directory"),
    "another name in the member": (changed(packed(GOOD), LOCAL, 30, b"M", 1), "not what the zip directory"),
    "members that overlap": (changed(packed(GOOD), CENTRAL, 42, struct.pack("<I", 0), 1), "overlap|not what"),
    "a size beyond the file": (
        changed(packed(GOOD), CENTRAL, 20, struct.pack("<2I", 9999, 9999), 1),
        "overlap",
    ),
    "a place beyond the file": (
        changed(packed(GOOD), CENTRAL, 42, struct.pack("<I", 10**9), 1),
        "outside|damaged",
    ),
    "a size of zip64 that is not there": (
        changed(packed(GOOD), CENTRAL, 20, struct.pack("<2I", 2**32 - 1, 2**32 - 1), 1),
        "damaged|overlap",
    ),
    "a directory of zip64 that lies": (
        packed(GOOD)[:-22] + LOOSE + FAR + changed(packed(GOOD)[-22:], END, 16, b"\xff" * 4),
        "damaged",
    ),
    "a directory that is cut": (packed(GOOD)[:-30], "damaged"),
    "no pickle": (packed({"m/data/0": b""}), "did not write it"),
    "two top folders": (packed(GOOD | {"n/data/0": b""}), "did not write it"),
    "a zip in a zip": (packed({"m/inner.zip": packed(GOOD)}), "did not write it"),
    "a program": (packed(GOOD | {"m/constants.pkl": b""}), "TorchScript"),
    "big-endian": (packed(GOOD | {"m/byteorder": b"big"}), "opposite order"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a16_a_zip_that_torch_did_not_write_never_reaches_torch(name: str, tmp_path: Path) -> None:
    data, words = ZIPS[name]
    (tmp_path / "m.pt").write_bytes(data)
    with pytest.raises(ModelError, match=words) as caught:
        read_pickles([tmp_path / "m.pt"], tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "listing.json").exists()


def test_a16_a_stored_zip_tells_where_its_storages_are(tmp_path: Path) -> None:
    data = packed({**GOOD, "m/é": b"x", "m/data/1": b"ab"})
    (tmp_path / "m.pt").write_bytes(data)
    with open(tmp_path / "m.pt", "rb") as file:
        found = storages(file, "m.pt")
    assert [data[start : start + size] for start, size in found.items()] == [b"\0" * 64, b"ab"]


def test_a16_a_pickle_larger_than_any_list_of_tensors_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "m.pt", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", b"\0" * (65 * 2**20))
    with pytest.raises(ModelError, match="at most 67108864"):
        read_pickles([tmp_path / "m.pt"], tmp_path)


def test_a17_expanded_tensors_are_refused(tmp_path: Path) -> None:
    for shape in ((10**6, 10**6), (2, 2)):
        path = saved({"w": torch.zeros(1).expand(*shape)}, tmp_path)
        with pytest.raises(ModelError, match="repeats elements"):
            listed(path, tmp_path)
    path = saved({"ids": torch.arange(5).expand(1, -1)}, tmp_path)
    assert [e.ordered for e in listed(path, tmp_path)] == [True]


def test_a17_shared_lists_and_cycles_end(tmp_path: Path) -> None:
    shared: list[Any] = [torch.zeros(2)]
    for _ in range(40):
        shared = [shared, shared]
    assert len(listed(saved(shared, tmp_path), tmp_path)) == 1
    cycle: dict[str, Any] = {"w": torch.zeros(2)}
    cycle["again"] = [cycle]
    assert [e.name for e in listed(saved(cycle, tmp_path), tmp_path)] == ["w"]
    deep: Any = torch.zeros(2)
    for _ in range(unpickle.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(unpickle.Refused, match="64 deep"):
        listed(saved(deep, tmp_path), tmp_path)
    with pytest.raises(unpickle.Refused, match="more than 1000000 things"):
        unpickle.flatten([0] * 1_000_001)
    with pytest.raises(unpickle.Refused, match="letters"):
        unpickle.flatten({"x" * 2**20: {str(i): 0 for i in range(20)}})


def calling(code: bytes) -> bytes:
    """A torch zip whose pickle is the given operations."""
    return packed({"m/data.pkl": b"\x80\x02" + code + b".", "m/version": b"3\n"})


@pytest.mark.slow
def test_a17_memory_and_time_have_limits(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    number = (10**12).to_bytes(6, "little")
    path.write_bytes(calling(b"c__builtin__\nbytearray\n\x8a\x06" + number + b"\x85R"))
    with pytest.raises(ModelError, match="more memory than is allowed"):
        read_pickles([path], tmp_path)
    nested = b")q\x00" + b"h\x00\x86q\x00" * 60  # its hash takes 2^60 steps
    path.write_bytes(calling(b"}" + nested + b"K\x01s"))
    with pytest.raises(ModelError, match="took more than 8 s"):
        read_pickles([path], tmp_path, seconds=8)


@pytest.mark.slow
def test_a19_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds no tensor"):
        open_checkpoint(tmp_path, tmp_path)


GUESSES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=5) | GUESSES,
        "dtype": st.sampled_from(["float32", "bfloat16", "odd type"]) | GUESSES,
        "itemsize": st.integers(-1, 20) | GUESSES,
        "shape": st.lists(st.integers(0, 5), max_size=3) | GUESSES,
        "stride": st.lists(st.integers(0, 25), max_size=3) | GUESSES,
        "start": st.sampled_from([0, 64]) | GUESSES,
        "offset": st.integers(0, 20) | GUESSES,
        "bytes": GUESSES,
    },
)


@given(st.fixed_dictionaries({"tensors": st.lists(RECORDS, max_size=3) | GUESSES}))
def test_whatever_a_listing_says_entries_stay_inside_their_storages(listing: dict[str, Any]) -> None:
    known = {0: 64, 64: 100}
    try:
        found = entries_of(listing, Path("m.pt"), known, "m.pt")
    except LabError as error:
        assert "\n" not in str(error)
        return
    for entry in found:
        inside = any(s <= entry.start and entry.start + entry.size <= s + n for s, n in known.items())
        assert inside or " " in entry.dtype


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_whatever_a_zip_directory_says_no_exception_is_but_ours(place: int, data: bytes) -> None:
    good = packed(GOOD)
    place %= len(good)
    with open(os.memfd_create("zip"), "w+b") as file:
        file.write(good[:place] + data + good[place + len(data) :])
        file.flush()
        try:
            found = storages(file, "m.pt")
        except LabError as error:
            assert "\n" not in str(error)
        else:
            assert all(start + size <= len(good) for start, size in found.items())
