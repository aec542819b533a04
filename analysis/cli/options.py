"""The options of `run`, each with its help, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(help: str, *names: str, **more: Any) -> Any:
    """An option without a shown default: the help text says it."""
    return typer.Option(*names, help=help, show_default=False, **more)


SpecFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SPEC.json]",
        help="A spec to run again, such as the spec.json of a run; the options below change it.",
        show_default=False,
    ),
]
Recipe = Annotated[
    str, _option("How to prune; see `recipes`. Several between commas, or all, start one run each.")
]
Model = Annotated[
    str, _option("bundled:text (the default), bundled:digits, run:ID, a folder or a Hugging Face id.")
]
Task = Annotated[
    str,
    _option("bundled:opinions (the default), bundled:digits, a file, a folder or a Hugging Face dataset."),
]
Keep = Annotated[
    float | None,
    _option("Fraction of prunable weights to keep, in (0, 1]; the recipe's own when not given."),
]
Seed = Annotated[int | None, _option("Seed of everything random; 0 when not given.")]
Steps = Annotated[int | None, _option("Optimizer steps; the task's own when not given.")]
Set = Annotated[
    list[str] | None,
    _option(
        "Change one setting, for instance score.lr=0.05; may be repeated.",
        "--set",
        metavar="PART.FIELD=VALUE",
    ),
]
Teacher = Annotated[
    str, _option("A fine-tuned model (run:ID or a folder) to learn from; none drops the one of a spec file.")
]
Name = Annotated[str, _option("A label for people.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until the run is over; exit status 1 if it fails.")]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of the run, as `list` shows it.", show_default=False)
]
