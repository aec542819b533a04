"""Which files a checkpoint is made of, told from names alone; nothing is parsed here but an index of shards.

A folder may only bring its own files: what a link in it points to has to lie in the folder too, or in the
cache of the Hugging Face hub, which is made of links.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from analysis.engine import hub
from analysis.engine.inspect.header import MAX_HEADER, clean, json_object, open_regular
from analysis.errors import ModelError

TORCH = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
SUFFIXES = (".safetensors", ".gguf", *TORCH)
WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(f"{name}.index.json" for name in WHOLE)
_NEVER = (".npy", ".joblib")
# What training leaves beside the weights.
_BESIDE = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")


def files_of(path: Path) -> tuple[list[Path], dict[str, str]]:
    """Finds the files that hold the weights of a checkpoint.

    Args:
        path: a file (safetensors, PyTorch, GGUF), a Hugging Face folder (one file, or shards with an index),
            or a run folder. It may itself be a link.

    Returns:
        the files, and for a sharded checkpoint the index: tensor name to file name.

    Raises:
        ModelError: nothing readable is there, or a folder points outside itself.
    """
    shown = clean(path.name)
    if path.name in INDEXES:  # its folder is meant
        path = path.parent
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ModelError(f"{shown!r} does not exist; give a safetensors file or a model folder.") from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{shown!r} cannot be opened ({_reason(error)}); give a file of weights or a model folder."
        ) from None
    if stat.S_ISDIR(mode):
        return _in_folder(_of_run(path))
    if path.suffix.lower() in _NEVER:
        raise ModelError(_never_sentence(path.name))
    if not stat.S_ISREG(mode):
        raise ModelError(f"{shown!r} is not a regular file; give a file of weights or a model folder.")
    return [path], {}


def member(folder: Path, name: str) -> Path | None:
    """Finds one file of a folder, followed if it is a link.

    Args:
        folder: the folder.
        name: the file's name, without any folder.

    Returns:
        its path in the folder, None when there is no such name.

    Raises:
        ModelError: it is no regular file, or a link that leads out of the folder and out of the hub's cache.
    """
    path, shown = folder / name, clean(name)
    if not os.path.lexists(path):
        return None
    try:
        real = path.resolve(strict=True)
        regular = stat.S_ISREG(real.stat().st_mode)
        homes = (folder.resolve(strict=True), hub.cache())
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{shown!r} cannot be followed ({_reason(error)}); copy the folder again.") from None
    if not regular:
        raise ModelError(f"{shown!r} is not a regular file; copy the folder again.")
    if not any(real.is_relative_to(home) for home in homes):
        raise ModelError(
            f"{shown!r} is a link to {clean(real)!r}, outside its folder and the Hugging Face cache; "
            "it is not followed: open the target itself."
        )
    return path


def beside(files: list[Path]) -> list[str]:
    """Lists the files of weights in the folder of a sharded checkpoint that its index does not name."""
    names, suffix = {file.name for file in files}, files[0].suffix.lower()
    return [name for name in _names(files[0].parent, (suffix,)) if name not in names]


def _of_run(path: Path) -> Path:
    """The model of a run folder; any other folder as it is."""
    inner = path / "model"
    if not ((path / "spec.json").is_file() and inner.is_dir()):
        return path
    if not any(inner.resolve().is_relative_to(home) for home in (path.resolve(), hub.cache())):
        raise ModelError(
            f"'model' of the run {clean(path.name)!r} is a link to {clean(inner.resolve())!r}, outside the "
            "run; it is not followed: open the target itself."
        )
    return inner


def _names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    names = (name for name in os.listdir(folder) if name.lower().endswith(suffixes))
    return sorted(name for name in names if not name.startswith(_BESIDE))


def _in_folder(folder: Path) -> tuple[list[Path], dict[str, str]]:
    shown = clean(folder.name)
    try:
        tensors, others = _names(folder, (".safetensors",)), _names(folder, (".gguf", *TORCH))
    except OSError as error:
        raise ModelError(f"The folder {shown!r} cannot be read ({_reason(error)}); check it.") from None
    for whole, index in zip(WHOLE, INDEXES, strict=True):
        if whole == WHOLE[1] and tensors:
            break
        if found := member(folder, whole):  # the order in which transformers looks
            return [found], {}
        if found := member(folder, index):
            return _sharded(folder, found, whole[whole.rindex(".") :])
    names = tensors or others
    if len(names) > 1:
        raise ModelError(
            f"{shown!r} holds {len(names)} files of weights (first {clean(names[0], 60)!r}) and no index of "
            "them; choose one of the files."
        )
    if names and (found := member(folder, names[0])):
        return [found], {}
    if never := _names(folder, _NEVER):
        raise ModelError(_never_sentence(never[0]))
    raise ModelError(
        f"{shown!r} holds no safetensors, PyTorch or GGUF file; give a folder with model.safetensors, or a "
        "file."
    )


def _sharded(folder: Path, index: Path, suffix: str) -> tuple[list[Path], dict[str, str]]:
    with open_regular(index) as file:
        data = file.read(MAX_HEADER + 1)
    if len(data) > MAX_HEADER:
        raise ModelError(
            f"{index.name} is larger than {MAX_HEADER // 2**20} MB, which no real index is; it is not read."
        )
    found = json_object(data, index.name).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(v, str) for v in found.values()):
        raise ModelError(
            f"{index.name} has no weight_map of tensor names to file names; download the index again."
        )
    names = sorted(set(found.values()))
    for name in names:
        bare = name == Path(name).name and name not in ("", ".", "..") and "\\" not in name
        if not bare or not name.isprintable() or not name.endswith(suffix):
            raise ModelError(
                f"{index.name} names the file {clean(name)!r}; only {suffix} files in the same folder are "
                "allowed."
            )
    files = [member(folder, name) for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if file is None]
    if missing:
        some = ", ".join(clean(m, 60) for m in missing[:5])
        raise ModelError(
            f"{len(missing)} of {len(names)} files named in {index.name} are missing ({some}); download them."
        )
    return [file for file in files if file], found


def _never_sentence(name: str) -> str:
    return (
        f"{clean(name)!r} may be a pickle, which can run code when it is opened, so it is never loaded; "
        "convert it to safetensors where you trust it."
    )


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or "a link to itself or an impossible name").lower()
