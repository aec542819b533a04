"""The verb that opens a checkpoint; it never imports torch, and reads the file in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli.shared import Json, RunsDir, emit, folder, say, table, write
from analysis.errors import ModelError
from analysis.store import jobs

SHOWN = ("name", "role", "shape", "dtype", "zeros", "nonfinite", "rows_empty", "heads_empty", "note")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("inspect")(inspect)


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A file of weights, a model folder, a run, a bundled model, or a hub id in the local cache.",
            show_default=False,
        ),
    ],
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """What is in a checkpoint: every tensor, what is zero and where, in what pattern, out of what."""
    from analysis import frames

    document = frames.document(inspected(path, folder(runs_dir)))

    def people() -> None:
        for sentence in (*document["problems"], *document["verdict"]):
            write(f"- {sentence}")
        write()
        rows = [{**row, "shape": " × ".join(map(str, row["shape"]))} for row in document["tensors"]]
        table(rows, SHOWN, "No tensor is in it.")
        write()
        table(document["patterns"], ("pattern", "matrices", "of", "share"), "No pattern in its zeros.")

    emit(document, json, people)


def inspected(path: str, runs: Path) -> Path:
    """Inspects a checkpoint, or finds the inspection that is there already.

    Args:
        path: what the user typed.
        runs: the runs folder.

    Returns:
        the folder of the finished inspection.

    Raises:
        ModelError: the checkpoint cannot be read; its sentence.
    """
    from analysis.engine.inspect import cache
    from analysis.engine.inspect.locate import locate

    out = cache.begin(locate(path, runs), runs, again=True)
    return finished(out, path)


def finished(out: Path, what: str) -> Path:
    """Waits for work on the side, telling how far it is on stderr.

    Raises:
        ModelError: it failed, was cancelled, or its process died.
    """
    told = 0.0

    def tell(note: jobs.Note) -> None:
        nonlocal told
        if sys.stderr.isatty() and note.total and note.seconds - told >= 1:
            told = note.seconds
            left = f", {note.left:.0f} s left" if note.left is not None else ""
            say(f"{note.done / 1e6:,.0f} of {note.total / 1e6:,.0f} MB{left}")

    note = jobs.wait(out, tell)
    if note.state == "done":
        return out
    reasons: dict[str, Any] = {
        "failed": note.reason,
        "cancelled": f"Reading {what!r} was cancelled; run it again to go on.",
    }
    raise ModelError(
        reasons.get(note.state)
        or f"The process reading {what!r} ended early, perhaps for want of memory; run it again to go on."
    )
