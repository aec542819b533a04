"""Reads a checkpoint of unknown origin in a process of its own and writes down what is in it.

``python -m analysis.engine.inspect.worker PATH OUT`` fills the folder OUT; ``store.jobs`` says how far it is.
Memory is a few pieces of a million values whatever the size of the checkpoint; torch is never imported here
and nothing is unpickled.

inspection.json
    schema_version, source (``cache.source``), format, problems (sentences), metadata, quantised_by, run (what
    the run's masks keep, ``origin.kept``), done (all is read), seconds and bytes read by the last process
tied.parquet
    number of each tensor that repeats another one, and same, the number of that one
tensors.parquet
    one row a tensor, columns ``FACTS``: what headers and names say, there before any value is read
parts/NNNNNN.parquet, parts/NNNNNN.npz
    what was found in some of the tensors, by their row in tensors.parquet: columns ``parts.NUMBERS`` (q01 …
    q99 are quantiles of |w|, most04 the most non-zeros among four neighbours along a row); arrays number,
    value and count (the histogram without exact zeros), row and col (packed bits: not empty), one after the
    other for all tensors, NAME_ends saying where each ends
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.engine.inspect import cache, origin
from analysis.engine.inspect.config import quantised_by
from analysis.engine.inspect.header import clean
from analysis.engine.inspect.layouts import Tensor, tensors
from analysis.engine.inspect.opening import open_checkpoint
from analysis.engine.inspect.parts import Parts
from analysis.engine.inspect.reading import as_matrix, spans
from analysis.engine.inspect.stream import grouped, mapped
from analysis.engine.inspect.ties import tied
from analysis.engine.inspect.values import Found, analyse
from analysis.engine.memory import limit_memory
from analysis.errors import ModelError
from analysis.store import arrays, jobs, layout

RESULT, TENSORS, TIED, PARTS = "inspection.json", "tensors.parquet", "tied.parquet", "parts"

MEMORY = 4 * 2**30

Span = tuple[int, Tensor, int, int]  # number and tensor, first row and the one after the last


def inspect(path: Path, out: Path) -> dict[str, Any]:
    """Inspects a checkpoint and writes what it found; goes on where an earlier process stopped.

    Args:
        path: a file or folder, see ``open_checkpoint``.
        out: folder for the result, made when missing.

    Returns:
        the content of ``inspection.json``, empty when it was cancelled.

    Raises:
        ModelError: the checkpoint cannot be read; the note of the job holds the sentence too.
    """
    with jobs.Job(out, "bytes") as job:
        try:
            return _inspect(path, out, job)
        except OSError as error:
            reason = (error.strerror or "unknown reason").lower()
            raise ModelError(
                f"{clean(path.name)!r} cannot be read ({reason}); check the disk and the path."
            ) from None
    return {}


def _inspect(path: Path, out: Path, job: jobs.Job) -> dict[str, Any]:
    begun = time.monotonic()
    opened = open_checkpoint(path, out)
    source = cache.source(path, opened.files)
    result: dict[str, Any] = {"schema_version": cache.SCHEMA_VERSION, "source": source, "done": False}
    result |= {"format": opened.format, "problems": list(opened.problems), "metadata": opened.metadata}
    result |= {"quantised_by": quantised_by(opened.config), "run": origin.kept(path)}
    parts = Parts.load(out / PARTS)
    if _before(out) != source:
        parts.forget()
    found = tensors(opened.entries, opened.config)
    todo = list(_spans(found, parts.numbers))
    total = sum(t.entry.size for t in found if t.analysed)
    at = total - sum(_size(span) for span in todo)
    job.tell(at, total)
    read = mapped(_read, grouped([(_size(s), s) for s in todo]), total - at)
    piece = next(read, None)  # forks before anything below starts a thread
    _write_facts(out / TENSORS, found)
    layout.write_json(out / RESULT, result, durable=False)
    half: dict[int, Found] = {}
    while piece is not None:
        for span, seen in zip(*piece, strict=True):
            _gather(span, seen, half, parts)
            at += _size(span)
        job.tell(at, total)
        parts.flush(time.monotonic() - begun)
        piece = next(read, None)
    parts.flush(float("inf"))
    if cache.source(path, opened.files) != source:
        raise ModelError(f"{clean(path.name)!r} changed while it was read; inspect it again.")
    same = tied(found, out / PARTS)
    arrays.save_table(out / TIED, {"number": list(same), "same": list(same.values())})
    result |= {"done": True, "seconds": time.monotonic() - begun, "read": sum(_size(span) for span in todo)}
    layout.write_json(out / RESULT, result)
    return result


def _before(out: Path) -> Any:
    """Which files an earlier process read into this folder."""
    try:
        return layout.read_json(out / RESULT)["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _spans(found: Sequence[Tensor], known: set[int]) -> Iterator[Span]:
    for number, tensor in enumerate(found):
        if tensor.analysed and number not in known:
            yield from ((number, tensor, begin, end) for begin, end in spans(tensor.entry))


def _size(span: Span) -> int:
    _, tensor, begin, end = span
    rows, _, _ = as_matrix(tensor.entry)
    return tensor.entry.size * (end - begin) // max(rows, 1)


def _read(group: list[Span]) -> list[Found]:
    return [analyse(tensor.entry, begin, end, tensor.mask) for _, tensor, begin, end in group]


def _gather(span: Span, seen: Found, half: dict[int, Found], parts: Parts) -> None:
    """Puts the spans of a tensor together, and hands it on when it is whole."""
    number, tensor, _, end = span
    if number in half:
        half[number].join(seen)
    else:
        half[number] = seen
    if end == as_matrix(tensor.entry)[0]:
        parts.add(number, tensor, half.pop(number))


def _write_facts(path: Path, found: Sequence[Tensor]) -> None:
    rows = [
        {
            "name": t.name,
            "dtype": t.entry.dtype,
            "shape": " × ".join(str(n) for n in t.entry.shape) or "scalar",
            "numel": t.entry.numel,
            "bytes": t.entry.size,
            "role": t.role,
            "layer": t.layer,
            "block": t.block,
            "prunable": t.prunable,
            "encoder": t.encoder,
            "heads": t.heads,
            "head_axis": t.head_axis,
            "transposed": t.transposed,
            "weight": t.weight,
            "masked": t.mask is not None,
            "ordered": t.entry.ordered,
            "analysed": t.analysed,
            "file": os.fsencode(t.entry.file),  # a name need not be text
            "start": t.entry.start,
        }
        for t in found
    ]
    arrays.save_table(path, {name: [row[name] for row in rows] for name in FACTS})


FACTS = (
    "name", "dtype", "shape", "numel", "bytes", "role", "layer", "block", "prunable", "encoder", "heads",
    "head_axis", "transposed", "weight", "masked", "ordered", "analysed", "file", "start",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Runs from the command line; one sentence on stderr and code 2 on failure."""
    limit_memory(MEMORY)  # a file that finds a way to exhaust it ends this process and no other
    return jobs.run(arguments, cache.MODULE, {"PATH": Path, "OUT": Path}, inspect)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
