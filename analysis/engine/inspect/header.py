"""The gate before a safetensors file: what its header says, believed only after checking.

Nothing here reads a weight, and nothing is ever unpickled. Every check exists because a file that breaks it
has been seen to hang, exhaust or mislead a reader.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from analysis.errors import ModelError

MAX_HEADER = 16 * 2**20
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 16
MAX_NAME = 200

BITS: dict[str, int] = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64, "BOOL": 8,
    "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor as a header describes it: where its bytes are, its type and its shape.

    Attributes:
        name: as the file spells it, whatever that is; ``clean`` makes it fit to be shown.
        dtype: as safetensors calls it; other names are of formats whose values are not read.
        shape: rows first.
        file: where the bytes are.
        start: the first of them.
        size: their number.
        ordered: False where they are every element once, but not in the order of the shape (a transposed
            matrix): values can be counted then, rows and columns cannot.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int
    ordered: bool = True

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def clean(name: object, limit: int = MAX_NAME) -> str:
    """Makes a stranger's name fit to be shown: no control or direction marks, no half characters, capped."""
    plain = str(name)[: limit + 1].encode("utf-8", "replace").decode("utf-8")
    plain = "".join(c if c.isprintable() else "�" for c in plain)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading; a pipe or device is refused before it can block.

    Raises:
        ModelError: the path is missing, unreadable or no regular file.
    """
    shown = clean(path.name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ModelError(
            f"{shown!r} cannot be opened ({reason}); give a safetensors file or a model folder."
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError(f"{shown!r} is not a regular file; give a safetensors file or a model folder.")
    return os.fdopen(descriptor, "rb")


def read_header(path: Path) -> tuple[list[Entry], dict[str, str]]:
    """Reads and checks the header of one safetensors file.

    Returns:
        the tensors in the order of their bytes, and the metadata texts.

    Raises:
        ModelError: one sentence saying what is wrong with the file.
    """
    shown = clean(path.name)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        if len(first) < 8:
            raise ModelError(
                f"{shown!r} has {size} bytes, too few for a safetensors file; download it again."
            )
        length = int.from_bytes(first, "little")
        if length > size - 8 or length > MAX_HEADER:
            if first[:2] == b"PK" or first[:1] == b"\x80":
                raise ModelError(
                    f"{shown!r} is no safetensors file but a pickle under its name, and nothing of it was "
                    "run; convert it to safetensors where you trust it."
                )
            if length > size - 8:
                raise ModelError(
                    f"{shown!r} is cut short or no safetensors file: its header claims {length} bytes and "
                    f"the whole file has {size}; download it again."
                )
            raise ModelError(f"{shown!r} has a header of {length} bytes; at most {MAX_HEADER} are read.")
        header = json_object(file.read(length), f"The header of {shown!r}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ModelError(
            f"{shown!r} has metadata that is not text, against the safetensors format; it is not read."
        )
    if len(header) > MAX_TENSORS:
        raise ModelError(f"{shown!r} lists {len(header)} tensors; at most {MAX_TENSORS} are read.")
    entries = [_entry(path, name, fields, 8 + length) for name, fields in header.items()]
    entries.sort(key=lambda e: (e.start, e.size))
    _check_cover(entries, 8 + length, size, shown)
    return entries, {clean(k): clean(v, 500) for k, v in list(metadata.items())[:100]}


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Reads a JSON object strictly: no name twice, no NaN.

    Args:
        data: the text.
        what: begins the sentence, such as "The header of 'model.safetensors'".

    Raises:
        ModelError: it is not JSON, no object, or ambiguous.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            raise ModelError(f"{what} names something twice, so its content is ambiguous; it is not read.")
        return out

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ModelError(f"{what} is not JSON; the file is damaged or something else.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{what} is not a JSON object; the file is damaged or something else.")
    return found


def _refuse(word: str) -> None:
    raise ValueError(word)


def _entry(path: Path, name: str, fields: Any, base: int) -> Entry:
    where = f"tensor {clean(name, 80)!r} of {clean(path.name)!r}"
    if not isinstance(fields, dict):
        raise ModelError(f"The entry of {where} is not an object; the file is damaged.")
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ModelError(f"The type of {where} is {clean(dtype, 40)!r}; known are {', '.join(BITS)}.")
    if not counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise ModelError(f"The shape of {where} is not a list of at most {MAX_DIMENSIONS} whole numbers.")
    if not counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelError(
            f"The data offsets of {where} are not two rising whole numbers; the file is damaged."
        )
    size = offsets[1] - offsets[0]
    if math.prod(shape) * BITS[dtype] != 8 * size:
        raise ModelError(
            f"The shape of {where} asks for another number of bytes than its {size}; the file is damaged."
        )
    return Entry(name, dtype, tuple(shape), path, base + offsets[0], size)


def counts(values: Any) -> bool:
    """Whether something is a list of whole numbers that may be sizes or offsets: 0 to 2^63 - 1."""
    whole = isinstance(values, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
    return whole and all(0 <= v < 2**63 for v in values)


def _check_cover(entries: list[Entry], base: int, size: int, shown: str) -> None:
    at = base
    for entry in entries:
        if entry.start != at:
            what = "overlap" if entry.start < at else "leave a hole"
            raise ModelError(f"The tensors of {shown!r} {what} at byte {entry.start}; the file is damaged.")
        at += entry.size
    if at > size:
        raise ModelError(
            f"{shown!r} is cut short: its tensors need {at} bytes and it has {size}; download it again."
        )
    if at < size:
        raise ModelError(f"{shown!r} has {size - at} bytes that belong to no tensor; the file is damaged.")
