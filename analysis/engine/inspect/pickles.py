"""PyTorch files: never unpickled in this process, and never by anything but ``weights_only=True`` in another.

What the other process says is believed as little as the file itself: every tensor has to lie inside one
storage that the zip directory, or the size of the copy, shows to be there.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from analysis.engine.inspect.header import (
    MAX_DIMENSIONS,
    MAX_TENSORS,
    Entry,
    clean,
    counts,
    json_object,
    open_regular,
)
from analysis.engine.inspect.zips import storages
from analysis.errors import ModelError
from analysis.store import layout

log = logging.getLogger(__name__)

COPY = ".storages"
MAX_LEGACY = 4 * 10**9
MAX_LISTING = 96 * 2**20
SECONDS = 300.0
# How torch.save began a file before version 1.6, in the pickle protocol it used.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "complex64": "C64",
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
_SAFE = "convert it to safetensors where you trust it"


def read_pickles(
    files: list[Path], work: Path, seconds: float = SECONDS
) -> tuple[list[Entry], list[str], str]:
    """Lists the tensors of PyTorch files.

    Args:
        files: the file, or its shards.
        work: folder for the listing, and for a copy of the tensors of a file from before PyTorch 1.6.
        seconds: after which the process that lists them is ended.

    Returns:
        the tensors; sentences on what else the files hold; the kind of file in words.

    Raises:
        ModelError: a file is damaged, holds more than tensors, or took too much time or memory.
    """
    known = [_gate(file) for file in files]
    sizes = sum(file.stat().st_size for file, found in zip(files, known, strict=True) if found is None)
    if sizes > MAX_LEGACY:
        raise ModelError(
            f"{clean(files[0].name)!r} was written before PyTorch 1.6 and has {sizes} bytes; at most "
            f"{MAX_LEGACY} are converted: save it again with torch.save, or {_SAFE}."
        )
    told = _listings(files, work, seconds)
    entries: list[Entry] = []
    problems: list[str] = []
    for file, found, listing in zip(files, known, told, strict=True):
        where = file if found is not None else work / "storages" / f"{file.name}{COPY}"
        if found is None:
            found = _copied(listing.get("storages"), where)
        entries += entries_of(listing, where, found, clean(file.name))
        problems += _remarks(listing, clean(file.name))
    if not entries:
        raise ModelError(f"{clean(files[0].name)!r} holds no tensor; give a file that holds a state_dict.")
    problems += _shared(entries)
    views = [e.name for e in entries if " " in e.dtype]
    if views:
        problems.append(
            f"{len(views)} tensors are sparse, or views with gaps or overlaps (first "
            f"{clean(views[0], 80)!r}); they are listed and not analysed."
        )
    return entries, problems, "PyTorch before 1.6" if None in known else "PyTorch"


def _gate(path: Path) -> dict[int, int] | None:
    """Checks the outside of a file; returns the storages of a zip, None for a legacy file."""
    shown = clean(path.name)
    with open_regular(path) as file:
        first = file.read(len(LEGACY))
        if first[:4] == b"PK\x03\x04":
            return storages(file, shown)
    if first == LEGACY:
        return None
    if first[:1] == b"\x80":
        raise ModelError(
            f"{shown!r} is a pickle that torch.save did not write; it can run code when it is opened, so it "
            f"is never loaded, and nothing of it was run: {_SAFE}."
        )
    raise ModelError(
        f"{shown!r} is no PyTorch file: it is neither a zip nor begins as torch.save did before 1.6; "
        "download it again, or give it the ending of what it is."
    )


def _listings(files: list[Path], work: Path, seconds: float) -> list[dict[str, Any]]:
    """Has another process list the files."""
    shown, out = clean(files[0].name), work / "listing.json"
    names = [str(path.resolve()) for path in (work, *files)]
    command = [sys.executable, "-P", "-W", "ignore", "-m", "analysis.engine.inspect.unpickle", *names]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home:
        ours = {"PYTHONPATH": str(layout.ROOT), "HOME": home, "TMPDIR": home, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=home,
                env=kept | ours,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"Listing the tensors of {shown!r} took more than {seconds:g} s and was ended; {_SAFE}."
            ) from None
    if done.returncode or not out.is_file():
        log.warning("listing %s: %s", shown, done.stderr[-2000:].decode("utf-8", "replace"))
        raise ModelError(
            f"The process that listed the tensors of {shown!r} ended with code {done.returncode}; the file "
            f"is damaged, or needs more memory than is allowed: {_SAFE}."
        )
    with open_regular(out) as file:
        told = json_object(file.read(MAX_LISTING), f"The list of tensors of {shown!r}")
    if "error" in told:
        raise ModelError(_refusal(shown, told))
    found = told.get("files")
    if not isinstance(found, list) or len(found) != len(files) or not all(isinstance(f, dict) for f in found):
        raise ModelError(f"The list of tensors of {shown!r} is not whole; the file is damaged.")
    return found


def _refusal(shown: str, told: dict[str, Any]) -> str:
    detail = clean(told.get("detail"), 120)
    if told["error"] == "code":
        return (
            f"{shown!r} holds more than tensors ({detail}), which can run code when it is opened; nothing of "
            f"it was run and it is never loaded: {_SAFE}."
        )
    if told["error"] == "memory":
        return f"Listing the tensors of {shown!r} needs more memory than is allowed; {_SAFE}."
    return f"{shown!r} cannot be read as a PyTorch file ({detail.rstrip('.')}); {_SAFE}."


def _copied(told: Any, path: Path) -> dict[int, int]:
    """The storages of a copy, as far as it is there."""
    size = path.stat().st_size if path.is_file() else 0
    pairs = told if isinstance(told, list) else []
    good = [p for p in pairs if counts(p) and len(p) == 2 and sum(p) <= size]
    return {p[0]: p[1] for p in sorted(good)}


def entries_of(listing: dict[str, Any], file: Path, known: dict[int, int], shown: str) -> list[Entry]:
    """Turns what another process says of a file into entries, checked against where its storages are.

    Args:
        listing: one object of ``listing.json``; see ``inspect.unpickle``.
        file: the file that holds the bytes.
        known: place and size in bytes of every storage in it.
        shown: its name in sentences.

    Returns:
        the tensors in the order of their bytes; tied ones have the same place.

    Raises:
        ModelError: a tensor is not described as tensors are, or is not inside one storage.
    """
    told = listing.get("tensors")
    if not isinstance(told, list) or len(told) > MAX_TENSORS or not all(isinstance(t, dict) for t in told):
        raise ModelError(f"The list of tensors of {shown!r} is none, or has more than {MAX_TENSORS}.")
    entries = [_entry(record, file, known, shown) for record in told]
    if len({entry.name for entry in entries}) != len(entries):
        raise ModelError(f"{shown!r} gives two tensors the same name, so it is ambiguous; it is not read.")
    return sorted(entries, key=lambda e: (e.start, e.size))


def _entry(record: dict[str, Any], file: Path, known: dict[int, int], shown: str) -> Entry:
    name: Any = record.get("name")
    kind: Any = record.get("dtype")
    shape: Any = record.get("shape")
    where = f"tensor {clean(name, 80)!r} of {shown!r}"
    if not isinstance(name, str) or not isinstance(kind, str) or not counts(shape):
        raise ModelError(f"The {where} has no name, type or shape; the file is damaged.")
    if len(shape) > MAX_DIMENSIONS:
        raise ModelError(f"The {where} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read.")
    dtype = DTYPES.get(kind, clean(kind, 40).replace(" ", ""))
    if counts([record.get("bytes")]):
        return Entry(name, f"{dtype} sparse", tuple(shape), file, 0, record["bytes"], ordered=False)
    stride: Any = record.get("stride")
    numbers: list[Any] = [record.get(key) for key in ("itemsize", "start", "offset")]
    if not counts(stride) or not counts(numbers) or len(stride) != len(shape) or not 0 < numbers[0] <= 16:
        raise ModelError(f"The place of {where} is not told in whole numbers; the file is damaged.")
    item, start, offset = numbers
    size, room = math.prod(shape) * item, known.get(start)
    if room is None:
        raise ModelError(f"The storage of {where} is not in the file; the file is damaged.")
    if size > room:
        raise ModelError(
            f"The {where} claims {size} bytes and its storage has {room}: it repeats elements, as expand "
            "does; save it again after contiguous()."
        )
    reach = offset + 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    if size and reach * item > room:
        raise ModelError(f"The {where} ends outside its storage; the file is damaged.")
    order = _order(shape, stride)
    first = start + offset * item if size else start
    return Entry(
        name, dtype if order is not None else f"{dtype} view", tuple(shape), file, first, size, order is True
    )


def _order(shape: list[int], stride: list[int]) -> bool | None:
    """True where elements follow each other as in the shape, False in another order, None with gaps."""
    steps = [(s, n) for n, s in zip(shape, stride, strict=True) if n != 1]
    if 0 in shape:
        return True
    expected = 1
    for step, n in sorted(steps):
        if step != expected:
            return None
        expected *= n
    return steps == sorted(steps, reverse=True)


def _shared(entries: list[Entry]) -> list[str]:
    """Says which tensors are a part of another; tied ones, which are the same bytes, are none of them."""
    parts, last = [], None
    for entry in entries:
        if last and entry.file == last.file and entry.start < last.start + last.size:
            if (entry.start, entry.size) != (last.start, last.size):
                parts.append(entry.name)
        if not last or entry.file != last.file or entry.start + entry.size > last.start + last.size:
            last = entry
    if not parts:
        return []
    return [f"{len(parts)} tensors are parts of others (first {clean(parts[0], 80)!r}), and counted in both."]


def _remarks(listing: dict[str, Any], shown: str) -> list[str]:
    """Says what a file holds beside the tensors that are listed."""
    out = []
    beside = [clean(name, 40) for name in listing.get("beside", []) if isinstance(name, str)]
    if beside:
        more = f" and {len(beside) - 5} more" if len(beside) > 5 else ""
        some = ", ".join(map(repr, beside[:5]))
        out.append(f"{shown!r} also holds {some}{more} beside the state dictionary; that is not counted.")
    other = listing.get("other")
    if counts([other]) and other:
        first = clean(listing.get("first"), 80)
        out.append(f"{other} values in {shown!r} are no tensors (first {first!r}); they are not counted.")
    return out
