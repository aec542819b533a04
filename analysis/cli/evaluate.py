"""The verb that measures an opened model and one-shot cuts of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli.options import Set
from analysis.cli.shared import Json, RunsDir, emit, folder, say, table, write
from analysis.errors import ModelError, SpecError

SHOWN = ("by", "scope", "keep", "state", "value", "error", "rows", "sparsity")
TIMES = ("variant", "keep", "seconds", "low", "high", "ratio", "parameters", "kernel", "reason")


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="run:ID, a folder or a hub id.", show_default=False)
    ],
    data: Annotated[
        str,
        typer.Option(
            help="bundled:opinions, bundled:digits, a file, a folder or a hub dataset; a run's own task when "
            "not given.",
            show_default=False,
        ),
    ] = "",
    keeps: Annotated[
        str, typer.Option(help="Fractions of the prunable weights that stay, between commas.")
    ] = "0.7,0.5,0.3,0.2,0.1",
    by: Annotated[str, typer.Option(help="What is kept first: magnitude or scores.")] = "magnitude",
    scope: Annotated[
        str, typer.Option(help="Rank over all matrices (global) or in each (local).")
    ] = "global",
    rows: Annotated[int, typer.Option(help="Rows of the quick look.")] = 256,
    batch: Annotated[int, typer.Option(help="Examples per forward pass.")] = 64,
    set_: Set = None,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """Measure a trained model as it is and after one-shot cuts, and time its forms.

    What was measured before is not measured again; Ctrl-C stops the work and keeps what there is.
    """
    from analysis.engine import probe
    from analysis.spec import ProbeSpec
    from analysis.spec.probe import numbers
    from analysis.store import jobs

    where = folder(runs_dir)
    task = _task(model, data, set_ or [], where)
    spec = ProbeSpec(model, task, numbers(keeps), by, scope, rows, batch)
    out = probe.begin(spec, where)
    if probe.missing(out, spec):
        try:
            note = jobs.wait(out, _teller())
        except KeyboardInterrupt:
            jobs.cancel(out)
            raise
        if note.state != "done":
            reason = note.reason or f"The measurement was {note.state}; the same command goes on from there."
            raise ModelError(reason)
    _answer(out, json)


def _task(model: str, source: str, settings: Sequence[str], runs: Path) -> Any:
    """The task that was named, or that of the run, with the settings given as ``task.field=value``."""
    from analysis.spec import TaskSpec
    from analysis.spec.probe import task_of
    from analysis.store.runs import find_run

    own = task_of(find_run(runs, model.removeprefix("run:")).spec) if model.startswith("run:") else None
    if not source and own is None:
        raise SpecError(f"What {model} is measured on is not said; give --data, a file with labels.")
    changes = {}
    for pair in settings:
        name, equals, value = pair.partition("=")
        slot, _, field = name.strip().partition(".")
        if not equals or slot not in ("task", "data") or not field or field == "source":
            raise SpecError(
                f"--set is {pair[:60]!r}: here only columns and limits of the data can be set, for instance "
                "task.text=review."
            )
        changes[field] = value.strip()
    same = own is not None and source in ("", own.source)
    return (own if same and own is not None else TaskSpec(source=source)).replace(**changes)


def _teller() -> Any:
    """Tells a line on stderr whenever there is news; more often on a terminal."""
    step, last = 5 if sys.stderr.isatty() else 25, ""

    def tell(note: Any) -> None:
        nonlocal last
        share = int(100 * note.done / note.total) // step * step if note.total else -1
        line = "loading the model and the data" if share < 0 else f"measuring, {share} % of the rows"
        if line != last and not note.over:
            last = line
            say(line)

    return tell


def _answer(out: Path, json: bool) -> None:
    from analysis import frames
    from analysis.cli.read import records

    about = frames.probe_about(out)
    points, times = records(frames.probe_points(out)), records(frames.probe_latency(out))
    said = [*frames.probe_sentences(out), *frames.probe_speed(out)]
    document = {**about, "points": points, "latency": times, "sentences": said, "folder": str(out)}

    def people() -> None:
        table(points, SHOWN, "")
        write()
        table(times, TIMES, "")
        write()
        write("\n".join(said))

    emit(document, json, people)
