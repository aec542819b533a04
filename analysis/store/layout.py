"""Where things lie, names that are safe in a path, and files that are replaced whole."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from analysis.errors import RunError

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "analysis" / "recorded"
RUNS_VARIABLE = "PRUNING_LAB_RUNS"

_ID = re.compile(r"[a-z0-9-]{1,64}")
_LARGEST_JSON = 8 * 2**20


def default_runs_dir() -> Path:
    """The runs folder in use: ``$PRUNING_LAB_RUNS`` where set, else ``runs/`` beside the application."""
    named = os.environ.get(RUNS_VARIABLE, "").strip()
    return Path(named).expanduser().resolve() if named else ROOT / "runs"


def is_id(text: object) -> bool:
    """Whether a text may serve as a run id, which is also the name of a folder."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def run_path(runs: Path, run_id: str) -> Path:
    """The folder a run with this id has, or would have, inside a runs folder.

    Raises:
        RunError: the id holds anything but lower-case letters, digits and hyphens, so that it cannot leave
            the folder.
    """
    if not is_id(run_id):
        raise RunError(
            f"{shown(run_id)} is no run id: an id has 1 to 64 lower-case letters, digits and hyphens; "
            "`python -m analysis list` shows the ids that exist."
        )
    return Path(runs) / run_id


def shown(text: object, limit: int = 60) -> str:
    """A value as it may stand in a sentence: quoted, escaped, and short."""
    whole = repr(text)
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def make_runs_dir(runs: Path) -> Path:
    """Create the runs folder where it is missing.

    Raises:
        RunError: the folder cannot be made or written to.
    """
    runs = Path(runs)
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"The runs folder {str(runs)!r} cannot be made ({error.strerror}): choose a folder you may write "
            f"to with --runs-dir or ${RUNS_VARIABLE}."
        ) from error
    if not os.access(runs, os.W_OK | os.X_OK):
        raise RunError(
            f"The runs folder {str(runs)!r} cannot be written to: change its permissions, or choose another "
            f"with --runs-dir or ${RUNS_VARIABLE}."
        )
    return runs


def finite(value: Any) -> Any:
    """The same JSON value with every NaN and infinity replaced by None, which JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """What `json` cannot write by itself: numpy scalars and arrays, paths."""
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def to_json(value: Any, indent: int | None = None, ascii: bool = False) -> str:
    """JSON text of a value; numbers that are not finite become null; ``ascii`` escapes all other letters."""
    options: dict[str, Any] = {"ensure_ascii": ascii, "allow_nan": False, "default": _plain, "indent": indent}
    try:
        return json.dumps(value, **options)
    except ValueError:
        return json.dumps(finite(value), **options)


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file object whose content takes the place of ``path`` in one move, and only when the block succeeds.

    Args:
        path: file to replace; its folder exists.
        durable: wait until the disk holds the new content, so that a power cut leaves the old file or the new
            one.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a renamed file is only safe once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write a JSON file so that a reader sees the whole old one or the whole new one, never a part."""
    text = to_json(value, indent=1) + "\n"
    with replacing(path, durable) as file:
        file.write(text.encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it holds no JSON, or is larger than 8 MiB, which nothing here writes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_size > _LARGEST_JSON:
            raise ValueError("it is larger than 8 MiB")
        data = os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
