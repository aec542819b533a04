"""Lists the tensors of PyTorch files, in a process that is thrown away: ``… OUT FILE [FILE …]``.

``torch.load(weights_only=True)`` is the only call that ever sees such a file; what it refuses is not loaded.
A zip is loaded onto the meta device, so that no tensor is read or allocated: each storage only knows where
in the file it lies. Files of before PyTorch 1.6 do not tell that; they are loaded, and their storages are
written one after the other to OUT/storages/FILE.storages.

OUT/listing.json holds ``files``, one object each, which the parent process believes only after checking:
    tensors: name, dtype, itemsize, shape, stride, start (place of its storage in bytes) and offset (of its
        first element, in elements); sparse ones have bytes instead of the last three
    storages: place and size of each in the copy, null for a zip
    other: how much is no tensor; first: the name of the first of it
    beside: names next to the state dictionary that is listed
or, instead, error ("code", "memory" or "format") and detail.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch  # isort: skip

MEMORY = 2 * 2**30
SECONDS = 600
MAX_TENSORS, MAX_ITEMS, MAX_LETTERS, MAX_DEPTH = 200_000, 1_000_000, 16 * 2**20, 64
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network")
_SPARSE = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


class Refused(Exception):
    """Why a file is not listed."""


def limit(legacy: int) -> None:
    """Caps what this process may use, once and for all.

    Args:
        legacy: bytes of the files that have to be loaded and written again.
    """
    caps = {
        resource.RLIMIT_DATA: MEMORY + legacy,
        resource.RLIMIT_CPU: SECONDS,
        resource.RLIMIT_FSIZE: MEMORY + legacy,
        resource.RLIMIT_CORE: 0,
    }
    for what, cap in caps.items():
        _, hard = resource.getrlimit(what)
        cap = cap if hard == resource.RLIM_INFINITY else min(cap, hard)
        resource.setrlimit(what, (cap, cap))


def chosen(top: Any) -> tuple[Any, list[str]]:
    """Finds the state dictionary among what a training script saved with it.

    Returns:
        what to list, and the names beside it.
    """
    beside: list[str] = []
    for _ in range(4):
        key = next((k for k in WRAPPERS if isinstance(top, dict) and _holds(top.get(k))), None)
        if key is None:
            break
        beside += [word(k) for k in top if k != key]
        top = top[key]
    return top, beside


def _holds(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(v, torch.Tensor | dict) for v in value.values())


def word(key: Any) -> str:
    """A key as text; of what can be nested without end only the kind."""
    return str(key) if isinstance(key, str | int | float | bool | None) else f"<{type(key).__name__}>"


def flatten(top: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Walks through dictionaries and lists, each once, so that cycles and shared lists end.

    Returns:
        the tensors by dotted name, and the names of what is none.

    Raises:
        Refused: it is nested too deep, holds too much, or two tensors get the same name.
    """
    found: dict[str, torch.Tensor] = {}
    other: list[str] = []
    seen: set[int] = set()
    letters = 0
    waiting: list[tuple[str, Any, int]] = [("", top, 0)]
    while waiting:
        name, item, depth = waiting.pop()
        if isinstance(item, torch.Tensor):
            if name in found:
                raise Refused(f"two tensors have the name {name[:80]!r}")
            found[name or "tensor"] = item
        elif not isinstance(item, dict | list | tuple):
            other.append(name)
        elif id(item) not in seen:
            seen.add(id(item))
            pairs = item.items() if isinstance(item, dict) else enumerate(item)
            if depth == MAX_DEPTH:
                raise Refused(f"it is nested more than {MAX_DEPTH} deep")
            if len(waiting) + len(seen) + len(other) + len(item) > MAX_ITEMS:
                raise Refused(f"it holds more than {MAX_ITEMS} things")
            inner = [(f"{name}.{word(k)}" if name else word(k), v, depth + 1) for k, v in pairs]
            letters += sum(len(n) for n, _, _ in inner)
            waiting += reversed(inner)
        if len(found) > MAX_TENSORS or letters > MAX_LETTERS:
            raise Refused(f"it holds more than {MAX_TENSORS} tensors, or names of {MAX_LETTERS} letters")
    return found, other


class Copies:
    """Storages of a legacy file, written one after the other, each once."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.places: dict[tuple[int, int], int] = {}

    def place(self, storage: torch.UntypedStorage) -> int:
        """Writes a storage unless it was written before; returns the place of its first byte."""
        key = (storage.data_ptr(), storage.nbytes())
        if key not in self.places:
            self.places[key] = self.file.tell()
            if storage.nbytes():
                data: Any = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
                self.file.write(data)
        return self.places[key]


def described(name: str, tensor: torch.Tensor, place: Callable[[Any], int]) -> dict[str, Any]:
    """What the parent needs to know of a tensor."""
    out = {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    if parts := _SPARSE.get(tensor.layout):
        held = [getattr(tensor, part)() for part in parts]
        return out | {"bytes": sum(t.numel() * t.element_size() for t in held)}
    where = {"start": place(tensor.untyped_storage()), "offset": tensor.storage_offset()}
    return out | {"itemsize": tensor.element_size(), "stride": list(tensor.stride()), **where}


def listing(path: Path, copy: Path) -> dict[str, Any]:
    """Lists one file; ``copy`` is where the storages of a legacy file go."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
    top = torch.load(path, map_location="meta" if zipped else "cpu", weights_only=True)
    inner, beside = chosen(top)
    found, other = flatten(inner)
    out: dict[str, Any] = {"other": len(other), "first": "".join(other[:1])[:200], "storages": None}
    out["beside"] = [name[:200] for name in beside[:100]]
    if zipped:
        out["tensors"] = [
            described(n, t, lambda storage: storage._checkpoint_offset) for n, t in found.items()
        ]
        return out
    copy.parent.mkdir(exist_ok=True)
    with open(copy, "wb") as target:
        copies = Copies(target)
        out["tensors"] = [described(n, t, copies.place) for n, t in found.items()]
        out["storages"] = [[place, size] for (_, size), place in copies.places.items()]
    return out


def reason(error: Exception) -> dict[str, str]:
    """Says why a file was refused: the name of the code in it, no memory, or the first words of torch."""
    text = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return {"error": "memory", "detail": ""}
    code = re.search(r"GLOBAL (\S+)|unrecognized function (.{1,80})", text)
    if code:
        return {"error": "code", "detail": code[1] or code[2]}
    noise = ("weights_only", "Weights only", "https://", "torch.serialization")
    lines = (line for line in text.splitlines() if line.strip() and not any(n in line for n in noise))
    return {"error": "format", "detail": next(lines, type(error).__name__)}


def main(arguments: list[str]) -> int:
    """Runs from the command line with OUT and the files."""
    out, files = Path(arguments[0]), [Path(name) for name in arguments[1:]]
    sizes = []
    for path in files:
        with open(path, "rb") as file:
            sizes.append(0 if file.read(2) == b"PK" else path.stat().st_size)
    limit(sum(sizes))
    torch.set_num_threads(1)
    result: Any
    try:
        result = [listing(path, out / "storages" / f"{path.name}.storages") for path in files]
        text = json.dumps({"files": result})
    except Exception as error:  # whatever torch makes of a stranger's file ends here
        text = json.dumps(reason(error))
    (out / "listing.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
