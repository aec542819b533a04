"""The diary of a run: one JSON object a line, appended by the worker, read by byte offset while it grows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.store.layout import to_json

RESUME = "resume"
_CHUNK = 64 * 2**20


@dataclass(frozen=True)
class Tail:
    """What a read found.

    Attributes:
        rows: the events, oldest first; those that a later resume made void are left out.
        offset: where the next read starts, in bytes.
        bad_lines: lines in this stretch that hold no JSON object.
        rewound_to: step of the lowest resume in this stretch, None when there was none; a reader that keeps
            rows of earlier reads drops those that ``is_void`` names.
        restarted: the file is shorter than the offset asked for, so reading began at its start again.
    """

    rows: list[dict[str, Any]]
    offset: int
    bad_lines: int = 0
    rewound_to: int | None = None
    restarted: bool = False


class EventWriter:
    """Appends events to a file; every line is in the kernel's hands before ``append`` returns.

    A process killed in the middle of a line leaves a torn tail; the next writer cuts it off when it opens the
    file.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        _cut_torn_tail(self._descriptor)

    def append(self, event: dict[str, Any]) -> None:
        """Add one event; numbers that are not finite are written as null.

        Raises:
            OSError: the disk is full or gone; the file then still ends at the last whole line.
        """
        line = (to_json(event) + "\n").encode()
        size = os.fstat(self._descriptor).st_size
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if written:
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut_torn_tail(descriptor: int) -> None:
    """Shorten a file to its last whole line."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)


def tail(path: Path, offset: int = 0, kinds: Iterable[str] | None = None) -> Tail:
    """Read the whole lines that were added since ``offset``.

    A line still being written is left for the next read. At most 64 MiB are read at once: a caller that wants
    all of a larger file reads on until the offset stands still.

    Args:
        path: the events file; a missing one reads as empty.
        offset: byte position a former read returned, 0 for the start.
        kinds: only events of these kinds, None for all; lines of other kinds are skipped without being
            parsed.

    Returns:
        the events and where to go on.
    """
    try:
        with open(path, "rb") as file:
            restarted = os.fstat(file.fileno()).st_size < offset
            start = 0 if restarted or offset < 0 else offset
            file.seek(start)
            data = file.read(_CHUNK)
    except FileNotFoundError:
        return Tail([], 0, restarted=offset > 0)
    end = data.rfind(b"\n") + 1
    if end == 0 and len(data) == _CHUNK:
        return Tail([], start + _CHUNK, 1, None, restarted)
    wanted = None if kinds is None else frozenset(kinds)
    rows, bad = _parse(data[:end].splitlines(), wanted)
    rows, rewound_to = _drop_void(rows)
    if wanted is not None:
        rows = [row for row in rows if row.get("kind") in wanted]
    return Tail(rows, start + end, bad, rewound_to, restarted)


def _parse(lines: list[bytes], kinds: frozenset[str] | None) -> tuple[list[dict[str, Any]], int]:
    """Events of a list of lines, and how many lines are none."""
    if kinds is not None:
        wanted = [f'"{kind}"'.encode() for kind in {*kinds, RESUME}]
        lines = [line for line in lines if any(word in line for word in wanted)]
    try:  # all lines as one array: nearly twice as fast as one by one, and the common case
        together = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        together = []
    if len(together) == len(lines) and all(isinstance(row, dict) for row in together):
        return together, 0
    rows: list[dict[str, Any]] = []
    bad = 0
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            bad += 1
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad += 1
    return rows, bad


def _drop_void(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int | None]:
    """Leave out what an attempt wrote beyond the checkpoint from which the next one went on."""
    lowest: int | None = None
    kept: list[dict[str, Any]] = []
    for row in rows:
        step = row.get("step")
        if row.get("kind") == RESUME and isinstance(step, int):
            lowest = step if lowest is None else min(lowest, step)
            kept = [old for old in kept if not is_void(old, step)]
        kept.append(row)
    return kept, lowest


def is_void(row: dict[str, Any], step: int) -> bool:
    """Whether a resume from the checkpoint of a step makes an earlier event void.

    Notes and phases stay: they tell what happened. A loss line and the start of a stage carry the number of
    the step that is about to change the weights, so the one with the checkpoint's own number will be written
    again; evaluations and snapshots of that number were made before the checkpoint and stand.
    """
    at, kind = row.get("step"), row.get("kind")
    if kind in ("note", "phase", RESUME) or not isinstance(at, int):
        return False
    return at >= step if kind in ("loss", "stage", "graft") else at > step
