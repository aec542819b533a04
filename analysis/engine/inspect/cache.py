"""Which inspection belongs to a checkpoint: told from what its files are, without reading a weight."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.engine.inspect.files import files_of
from analysis.engine.inspect.header import MAX_HEADER, open_regular
from analysis.store import jobs, layout
from analysis.store.locks import held

SCHEMA_VERSION = 4
MODULE = "analysis.engine.inspect.worker"
FOLDER = ".inspections"
KEPT = 40
LARGEST = 4 * 2**30  # bytes of all inspections; copies of old PyTorch files are among them
ENDS = 1 << 16  # bytes hashed at either end of a file that is no safetensors


def source(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    r"""Describes the files of a checkpoint as they are: name, size, time of change, hash of the header.

    Names are text that JSON can hold: bytes of a name that are not UTF-8 are written as ``\xff``.
    """
    out, total = [], 0
    for file in files:
        with open_regular(file) as opened:
            data = opened.read(8)
            length = int.from_bytes(data, "little")
            data += opened.read(length if length <= MAX_HEADER else ENDS)
            opened.seek(max(opened.tell(), file.stat().st_size - ENDS))
            digest = hashlib.sha256(data + opened.read(ENDS)).hexdigest()
        found = file.stat()
        total += found.st_size
        out.append(
            {
                "name": as_text(file.name),
                "bytes": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "header": digest,
            }
        )
    beside = files[0].parent / "config.json"
    config = [beside.stat().st_size, beside.stat().st_mtime_ns] if beside.is_file() else None
    return {"path": as_text(str(path)), "files": out, "bytes": total, "config": config}


def as_text(name: str) -> str:
    """Writes a file name so that it can be encoded, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def place(path: Path, runs: Path) -> Path:
    """The folder below the runs folder that holds, or will hold, the inspection of a checkpoint.

    Another content is another folder: a file that changed is read again, one that did not is there at once.

    Args:
        path: file or folder of the checkpoint.
        runs: the runs folder.

    Raises:
        ModelError: no readable file is there.
    """
    files, _ = files_of(path)
    words = repr((SCHEMA_VERSION, source(path.resolve(), files)))
    name = hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return runs / FOLDER / name


def begin(path: Path, runs: Path, again: bool = False) -> Path:
    """Sees that a checkpoint is being inspected, or has been.

    Args:
        path: file or folder of the checkpoint.
        runs: the runs folder, made when missing.
        again: also when an earlier inspection failed.

    Returns:
        the folder of the inspection; ``store.jobs.read`` says how it stands.

    Raises:
        ModelError: no readable file is there.
    """
    out = place(path, runs)
    wanted = ("absent", "crashed", *(("failed", "cancelled") if again else ()))
    if jobs.read(out).state in wanted:
        layout.make_runs_dir(runs)
        sweep(runs)
        jobs.begin(out, MODULE, str(path), str(out))
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
