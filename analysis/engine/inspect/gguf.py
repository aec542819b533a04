"""GGUF files: names, shapes and types of the tensors, and where their bytes are; codes are never decoded.

A file is its magic word, version, counts, metadata (key, type, value), tensors (name, dimensions from the
fastest on, type, offset), and then, from the next multiple of the alignment, the data.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from analysis.engine.inspect.header import MAX_DIMENSIONS, MAX_TENSORS, Entry, clean, open_regular
from analysis.errors import ModelError

MAX_HEADER = 128 * 2**20
MAX_KEYS = 100_000
MAX_TEXTS = 4_000_000  # in arrays: a vocabulary and its merges have up to a million
MAX_NAME = 2**16
MAX_KEPT = 32 * 2**20  # bytes of all names, keys and texts
MAX_TEXT = 2**12  # bytes of a text; chat templates are longer, and not shown in full
# Number of the type: its name, elements and bytes of a block. The plain ones have the names of safetensors.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 28: ("F64", 1, 8), 30: ("BF16", 1, 2),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


class _Reader:
    """Takes numbers and texts from the head of a file, and refuses to go beyond it."""

    def __init__(self, file: BinaryIO, shown: str) -> None:
        self.file, self.shown = file, shown
        self.size = os.fstat(file.fileno()).st_size
        self.at = self.kept = self.texts = 0

    def skip(self, count: int) -> None:
        """Passes over bytes, which have to be there."""
        self._claim(count)
        self.file.seek(self.at)

    def _claim(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise ModelError(f"{self.shown!r} is cut short inside its header; download it again.")
        if self.at > MAX_HEADER:
            raise ModelError(f"{self.shown!r} has a header of over {MAX_HEADER} bytes, which is not read.")

    def take(self, count: int) -> bytes:
        self._claim(count)
        data = self.file.read(count)
        if len(data) != count:
            raise ModelError(f"{self.shown!r} became shorter while it was read; inspect it again.")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def name(self) -> str:
        length = self.number("Q")
        if length > MAX_NAME:
            raise ModelError(f"{self.shown!r} has a name of {length} bytes; at most {MAX_NAME} are read.")
        return self.text(length, length)

    def text(self, length: int, most: int) -> str:
        """Reads the beginning of a text and passes over the rest."""
        most = min(length, most)
        self.kept += most
        if self.kept > MAX_KEPT:
            raise ModelError(
                f"{self.shown!r} has over {MAX_KEPT} bytes of names and texts in its header; it is not read."
            )
        found = self.take(most).decode("utf-8", "replace")
        self.skip(length - most)
        return found

    def value(self, kind: int, depth: int = 0) -> Any:
        """Reads a value of the metadata; of a long text only the beginning, of an array the length."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _TEXT:
            return self.text(self.number("Q"), 0 if depth else MAX_TEXT)
        if kind != _ARRAY or depth > 2:
            raise ModelError(f"{self.shown!r} has metadata of the unknown type {kind}; the file is damaged.")
        inner, count = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            self.skip(count * struct.calcsize(f"<{_SCALARS[inner]}"))
            return f"{count} values"
        self.texts += count
        if self.texts > MAX_TEXTS:
            raise ModelError(f"{self.shown!r} has over {MAX_TEXTS} texts in its metadata; it is not read.")
        for _ in range(count):
            self.value(inner, depth + 1)
        return f"{count} values"


