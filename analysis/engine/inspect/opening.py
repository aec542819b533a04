"""One way into a checkpoint, whatever its format: which tensors it lists, and where their bytes are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.engine.inspect.header import Entry, clean, files_of, read_header
from analysis.errors import ModelError


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that passed the gate; no value has been read yet.

    Attributes:
        path: what was asked for.
        format: in words, such as "safetensors, 20 shards".
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
    entries: list[Entry] = []
    metadata: dict[str, str] = {}
    for file in files:
        found, words = read_header(file)
        entries += found
        metadata |= words
    kind = "safetensors" if len(files) == 1 else f"safetensors, {len(files)} shards"
    problems = disagreements(entries, index)
    run = path if path.is_dir() and (path / "spec.json").is_file() else None
    return Checkpoint(path, kind, tuple(files), tuple(entries), metadata, tuple(problems), {}, run)


def disagreements(entries: list[Entry], index: dict[str, str]) -> list[str]:
    """Compares the shards with their index and says what does not agree."""
    names: dict[str, str] = {}
    twice = []
    for entry in entries:
        if entry.name in names:
            twice.append(entry.name)
        names[entry.name] = entry.file.name
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
