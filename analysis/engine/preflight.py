"""A look before the start: what would fail in the first second of a run is said before there is one.

Free of torch, so that the server may look too.
"""

from __future__ import annotations

from pathlib import Path

from analysis.engine import columns, hub, sources
from analysis.engine.model_files import reads_text, resolve, wrong_input
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
    folders = names(spec, runs)
    source = spec.task.source
    here = hub.under(hub.DATA, source) is not None or Path(source).expanduser().exists()
    if source.startswith("bundled:") or here or hub.looks_like_path(source):
        files = sources.load(source)
        found = columns.infer(files.train, spec.task)
        for table in files.tables():
            columns.require(table, found)
        pictures = found.kind == columns.IMAGES
        if folders and reads_text(folders[0]) is pictures:
            raise wrong_input(source, pictures=pictures)


def names(spec: RunSpec, runs: Path) -> list[Path]:
    """Looks whether model and teacher are on this machine, without reading weights or data.

    Args:
        spec: what is about to be launched.
        runs: folder of runs that "run:ID" refers to.

    Returns:
        the folders of model and teacher; none for a hub id that may be downloaded.

    Raises:
        ModelError: one is missing or is no model that can be loaded.
    """
    wanted = [name for name in (spec.model, spec.teacher) if name]
    return [resolve(name, runs) for name in wanted if not hub.online() or hub.looks_like_path(name)]
