"""A look before the start: what would fail in the first second of a run is said before there is one.

Free of torch, so that the server may look too.
"""

from __future__ import annotations

from pathlib import Path

from analysis.engine import columns, hub, sources
from analysis.engine.model_files import resolve
from analysis.spec import RunSpec


def check(spec: RunSpec, runs: Path) -> None:
    """Looks whether the model is on this machine and the data has the columns the task needs.

    A dataset of the hub is left to the run: looking would load it, or download it where that is allowed.

    Args:
        spec: what is about to be launched.
        runs: folder of runs that "run:ID" refers to.

    Raises:
        ModelError: the model or the teacher is missing or cannot be used.
        DataError: the data is missing, empty, or lacks a column.
    """
    for name in (spec.model, spec.teacher):
        if name and (not hub.online() or hub.looks_like_path(name)):
            resolve(name, runs)
    source = spec.task.source
    here = hub.under(hub.DATA, source) is not None or Path(source).expanduser().exists()
    if not source.startswith("bundled:") and (here or hub.looks_like_path(source)):
        files = sources.load(source)
        found = columns.infer(files.train, spec.task)
        for table in files.tables():
            columns.require(table, found)
