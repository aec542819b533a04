"""The verb that opens a checkpoint; it never imports torch, and reads the file in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli.shared import Json, RunsDir, emit, folder, say, table, write
from analysis.errors import ModelError
from analysis.store import jobs

PAIRS = ("name", "relative_l2", "sign_flips", "zeros_gained", "zeros_lost", "jaccard", "note")
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
    against: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A second one: how it differs from the first, tensor by tensor."),
    ] = None,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """What is in a checkpoint: every tensor, what is zero and where, in what pattern, out of what."""
    from analysis import frames
    from analysis.frames.compare import document as difference

    runs = folder(runs_dir)
    document = frames.document(inspected(path, runs))
    other = None if against is None else compared(path, against, runs)
    if other is not None:
        document |= difference(other)

    def people() -> None:
        for sentence in (*document["problems"], *document["verdict"]):
            write(f"- {sentence}")
        write()
        rows = [{**row, "shape": " × ".join(map(str, row["shape"]))} for row in document["tensors"]]
        table(rows, SHOWN, "No tensor is in it.")
        write()
        table(document["patterns"], ("pattern", "matrices", "of", "share"), "No pattern in its zeros.")
        if other is not None:
            write()
            for sentence in frames.difference(other):
                write(f"- {sentence}")
            write()
            table(document["pairs"], PAIRS, "They have no tensor in common.")

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


def compared(path: str, against: str, runs: Path) -> Path:
    """Compares a checkpoint with another one, or finds the comparison that is there already.

    Args:
        path: what the user typed for the first.
        against: and for the second.
        runs: the runs folder.

    Returns:
        the folder of the finished comparison.

    Raises:
        ModelError: one of them cannot be read; its sentence.
    """
    from analysis.engine.inspect import pair
    from analysis.engine.inspect.locate import locate

    out = pair.begin(locate(path, runs), locate(against, runs), runs, again=True)
    return finished(out, against)


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
