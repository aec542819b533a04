"""Which files a visitor of the pages may have opened: those below a few folders.

The command line belongs to whoever types it and opens what that person may; a page is open to whoever reaches
the server.
"""

from __future__ import annotations

import os
from pathlib import Path

from analysis.engine import hub
from analysis.errors import LabError
from analysis.store.layout import ROOT
from analysis.ui import nav

CHECKPOINTS = "PRUNING_LAB_CHECKPOINTS"
HUB_HOME = "HF_HOME"


def roots() -> list[Path]:
    """The folders: runs, this repository, the working folder, those that variables name, and the hub's
    cache.
    """
    named = [
        Path(value) for variable in (CHECKPOINTS, hub.MODELS, hub.DATA) if (value := os.environ.get(variable))
    ]
    cache = Path(os.environ.get(HUB_HOME) or "~/.cache/huggingface").expanduser()
    return list(dict.fromkeys(path.resolve() for path in (nav.runs_dir(), ROOT, Path.cwd(), *named, cache)))


def require(path: Path, variable: str, kind: type[LabError]) -> Path:
    """The path itself, links followed, when it lies below an allowed folder.

    Args:
        path: what a visitor named; need not exist.
        variable: the environment variable that would allow its folder.
        kind: what is raised.

    Returns:
        the resolved path.

    Raises:
        LabError: of the given kind; the path lies elsewhere, or cannot be followed.
    """
    try:
        found = path.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # too long, a link to itself, ~ of a user who is not there
        raise kind(f"The path {str(path)[:80]!r} cannot be followed ({error}); check it.") from None
    if not any(found.is_relative_to(root) for root in roots()):
        names = ", ".join(map(str, roots()))
        raise kind(
            f"The path {str(found)!r} is outside the folders this server may read ({names}); "
            f"copy it there or set ${variable} to its folder and start the server again."
        )
    return found


def require_name(name: str, variable: str, kind: type[LabError]) -> None:
    """Lets through a bundled name, a run, a hub id, and a path below an allowed folder.

    Raises:
        LabError: of the given kind; the name is a path that lies elsewhere.
    """
    if name.startswith(("bundled:", "run:")):
        return
    path = hub.under(variable, name) or Path(name)
    try:
        there = path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        there = False
    if there or hub.looks_like_path(name):
        require(path, variable, kind)
