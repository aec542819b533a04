"""A look before the start: what would fail in the first second of a run is said before there is one.

Free of torch, so that the server may look too.
"""

from __future__ import annotations

from pathlib import Path

from analysis.engine import columns, hub, sources
from analysis.engine.blocks import block_of
from analysis.engine.inspect.files import files_of
from analysis.engine.inspect.header import read_header
from analysis.engine.model_files import reads_text, require_credible, resolve, wrong_input
from analysis.engine.roles import NEVER, role_of
from analysis.errors import ModelError
from analysis.parts.base import Part
from analysis.parts.grids import ATTENTION, FFN
from analysis.parts.units import Block, Shape, Structure
from analysis.spec import RunSpec, legs


def check(spec: RunSpec, runs: Path) -> None:
    """Looks whether the model is on this machine, the units fit it, and the data has the columns of the task.

    A dataset of the hub is left to the run: looking would load it, or download it where that is allowed.

    Args:
        spec: what is about to be launched.
        runs: folder of runs that "run:ID" refers to.

    Raises:
        ModelError: the model or the teacher is missing or cannot be used.
        DataError: the data is missing, empty, or lacks a column.
        SpecError: blocks do not divide the model's weights.
    """
    folders = names(spec, runs)
    units(spec, runs)
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
    here = [name for name in wanted if not hub.online() or hub.looks_like_path(name)]
    folders = [resolve(name, runs) for name in here]
    for folder, name in zip(folders, here, strict=True):
        require_credible(folder, name)
    return folders


def units(spec: RunSpec, runs: Path) -> None:
    """Looks whether the blocks of every stage divide the weights they are to cut, by the model's headers.

    What headers cannot tell is left to the run.

    Args:
        spec: what is about to be launched.
        runs: folder of runs that "run:ID" refers to.

    Raises:
        SpecError: which blocks do not divide which weight.
        ModelError: the model is missing or is no model that can be loaded.
    """
    wanted = {leg.spec.parts.units for leg in legs(spec)}
    cut = [(u, roles) for u in wanted if (roles := _in_blocks(u))]
    if not cut or (hub.online() and not hub.looks_like_path(spec.model)):
        return
    known = shapes(resolve(spec.model, runs))
    for part, roles in cut:
        if chosen := [shape for shape in known if shape.role in roles]:
            part.groups(chosen)


def _in_blocks(part: Part) -> tuple[str, ...]:
    """The roles that units cut into blocks; what has no known role may be no site, and is left out."""
    if isinstance(part, Block):
        return (*ATTENTION, *FFN, "conv")
    if not isinstance(part, Structure):
        return ()
    return (*(ATTENTION if part.attention == "blocks" else ()), *(FFN if part.ffn == "blocks" else ()))


def shapes(folder: Path) -> list[Shape]:
    """The prunable weights of a model folder as far as its headers tell: no heads, no biases, no links.

    Args:
        folder: a folder that ``resolve`` returned.

    Returns:
        shapes in the order of the layers' names; none where a header cannot be read.
    """
    try:
        entries = [e for file in files_of(folder)[0] for e in read_header(file)[0]]
    except ModelError:
        return []  # loading says what is wrong with the file
    found, blocks = [], dict[str, int]()
    for entry in sorted(entries, key=lambda e: e.name):
        path, _, last = entry.name.rpartition(".")
        conv = len(entry.shape) == 4
        block = block_of(path, conv)
        if last != "weight" or not (conv or len(entry.shape) == 2) or block is None:
            continue
        if NEVER.search(path) or ".experts." in path:  # experts are joined into one tensor when loaded
            continue
        rows, cols = entry.shape[0], entry.numel // max(1, entry.shape[0])
        layer = blocks.setdefault(block, len(blocks))
        found.append(Shape(path, "conv" if conv else role_of(path), layer, rows, cols))
    return found
