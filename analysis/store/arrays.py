"""Arrays on disk: packed masks, sampled points, exact planes, predictions, and the numbers that name them."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.store.layout import replacing

Arrays = dict[str, NDArray[Any]]

_NUMBERED = re.compile(r"(\d{6,9})(\.npz|\.parquet)?")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_POINT_TYPES = {"index": "int32", "w0": "float32", "w": "float32", "score": "float32", "kept": "bool"}


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as a compressed ``.npz``, in one move.

    Equal arrays give equal bytes (members carry no time), so a file's hash is a hash of its content. Any text
    may be a name: ``numpy.savez`` would take one called ``file`` for its own argument.
    """
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)


def load_arrays(path: Path, names: Iterable[str] | None = None) -> Arrays:
    """Read arrays of an ``.npz``; nothing is ever unpickled.

    Args:
        path: file to read.
        names: which arrays, None for all; names the file does not hold are left out.

    Raises:
        OSError: the file is not there.
        ValueError: it is damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            there = set(archive.files)
            wanted = archive.files if names is None else [n for n in names if n in there]
            return {name: archive[name] for name in wanted}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def ragged(arrays: Sequence[NDArray[Any]], kind: str) -> Arrays:
    """Puts one-dimensional arrays into one, because an archive of thousands of members is slow to open.

    Returns:
        "data", all values of the given type in a row, and "ends" int64 [n], where each array ends.
    """
    data = np.concatenate([np.zeros(0, kind), *(np.asarray(a, kind) for a in arrays)])
    return {"data": data, "ends": np.cumsum([a.size for a in arrays], dtype=np.int64)}


def parts(data: NDArray[Any], ends: NDArray[Any]) -> list[NDArray[Any]]:
    """The arrays that ``ragged`` put together."""
    return [data[begin:end] for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def load_ragged(path: Path, *names: str) -> list[tuple[Any, ...]]:
    """Reads an archive of ragged arrays NAME and NAME_ends, one of each for every entry of ``number``.

    Returns:
        tuples of a number and its arrays, in the order of the names.

    Raises:
        OSError: the file is not there.
        ValueError: it is damaged, or lacks one of the arrays.
    """
    found = load_arrays(path, ["number", *(f"{name}{end}" for name in names for end in ("", "_ends"))])
    try:
        each = [parts(found[name], found[f"{name}_ends"]) for name in names]
        return list(zip(found["number"].tolist(), *each, strict=True))
    except KeyError as error:
        raise ValueError(f"{path.name} is damaged: it has no {error}") from error


def save_masks(path: Path, masks: Mapping[str, NDArray[Any]]) -> None:
    """Write one mask per site, eight units to a byte.

    Args:
        path: ``masks/NNNNNN.npz``.
        masks: site name → boolean array of any shape; rows of the flattened array are packed in order.
    """
    save_arrays(path, {site: pack(mask) for site, mask in masks.items()})


def load_masks(path: Path, sites: Iterable[str] | None = None) -> dict[str, NDArray[np.uint8]]:
    """Read packed masks: site name → bytes as ``pack`` made them; see ``unpack``."""
    return load_arrays(path, sites)


def pack(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack a mask: unit ``i`` of the flattened array is bit ``7 − i mod 8`` of byte ``i div 8``."""
    return np.packbits(np.asarray(mask, dtype=bool).reshape(-1))


def unpack(packed: NDArray[np.uint8], *shape: int) -> NDArray[np.bool_]:
    """The boolean mask of the given shape that ``pack`` packed."""
    return np.unpackbits(packed, count=int(np.prod(shape))).astype(bool).reshape(shape)


def save_planes(path: Path, planes: Mapping[str, NDArray[Any]]) -> None:
    """Write the exact two-dimensional bins of one moment (``histograms/NNNNNN.npz``)."""
    save_arrays(path, planes)


def load_planes(path: Path, names: Iterable[str] | None = None) -> Arrays:
    """Read the arrays ``save_planes`` wrote."""
    return load_arrays(path, names)


def save_points(path: Path, points: Mapping[str, Any]) -> None:
    """Write the sampled weights of one moment (``points/NNNNNN.parquet``).

    Args:
        path: file to write.
        points: columns ``site`` (texts), ``index``, ``w0``, ``w``, ``score``, ``kept``, all of one length.
    """
    import pyarrow as pa

    columns = {"site": pa.array([str(s) for s in points["site"]], pa.string()).dictionary_encode()}
    for name, kind in _POINT_TYPES.items():
        columns[name] = pa.array(np.asarray(points[name]).astype(kind))
    _save_table(path, pa.table(columns))


def load_points(path: Path, sites: Iterable[str] | None = None) -> Arrays:
    """Read sampled weights: column name → array; ``site`` holds texts.

    Args:
        path: file to read.
        sites: only points of these sites, None for all.
    """
    columns = load_table(path)
    if sites is None:
        return columns
    chosen = np.isin(columns["site"].astype(str), list(sites))
    return {name: column[chosen] for name, column in columns.items()}


def save_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length as a Parquet file, in one move."""
    import pyarrow as pa

    _save_table(path, pa.table({name: pa.array(column) for name, column in columns.items()}))


def load_table(path: Path) -> Arrays:
    """Read a Parquet file: column name → array.

    Raises:
        OSError: the file is not there.
        ValueError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=False, use_threads=False)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _save_table(path: Path, table: Any) -> None:
    """Write an Arrow table in one move: a Parquet file cut short cannot be read at all."""
    import pyarrow.parquet as pq

    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def save_predictions(path: Path, columns: Mapping[str, Any]) -> None:
    """Write ``predictions.parquet``: row, label, prediction, confidence, keep, split."""
    save_table(path, columns)


def load_predictions(path: Path) -> Arrays:
    """Read the columns ``save_predictions`` wrote."""
    return load_table(path)


def name_of(number: int) -> str:
    """How a step is written in the name of a file: at least six digits, so that names sort as numbers do."""
    return f"{number:06d}"


def numbers(folder: Path) -> list[int]:
    """The steps for which a folder holds a file or a folder, rising; half-written ones are not counted."""
    try:
        names = [entry.name for entry in Path(folder).iterdir()]
    except OSError:
        return []
    return sorted({int(found[1]) for name in names if (found := _NUMBERED.fullmatch(name))})


def latest(folder: Path) -> int | None:
    """The last step for which a folder holds something, None when it holds nothing."""
    found = numbers(folder)
    return found[-1] if found else None
