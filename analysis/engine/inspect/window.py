"""One matrix as a picture: what is left in each tile of a window, down to single weights.

``python -m analysis.engine.inspect.window INSPECTION TENSOR TOP BOTTOM LEFT RIGHT OUT`` writes
OUT/window.npz: tile (weights along a side), top, left, shape [2] of the matrix, kept uint8 [rows, cols]
(% of a tile that is not zero), size float32 [rows, cols] (mean |w| of a tile; of single weights w itself).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from analysis.engine.inspect.again import entries, mask_of
from analysis.engine.inspect.header import Entry, clean, open_regular
from analysis.engine.inspect.kinds import KINDS, codes, edges, narrow, nonzero
from analysis.engine.inspect.reading import as_matrix, read
from analysis.errors import ModelError
from analysis.store import arrays, jobs

RESULT = "window.npz"
MODULE = "analysis.engine.inspect.window"
PIXELS = 192  # along the longer side: 192 × 192 tiles with two numbers each stay below 300 kB
Sides = tuple[int, int, int, int]  # top, bottom, left, right
STRETCH = 1 << 20  # values of a row read at a time


def window(inspection: Path, name: str, box: Sides, out: Path) -> None:
    """Writes the picture of a window.

    Args:
        inspection: folder of a finished inspection.
        name: the tensor's name.
        box: first row and the one after the last, first column and the one after the last; a convolution's
            columns are its input channels times the area of its kernel. Cut to the matrix.
        out: folder of the result.

    Raises:
        ModelError: there is no such matrix, or its file has changed.
    """
    with jobs.Job(out, "values") as job:
        found = entries(inspection)
        if name not in found:
            raise ModelError(f"There is no tensor {clean(name, 80)!r} in this checkpoint; choose another.")
        entry = found[name][0]
        rows, width, matrix = as_matrix(entry)
        if not matrix or entry.dtype not in KINDS:
            raise ModelError(f"{clean(name, 80)!r} is no matrix of values; choose another.")
        mask = mask_of(found, name)
        top, bottom = max(0, min(box[0], rows - 1)), max(1, min(box[1], rows))
        left, right = max(0, min(box[2], width - 1)), max(1, min(box[3], width))
        left -= left % KINDS[entry.dtype].packed
        bottom, right = max(bottom, top + 1), max(right, left + 1)
        tile = -(-max(bottom - top, right - left) // PIXELS)
        kept, size = [], []
        with open_regular(entry.file) as file, open_regular((mask or entry).file) as other:
            for first in range(top, bottom, tile):
                last = min(first + tile, bottom)
                job.tell(first - top, bottom - top)
                k, s = _band(file, entry, other, mask, (first, last, left, right), tile)
                kept.append(k)
                size.append(s)
        arrays.save_arrays(
            out / RESULT,
            {
                "tile": np.array(tile),
                "top": np.array(top),
                "left": np.array(left),
                "shape": np.array([rows, width]),
                "kept": np.stack(kept),
                "size": np.stack(size),
            },
        )


def _band(
    file: BinaryIO,
    entry: Entry,
    other: BinaryIO,
    mask: Entry | None,
    box: tuple[int, int, int, int],
    tile: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One row of tiles: % kept and mean size."""
    first, last, left, right = box
    _, width, _ = as_matrix(entry)
    tiles = -(-(right - left) // tile)
    used, total = np.zeros(tiles), np.zeros(tiles)
    for at in range(left, right, STRETCH):
        count = min(STRETCH, right - at)
        place = np.arange(at - left, at - left + count) // tile
        step = max(1, STRETCH // width) if count == width else 1  # rows that lie together are read together
        for row in range(first, last, step):
            whole = min(step, last - row) * count
            raw = read(file, entry, row * width + at, whole)
            flags = nonzero(KINDS[entry.dtype], raw)
            if mask is not None:
                flags &= nonzero(KINDS[mask.dtype], read(other, mask, row * width + at, whole))
            values = np.where(flags, numbers(entry.dtype, raw), 0.0)
            values = values if tile == 1 else np.abs(values)
            for out, part in ((used, flags), (total, values)):
                out += np.bincount(place, part.reshape(-1, count).sum(axis=0), minlength=tiles)
    area = (last - first) * np.minimum(tile, right - left - tile * np.arange(tiles))
    kept, size = used.astype(np.int64), total / area
    # A tile with a single weight left is not empty: only an empty one may say 0, only a full one 100.
    percent = np.where(kept > 0, np.maximum(100 * kept // area, 1), 0)
    return percent.astype(np.uint8), size.astype(np.float32)


def numbers(dtype: str, raw: np.ndarray) -> np.ndarray:
    """The values behind what ``read`` returned, float64; what is not finite is NaN."""
    kind = KINDS[dtype]
    if kind.exact:
        return edges(dtype)[codes(dtype, raw)]
    if not kind.codes:
        return raw.astype(np.float64)
    values = narrow(dtype, raw).astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def main(arguments: list[str]) -> int:
    """Runs from the command line; one sentence on stderr and code 2 on failure."""
    sides = dict.fromkeys(("TOP", "BOTTOM", "LEFT", "RIGHT"), int)
    kinds = {"INSPECTION": Path, "TENSOR": str, **sides, "OUT": Path}
    return jobs.run(arguments, MODULE, kinds, lambda a, name, *rest: window(a, name, rest[:4], rest[4]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
