"""What every verb shares: its options, one JSON document on stdout, and everything else on stderr."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.store import layout
from analysis.store.runs import RunInfo

RunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir",
        help="Folder of the runs; $PRUNING_LAB_RUNS, or runs/ beside the application, when not given.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]


def folder(given: Path | None) -> Path:
    """The runs folder a verb works in."""
    return layout.default_runs_dir() if given is None else given.expanduser().resolve()


def emit(document: Any, json: bool, people: Callable[[], None]) -> None:
    """Answer on stdout, as JSON or as text.

    Args:
        document: the answer; numbers that are not finite become null.
        json: whether a program reads it.
        people: writes the answer for people.
    """
    if json:
        write(layout.to_json(document, ascii=True))
    else:
        people()


def write(line: str = "") -> None:
    """One line on stdout; a character the terminal cannot show does not end the program."""
    sys.stdout.write(_sayable(line, sys.stdout.encoding) + "\n")


def say(line: str) -> None:
    """One line on stderr, where progress and remarks go."""
    sys.stderr.write(_sayable(line, sys.stderr.encoding) + "\n")
    sys.stderr.flush()


def complain(sentence: str) -> None:
    """One sentence about what went wrong, on one line of stderr."""
    say(" ".join(sentence.split()))


def _sayable(text: str, encoding: str | None) -> str:
    """The text with what the terminal's encoding lacks written as escapes."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], empty: str) -> None:
    """A plain table on stdout.

    Args:
        rows: one dict per line.
        columns: which keys, in order.
        empty: sentence to print when there are no rows.
    """
    if not rows:
        write(empty)
        return
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(value: Any) -> str:
    """A value as one cell: short, on one line, a dash for what is unknown."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= 48 else text[:47] + "…"


def outcome(info: RunInfo) -> dict[str, Any]:
    """How a run stands, in a few fields."""
    return {"run": info.id, "state": info.state, "reason": info.reason, "seconds": info.seconds}