def read_gguf(path: Path) -> tuple[list[Entry], dict[str, str], list[str], str]:
    """Reads and checks the header of a GGUF file of version 2 or 3.

    Args:
        path: the file.

    Returns:
        the tensors in the order of their bytes; the metadata as texts, of arrays only the length; sentences
        on what is to be known; the kind of file in words.

    Raises:
        ModelError: one sentence saying what is wrong with the file.
    """
    shown = clean(path.name)
    with open_regular(path) as file:
        reader = _Reader(file, shown)
        if reader.size < 24 or reader.take(4) != b"GGUF":
            raise ModelError(f"{shown!r} is no GGUF file; give it the ending of what it is.")
        version, tensors, keys = reader.number("I"), reader.number("Q"), reader.number("Q")
        if version not in (2, 3):
            raise ModelError(
                f"{shown!r} has the GGUF version {version}; versions 2 and 3 in little-endian order are "
                "read: convert it with a current llama.cpp."
            )
        if tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise ModelError(
                f"{shown!r} lists {tensors} tensors and {keys} keys; at most {MAX_TENSORS} and {MAX_KEYS} "
                "are read."
            )
        metadata = _metadata(reader, keys)
        align = metadata.get("general.alignment", 32)
        if not isinstance(align, int) or not 8 <= align <= 2**20 or align % 8:
            raise ModelError(f"{shown!r} has the alignment {clean(align, 40)}; it has to be a multiple of 8.")
        rows = [_tensor(reader) for _ in range(tensors)]
        base = -(-reader.at // align) * align
    entries, problems = _entries(path, rows, base, align, reader.size)
    if isinstance(parts := metadata.get("split.count"), int) and parts > 1:
        problems.append(f"This is one of {parts} parts of a model; the other parts are not counted.")
    told = {clean(k): clean(v, 500) for k, v in list(metadata.items())[:100]}
    return entries, told, problems, f"GGUF version {version}"


def _metadata(reader: _Reader, count: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for _ in range(count):
        key = reader.name()
        if key in out:
            raise ModelError(
                f"{reader.shown!r} has the key {clean(key, 80)!r} twice, so it is ambiguous; it is not read."
            )
        out[key] = reader.value(reader.number("I"))
    return out


def _tensor(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """Reads name, shape with rows first, number of the type, and offset of one tensor."""
    name, dimensions = reader.name(), reader.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise ModelError(
            f"Tensor {clean(name, 80)!r} of {reader.shown!r} has {dimensions} dimensions; at most "
            f"{MAX_DIMENSIONS} are read."
        )
    shape = tuple(reader.number("Q") for _ in range(dimensions))[::-1]
    return name, shape, reader.number("I"), reader.number("Q")


def _entries(
    path: Path, rows: list[tuple[str, tuple[int, ...], int, int]], base: int, align: int, size: int
) -> tuple[list[Entry], list[str]]:
    """Places the tensors in the file; of an unknown type everything up to the next one is its bytes."""
    shown = clean(path.name)
    if len({name for name, *_ in rows}) != len(rows):
        raise ModelError(f"{shown!r} gives two tensors the same name, so it is ambiguous; it is not read.")
    out, unknown = [], []
    at = base
    rows = sorted(rows, key=lambda row: row[3])
    for i, (name, shape, kind, offset) in enumerate(rows):
        where, start = f"tensor {clean(name, 80)!r} of {shown!r}", base + offset
        after = base + rows[i + 1][3] if i + 1 < len(rows) else size
        dtype, block, each = TYPES.get(kind, (f"type {kind}", 0, 0))
        if block and (shape[-1] if shape else 1) % block:
            raise ModelError(
                f"The {where} has rows of {shape[-1:]} elements, no multiple of {block} ({dtype})."
            )
        spans = math.prod(shape) // block * each if block else max(0, after - start)
        if offset % align or start < at:
            raise ModelError(f"The {where} begins inside another or off the alignment; the file is damaged.")
        if start + spans > size:
            raise ModelError(
                f"The file is cut short: {where} ends at byte {start + spans} and it has {size}; download it "
                "again."
            )
        if not block:
            unknown.append(name)
        out.append(Entry(name, dtype, shape, path, start, spans))
        at = start + spans
    if not unknown:
        return out, []
    some = f"{len(unknown)} tensors have a type that is not known here (first {clean(unknown[0], 80)!r})"
    return out, [f"{some}; their bytes are counted up to the next tensor."]
