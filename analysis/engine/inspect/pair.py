"""Compares two checkpoints tensor by tensor in a throw-away process and writes down how they differ.

``python -m analysis.engine.inspect.pair A B OUT`` writes four files under OUT. Memory is a piece of each side
whatever the size of the checkpoints; two processes share the work; torch is never imported and nothing is
unpickled. Killed or cancelled, it leaves ``partial.npz``, and goes on from there when asked for the same.

comparison.json (written last, so that its presence means the others are whole):
    schema_version, error (a sentence or null), a and b {name, format, bytes, problems}, pairs (their number),
    seconds, bytes (read in that time)
pairs.parquet:
    one row a pair of tensors, columns ``COLUMNS``; numbers are null where the pair was not compared by value.
    name is what the tensor is called in A, name_b in B; how is "values", "bytes" or "" with a note; equal is
    whether nothing differs; compared counts elements finite on both sides, and all counts are out of those
others.parquet:
    tensors without a partner: name, kind ("missing": only in A, "extra": only in B, "shape": in both, of
    different shapes), role, layer, numel, shape_a, shape_b
structures.parquet:
    layer, block, kind ("heads" or "neurons"), total, empty_a, empty_b, lost, regained; see ``lost.lost``
planes.npz:
    exact counts, summed by layer and role: layer, role, prunable [groups]; of group i the cells and counts
    from starts[i] to starts[i + 1] ("plane" of ``contrast``), and size_cells and size_counts from
    size_starts[i] to size_starts[i + 1] ("sizes"); edges: the sizes between the bins of the plane
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from analysis.engine.inspect import cache
from analysis.engine.inspect.contrast import Contrast
from analysis.engine.inspect.gather import Gathered
from analysis.engine.inspect.header import clean
from analysis.engine.inspect.layouts import tensors
from analysis.engine.inspect.lost import lost
from analysis.engine.inspect.match import Matched, Side, match, put_back
from analysis.engine.inspect.opening import Checkpoint, open_checkpoint
from analysis.engine.inspect.rows import Labels, others, way
from analysis.engine.inspect.spans import cut, work
from analysis.engine.inspect.stream import grouped, mapped
from analysis.errors import ModelError
from analysis.store import arrays, jobs, layout

RESULT, PARTIAL = "comparison.json", "partial.npz"
PAIRS, OTHERS, STRUCTURES, PLANES = "pairs.parquet", "others.parquet", "structures.parquet", "planes.npz"
SCHEMA_VERSION = 1
MODULE = "analysis.engine.inspect.pair"
EVERY = 5.0  # seconds of work that a kill may cost
SPARING = 20  # times as long as the last partial result took to write, where that is more
_FACTS = ("name", "name_b", "role", "layer", "prunable", "shape", "numel", "dtype_a", "dtype_b", "bytes")
_HOW = ("how", "note", "equal", "tied", "compared", "non_finite")
_NUMBERS = ("l2", "norm_a", "norm_b", "cosine", "largest", "sign_flips")
_ZEROS = ("zeros_a", "zeros_b", "zeros_gained", "zeros_lost", "both")
_EMPTY = ("rows_emptied", "rows_filled", "cols_emptied", "cols_filled", "heads", "heads_lost")
COLUMNS = _FACTS + _HOW + _NUMBERS + _ZEROS + _EMPTY
OTHER_COLUMNS = ("name", "kind", "role", "layer", "numel", "shape_a", "shape_b")
STRUCTURE_COLUMNS = ("layer", "block", "kind", "total", "empty_a", "empty_b", "lost", "regained")

Tell = Callable[[float, float], None]


def compare(a: Path, b: Path, out: Path, tell: Tell = lambda done, total: None) -> dict[str, Any]:
    """Compares two checkpoints and writes down how they differ.

    Args:
        a: the first, as ``open_checkpoint`` takes it.
        b: the second.
        out: folder for the result, created when missing.
        tell: takes bytes read and bytes to read as they grow; what it raises ends the work.

    Returns:
        the content of ``comparison.json``.

    Raises:
        ModelError: one of them cannot be read; the sentence is also written as ``error``.
    """
    begun = time.monotonic()
    sides = {}
    for name, path in (("a", a), ("b", b)):
        (out / name).mkdir(parents=True, exist_ok=True)
        sides[name] = {"name": clean(path.name), "format": "", "bytes": 0, "problems": []}
    result = {
        "schema_version": SCHEMA_VERSION,
        "error": None,
        **sides,
        "pairs": 0,
        "seconds": 0.0,
        "bytes": 0,
    }
    try:
        first, second = open_checkpoint(a, out / "a"), open_checkpoint(b, out / "b")
        result |= {"a": _side(first), "b": _side(second)} | _compare(first, second, out, tell)
    except (ModelError, OSError) as error:
        sentence = str(error) if isinstance(error, ModelError) else _disk_sentence(a, b, error)
        layout.write_json(out / RESULT, result | {"error": sentence})
        raise ModelError(sentence) from None
    result["seconds"] = time.monotonic() - begun
    layout.write_json(out / RESULT, result)
    (out / PARTIAL).unlink(missing_ok=True)
    return result


def _side(opened: Checkpoint) -> dict[str, Any]:
    size = sum(os.stat(file).st_size for file in opened.files)
    return {
        "name": clean(opened.path.name),
        "format": opened.format,
        "bytes": size,
        "problems": list(opened.problems),
    }


def _compare(first: Checkpoint, second: Checkpoint, out: Path, tell: Tell) -> dict[str, Any]:
    before = _stamps(first, second)
    matched = match(*(put_back(tensors(one.entries, one.config)) for one in (first, second)))
    hows = [way(*pair) for pair in matched.pairs]
    found = Gathered.load(out / PARTIAL, before)
    read = _go_on(matched, hows, found, out, before, tell)
    if before != _stamps(first, second):
        raise ModelError(
            f"{clean(first.path.name)!r} or {clean(second.path.name)!r} changed while it was read; "
            "compare again."
        )
    structures = lost((row["layer"], e) for row in found.rows if (e := row.get("emptied")))
    for file, columns, rows in (
        (PAIRS, COLUMNS, found.rows),
        (OTHERS, OTHER_COLUMNS, others(matched)),
        (STRUCTURES, STRUCTURE_COLUMNS, structures),
    ):
        arrays.save_table(out / file, {name: [row.get(name) for row in rows] for name in columns})
    arrays.save_arrays(out / PLANES, found.planes())
    return {"pairs": len(found.rows), "bytes": read}


def _go_on(
    matched: Matched,
    hows: Sequence[tuple[str, str]],
    found: Gathered,
    out: Path,
    key: str,
    tell: Tell,
) -> int:
    """Reads the pairs that are not in ``found`` yet and adds them; returns the number of bytes read."""
    sizes = [a.size + b.size if how else 0 for (a, b), (how, _) in zip(matched.pairs, hows, strict=True)]
    at = len(found.rows)
    done = already = float(sum(sizes[:at]))
    total = float(sum(sizes))
    labels = Labels(matched.pairs)
    todo = grouped(list(cut((i, *matched.pairs[i], hows[i][0]) for i in range(at, len(sizes)))))
    saved, pause = time.monotonic(), EVERY
    open_pair: Any = None
    shared = mapped(work, todo, int(total - done))
    with contextlib.closing(shared), contextlib.ExitStack() as on_exit:
        on_exit.callback(lambda: found.save(out / PARTIAL, key))
        for task, parts in shared:
            for span, part in zip(task, parts, strict=True):
                place, a = span.pair, span.a
                length = max(1, a.entry.size if span.how == "bytes" else a.entry.numel)
                done += sizes[place] * span.count / length
                open_pair = _merge(open_pair, a, part)
                if span.start + span.count >= length or not span.count:
                    found.add(*labels.row(place, hows[place], open_pair))
                    open_pair = None
            tell(done, total)
            if time.monotonic() - saved >= pause:
                begun = time.monotonic()
                found.save(out / PARTIAL, key)
                saved = time.monotonic()
                pause = max(EVERY, SPARING * (saved - begun))
    return int(done - already)


def _merge(held: Any, a: Side, part: dict[str, Any]) -> Any:
    """Adds one span to what was found of its pair: a ``Contrast``, or whether its bytes are equal so far."""
    if "equal" in part:
        return part["equal"] and held is not False
    held = held or Contrast(a.shape)
    held.merge(part)
    return held


def place(a: Path, b: Path, runs: Path) -> tuple[Path, int]:
    """Finds the folder below the runs folder for the comparison of two checkpoints as they are now.

    Args:
        a: file or folder of the first.
        b: file or folder of the second.
        runs: the runs folder.

    Returns:
        the folder, and how many bytes both have.

    Raises:
        ModelError: no readable file is there.
    """
    found = [cache.source(path.resolve(), cache.weights(path)) for path in (a, b)]
    words = repr((SCHEMA_VERSION, cache.SCHEMA_VERSION, found)).encode("utf-8", "surrogateescape")
    name = f"pair-{hashlib.sha256(words).hexdigest()[:24]}"
    return runs / cache.FOLDER / name, sum(one["bytes"] for one in found)


def begin(a: Path, b: Path, runs: Path, again: bool = False) -> Path:
    """Sees that two checkpoints are being compared, or have been.

    Args:
        a: file or folder of the first.
        b: file or folder of the second.
        runs: the runs folder, made when missing.
        again: also when an earlier comparison failed or was cancelled.

    Returns:
        the folder of the comparison; ``store.jobs.read`` says how it stands.

    Raises:
        ModelError: no readable file is there.
    """
    a, b = a.resolve(), b.resolve()  # the process works in another folder
    return cache.started(place(a, b, runs)[0], runs, MODULE, [str(a), str(b)], again)


def _stamps(*opened: Checkpoint) -> str:
    """Text that changes when a file of either checkpoint does, or the form of the result."""
    return json.dumps([SCHEMA_VERSION, *(cache.source(one.path, one.files) for one in opened)])


def _disk_sentence(a: Path, b: Path, error: OSError) -> str:
    reason = (error.strerror or "unknown reason").lower()
    return f"{clean(a.name)!r} and {clean(b.name)!r} cannot be compared ({reason}); check disk and paths."


def main(arguments: list[str]) -> int:
    """Runs from the command line; one sentence on stderr and code 2 on failure."""

    def work(a: Path, b: Path, out: Path) -> None:
        with jobs.Job(out, "bytes") as job:
            compare(a, b, out, job.tell)

    return jobs.run(arguments, MODULE, dict.fromkeys(("A", "B", "OUT"), Path), work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
