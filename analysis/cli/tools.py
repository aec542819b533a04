"""Verbs around the laboratory: demo, bench, doctor, record, bundle build, and two hidden ones."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.cli.shared import Json, RunsDir, cell, emit, folder, say, table, write


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("demo")(demo)
    app.command("bench")(bench)
    app.command("doctor")(doctor)
    app.command("record")(record)
    bundle = typer.Typer(help="The model and the task that come with the project.", rich_markup_mode=None)
    bundle.command("build")(build)
    bundle.callback()(lambda: None)
    app.add_typer(bundle, name="bundle")
    app.command("runner", hidden=True)(runner)
    app.command("worker", hidden=True)(worker)


def demo(runs_dir: RunsDir = None, json: Json = False) -> int:
    """Run the bundled comparison: magnitude against movement at four keeps, beside the dense model."""
    from analysis.bundle.demo import demo as compare

    document = compare(folder(runs_dir), tell=say)

    def people() -> None:
        table(document["points"], ("recipe", "keep", "seed", "value"), "No run was done.")
        dense = ", ".join(
            f"{point['value']:.3f}" for point in document["dense"] if point["value"] is not None
        )
        write(
            f"dense {dense or '–'}; bag of words {cell(document['bag_of_words'])}; majority class "
            f"{cell(document['floor'])}; first pair after {cell(document['seconds_first_pair'])} s, all "
            f"pairs after {cell(document['seconds'])} s, the dense model after "
            f"{cell(document['seconds_with_dense'])} s"
        )

    emit(document, json, people)
    return 1 if document["failed"] else 0


def bench(
    recipe: Annotated[str, typer.Option(help="The recipe whose masked step is timed.")] = "movement",
    recipes: Annotated[
        bool,
        typer.Option("--recipes", help="Instead, time and memory of every recipe's step beside a dense one."),
    ] = False,
    json: Json = False,
) -> None:
    """Time this machine: a dense step, ours, and one that sorts in every forward, in one run."""
    if recipes:
        from analysis.engine.bench_recipes import bench_recipes

        rows = bench_recipes(tell=say)
        emit(rows, json, lambda: table(rows, ("recipe", "ratio_step", "ratio_memory", "stage"), ""))
        return
    from analysis.engine.bench import bench as measure

    document = measure(recipe=recipe)
    emit(document, json, lambda: _flat(document))


def _flat(document: dict[str, Any], indent: str = "") -> None:
    """A nested document as lines of name and value."""
    for name, value in document.items():
        if isinstance(value, dict):
            write(f"{indent}{name}")
            _flat(value, indent + "  ")
        else:
            write(f"{indent}{name:32s} {cell(value)}")


def doctor(runs_dir: RunsDir = None, json: Json = False) -> None:
    """What is installed, what is missing, and what that greys out."""
    from analysis.cli.doctor import examine

    document = examine(folder(runs_dir))

    def people() -> None:
        _flat({key: value for key, value in document.items() if key != "missing"})
        write("missing" if document["missing"] else "nothing is missing")
        for thing in document["missing"]:
            write(f"  {thing['what']}\n    greys out: {thing['greys_out']}\n    remedy: {thing['how']}")

    emit(document, json, people)


def record(
    ids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids of runs that are done.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; the project's own when not given.", show_default=False),
    ] = None,
    detail: Annotated[
        str, typer.Option(help="full: masks, points and bins; plain: no masks; curve: numbers only.")
    ] = "full",
    points: Annotated[int, typer.Option(help="Sampled weights to keep per run.", min=1)] = 4000,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """Copy runs compactly into the project: masks, planes, points and numbers, no weights, no text."""
    from analysis.engine.record import record as copy

    where = folder(runs_dir)
    made = copy(where, ids, None if out is None else out.expanduser().resolve(), detail=detail, points=points)
    emit(
        {"runs": ids, "folders": [str(path) for path in made]}, json, lambda: write("\n".join(map(str, made)))
    )


def build(
    what: Annotated[str, typer.Argument(metavar="[text|digits|all]", help="Which model to make.")] = "all",
    seed: Annotated[int, typer.Option(help="0 makes the models that are shipped.", min=0)] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to; the package's own, which is overwritten, when not given.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            help="Pre-training steps; as many as the shipped models had when not given.", show_default=False
        ),
    ] = 0,
    json: Json = False,
) -> None:
    """Make the bundled models again from their scripts; takes minutes."""
    from analysis.bundle.build import build as make

    began = time.monotonic()

    def progress(done: int, of: int, loss: float) -> None:
        if done % max(1, of // 20) == 0 or done == of:
            say(f"step {done} of {of}, loss {loss:.3f}, {time.monotonic() - began:.0f} s")

    target = None if out is None else out.expanduser().resolve()
    made = make(what, seed=seed, out=target, steps=steps, progress=progress)  # type: ignore[arg-type]
    document: dict[str, Any] = {"folders": [str(path) for path in made], "seconds": time.monotonic() - began}
    emit(document, json, lambda: write("\n".join(document["folders"])))


def runner(runs_dir: RunsDir = None) -> None:
    """Work off the waiting line of a runs folder; started by whoever launches a run."""
    from analysis.engine.runner import serve

    _log_to_stderr()
    serve(folder(runs_dir))


def worker(path: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", show_default=False)]) -> int:
    """Do one waiting run in this process; started by the runner when settings require a fresh one."""
    from analysis.engine.worker import run

    _log_to_stderr()
    return run(path)


def _log_to_stderr() -> None:
    """Show the log of a long-lived process, one line per event, with the process that wrote it."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(name)s: %(message)s")
