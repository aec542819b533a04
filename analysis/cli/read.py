"""Verbs that read: results, recipes, overlap. None of them imports torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from analysis.cli.shared import Json, RunsDir, emit, folder, table, write
from analysis.errors import RunError

SHOWN = (
    "run",
    "recipe",
    "task",
    "split",
    "metric",
    "value",
    "keep_target",
    "keep_prunable",
    "seed",
    "teacher",
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("results")(results)
    app.command("recipes")(recipes)
    app.command("overlap")(overlap)


def results(
    own: Annotated[
        bool, typer.Option("--own", help="Leave out the runs that ship with the project.")
    ] = False,
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """Every evaluated point of every run, with the fraction kept under each denominator."""
    from analysis import frames

    rows = records(frames.results(folder(runs_dir), recorded=not own))
    emit(rows, json, lambda: table(rows, SHOWN, "Nothing has been evaluated yet."))


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame as plain values; what is missing is None."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


def recipes(json: Json = False) -> None:
    """The catalogue: which recipes there are, and the parts each is made of."""
    from analysis.recipes import RECIPES, VARIANT
    from analysis.spec.codec import part_to_dict
    from analysis.spec.core import LineUp

    slots = LineUp.__dataclass_fields__
    rows: list[dict[str, Any]] = [
        {
            "name": recipe.name,
            "title": recipe.title,
            "paper": recipe.paper,
            "summary": recipe.summary,
            "keep": recipe.keep,
            "variants": list(recipe.variants),
            "parts": {
                slot: None
                if getattr(recipe.lineup, slot) is None
                else part_to_dict(getattr(recipe.lineup, slot))
                for slot in slots
            },
            "stages": [asdict(stage) for stage in recipe.stages],
        }
        for recipe in RECIPES.values()
    ]

    def people() -> None:
        for row in rows:
            write(f"{row['name']:16s} {row['paper']}")
            write(f"{'':16s} {row['summary']}")
            parts = (f"{slot}={part['type']}" for slot, part in row["parts"].items() if part)
            write(f"{'':16s} {', '.join(parts)}, keep={row['keep']:g}")
            if row["stages"]:
                write(f"{'':16s} stages: {', '.join(stage['name'] for stage in row['stages'])}")
            if row["variants"]:
                write(f"{'':14s} {VARIANT}={', '.join(row['variants'])}")

    emit(rows, json, people)


def overlap(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Id of the first run.", show_default=False)],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Id of the second run.", show_default=False)],
    runs_dir: RunsDir = None,
    json: Json = False,
) -> None:
    """How far two runs keep the same weights: Jaccard per site, beside what chance would give."""
    from analysis import frames
    from analysis.store.arrays import numbers
    from analysis.store.runs import find_run

    where = folder(runs_dir)
    first, second = find_run(where, run_a), find_run(where, run_b)
    for run in (first, second):
        if not numbers(run.path / "masks"):
            raise RunError(f"Run {run.id!r} is {run.state} and has no masks yet: choose a run that is done.")
    rows = records(frames.overlap(first.path, second.path))
    sites = [row for row in rows if row["site"] != "overall"]
    if not sites:
        raise RunError(
            f"Runs {run_a!r} and {run_b!r} prune different models and have no site in common: choose two "
            f"runs of one model."
        )
    overall = next(row for row in rows if row["site"] == "overall")
    document = {"run_a": run_a, "run_b": run_b, "sites": sites, "overall": overall}
    shown = ("site", "role", "weights", "kept_a", "kept_b", "both", "jaccard", "expected")
    emit(document, json, lambda: table(rows, shown, ""))
