"""Which inspection belongs to a checkpoint: told from what its files are, without reading a weight."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.engine.inspect.files import INDEXES, SUFFIXES, files_of, member
from analysis.engine.inspect.header import MAX_HEADER, open_regular
from analysis.store import jobs, layout
from analysis.store.locks import held

Stamp = tuple[int, int, int]  # size, time of change, number on the disk

SCHEMA_VERSION = 5
MODULE = "analysis.engine.inspect.worker"
FOLDER = ".inspections"
KEPT = 40
LARGEST = 4 * 2**30  # bytes of all inspections; copies of old PyTorch files are among them
SMALL_INDEX = 1 << 20  # bytes of an index that the server parses itself
MOST_FILES = 5000
ENDS = 1 << 16  # bytes hashed at either end of a file that is no safetensors


def source(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    r"""Describes the files of a checkpoint as they are: name, size, time of change, hash of the header.

    Names are text that JSON can hold: bytes of a name that are not UTF-8 are written as ``\xff``.
    """
    out, total = [], 0
    for file in files:
        stamp = _stamp(file)
        total += stamp[0]
        out.append(
            {
                "name": as_text(file.name),
                "bytes": stamp[0],
                "mtime_ns": stamp[1],
                "header": _header(str(file), stamp),
            }
        )
    beside = files[0].parent / "config.json"
    config = _stamp(beside)[:2] if beside.is_file() else None
    return {"path": as_text(str(path)), "files": out, "bytes": total, "config": config}


def as_text(name: str) -> str:
    """Writes a file name so that it can be encoded, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _stamp(path: Path) -> Stamp:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


@lru_cache(maxsize=4096)
def _header(file: str, stamp: Stamp) -> str:
    """Hash of the first bytes, a safetensors header whole, and of the last; a page asks with every click."""
    with open_regular(Path(file)) as opened:
        data = opened.read(8)
        length = int.from_bytes(data, "little")
        data += opened.read(length if length <= MAX_HEADER else ENDS)
        opened.seek(max(opened.tell(), stamp[0] - ENDS))
        return hashlib.sha256(data + opened.read(ENDS)).hexdigest()


def weights(path: Path) -> list[Path]:
    """Lists the files of weights of a checkpoint, as far as that takes no parsing of a stranger's large file.

    The server asks this; an index above a megabyte is read by the worker alone, and here every file of
    weights in the folder stands for it.

    Raises:
        ModelError: no readable file is there.
    """
    path = path.resolve()
    folder = path / "model" if (path / "spec.json").is_file() and (path / "model").is_dir() else path
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    stamps = tuple(_stamp(p) for p in (path, folder, index) if p is not None and p.exists())
    return list(_weights(str(path), str(folder), index and str(index), stamps))


@lru_cache(maxsize=64)
def _weights(path: str, folder: str, index: str | None, stamps: tuple[Stamp, ...]) -> tuple[Path, ...]:
    if index is None or os.stat(index).st_size <= SMALL_INDEX:
        return tuple(files_of(Path(path))[0])
    names = sorted(n for n in os.listdir(folder) if n.endswith(SUFFIXES))[:MOST_FILES]
    return tuple(file for name in names if (file := member(Path(folder), name)))


def place(path: Path, runs: Path) -> Path:
    """The folder below the runs folder that holds, or will hold, the inspection of a checkpoint.

    Another content is another folder: a file that changed is read again, one that did not is there at once.

    Args:
        path: file or folder of the checkpoint.
        runs: the runs folder.

    Raises:
        ModelError: no readable file is there.
    """
    words = repr((SCHEMA_VERSION, source(path.resolve(), weights(path))))
    name = hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return runs / FOLDER / name


def begin(path: Path, runs: Path, again: bool = False) -> Path:
    """Sees that a checkpoint is being inspected, or has been.

    Args:
        path: file or folder of the checkpoint.
        runs: the runs folder, made when missing.
        again: also when an earlier inspection failed, was cancelled or died: not by itself, because a file
            that kills the process would do so for ever.

    Returns:
        the folder of the inspection; ``store.jobs.read`` says how it stands.

    Raises:
        ModelError: no readable file is there.
        RunError: no process can be started in the runs folder.
    """
    path = path.resolve()  # the process works in another folder
    return started(place(path, runs), runs, MODULE, [str(path)], again)


def started(out: Path, runs: Path, module: str, arguments: Sequence[str], again: bool) -> Path:
    """Starts the work of a folder in the store unless it is at work or over; the arguments end in the folder.

    Returns:
        the folder.
    """
    state = jobs.read(out).state
    if state == "absent" or (again and state in ("failed", "cancelled", "crashed")):
        layout.make_runs_dir(runs)
        sweep(runs)
        jobs.begin(out, module, *arguments, str(out))
    with contextlib.suppress(OSError):  # a folder that may only be read stays as it is
        os.utime(out)  # the oldest looked at is the first to go
    return out


def sweep(runs: Path) -> None:
    """Removes the oldest inspections beyond the number, and beyond the bytes, that are kept."""
    store = runs / FOLDER
    if not store.is_dir():
        return
    folders = [f for f in store.iterdir() if f.is_dir() and not held(f / jobs.LOCK)]
    total = 0
    for place, old in enumerate(sorted(folders, key=lambda f: f.stat().st_mtime, reverse=True)):
        total += sum(f.stat().st_size for f in old.rglob("*") if f.is_file())
        if place >= KEPT or (total > LARGEST and place):
            shutil.rmtree(old, ignore_errors=True)
