"""One way into a checkpoint, whatever its format: which tensors it lists, and where their bytes are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.engine.inspect.config import read_config
from analysis.engine.inspect.files import SUFFIXES, TORCH, beside, files_of
from analysis.engine.inspect.gguf import read_gguf
from analysis.engine.inspect.header import MAX_TENSORS, Entry, clean, open_regular, read_header
from analysis.engine.inspect.pickles import COPY, read_pickles
from analysis.errors import ModelError


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that passed the gate; no value has been read yet.

    Attributes:
        path: what was asked for.
        format: in words, such as "safetensors, 20 shards" or "PyTorch".
        files: the files that hold weights.
        entries: every tensor, in the order of its bytes.
        metadata: texts that the files carry about themselves, cleaned.
        problems: sentences on what does not agree, though it can be read.
        config: what ``config.json`` beside the files says; empty where there is none or it is not believed.
        run: the run folder this is the model of, None for the files of other people.
    """

    path: Path
    format: str
    files: tuple[Path, ...]
    entries: tuple[Entry, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    run: Path | None = None


def open_checkpoint(path: Path, work: Path) -> Checkpoint:
    """Reads the headers of a checkpoint and checks them.

    Args:
        path: a file or folder as ``files_of`` takes it.
        work: folder for what has to be written to read it (a converted copy), there already.

    Returns:
        its tensors and where they are.

    Raises:
        ModelError: one sentence saying what is wrong with it.
    """
    files, index = files_of(path)
    entries, metadata, problems, kind = _read(files, work)
    if len(entries) > MAX_TENSORS:
        raise ModelError(
            f"{clean(path.name)!r} lists {len(entries)} tensors; at most {MAX_TENSORS} are read."
        )
    problems = [*problems, *disagreements(entries, index)]
    if index and (more := beside(files)):
        problems.append(
            f"{len(more)} files are not in the index and are not read, first {clean(more[0], 80)!r}."
        )
    config, doubts = read_config(files[0].parent)
    run = path if path.is_dir() and (path / "spec.json").is_file() else None
    shards = f", {len(files)} shards" if len(files) > 1 else ""
    return Checkpoint(
        path, kind + shards, tuple(files), tuple(entries), metadata, (*problems, *doubts), config, run
    )


def _read(files: list[Path], work: Path) -> tuple[list[Entry], dict[str, str], list[str], str]:
    """Reads all headers of one format: the one of the name's ending, else of the first bytes."""
    ending = files[0].suffix.lower()
    if ending not in SUFFIXES:  # the hub's cache keeps files under names without one
        with open_regular(files[0]) as opened:
            first = opened.read(4)
        ending = ".gguf" if first == b"GGUF" else ".pt" if first[:2] in (b"PK", b"\x80\x02") else ""
    if ending == ".gguf":
        return read_gguf(files[0])
    if ending in TORCH:
        entries, problems, kind = read_pickles(files, work)
        return entries, {}, problems, kind
    entries, metadata = [], dict[str, str]()
    for file in files:
        found, words = read_header(file)
        entries += found
        metadata |= words
    return entries, metadata, [], "safetensors"


def disagreements(entries: list[Entry], index: dict[str, str]) -> list[str]:
    """Compares the shards with their index and says what does not agree."""
    names: dict[str, str] = {}
    twice = []
    for entry in entries:
        if entry.name in names:
            twice.append(entry.name)
        names[entry.name] = entry.file.name.removesuffix(COPY)
    if twice:
        raise ModelError(
            f"{len(twice)} tensors stand in two files (first {clean(twice[0], 80)!r}), so it is unclear "
            "which one holds; download the checkpoint again."
        )
    if not index:
        return []
    out = []
    absent = [n for n in index if n not in names]
    if absent:
        out.append(
            f"{len(absent)} tensors of the index are in none of its files, first {clean(absent[0], 80)!r}."
        )
    extra = [n for n in names if n not in index]
    if extra:
        out.append(f"{len(extra)} tensors are not in the index, the first is {clean(extra[0], 80)!r}.")
    moved = [n for n, file in index.items() if names.get(n, file) != file]
    if moved:
        out.append(
            f"{len(moved)} tensors are in another file than the index says, first {clean(moved[0], 80)!r}."
        )
    return out
