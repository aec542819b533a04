"""The command line: the same verbs as the pages, calling the same functions."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from analysis.cli import evaluate, inspect, read, runs, tools
from analysis.cli.shared import complain
from analysis.errors import LabError

app = typer.Typer(
    name="analysis",
    help="A laboratory for pruning: launch small runs, watch them, and read what pruning did to the weights.",
    epilog="Start with `demo`, or open the pages with `streamlit run app.py`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
runs.register(app)
read.register(app)
evaluate.register(app)
inspect.register(app)
tools.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: words after ``python -m analysis``; None for those of this process.

    Returns:
        exit status: 0 for success, 2 for bad input with one sentence on stderr, 1 for a failed run.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        words = ["--help"]
    try:
        code = app(args=words, prog_name="python -m analysis", standalone_mode=False)
        sys.stdout.flush()
    except LabError as error:
        complain(str(error))
        return 2
    except TyperException as error:
        complain(error.format_message())
        return 2
    except (KeyboardInterrupt, typer.Abort):
        complain("Interrupted; runs that were started go on.")
        return 130
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return code if isinstance(code, int) else 0
