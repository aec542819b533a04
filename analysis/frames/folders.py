"""The run folder as arrays: which sites there are, and the masks, points and bins saved under a number."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.frames.tables import UNREADABLE, log, read_json
from analysis.store import arrays

WORDS = 1 << 20  # bytes of packed bits counted at once


@dataclass(frozen=True)
class Site:
    """One prunable matrix: name, role, layer (-1 when unknown), shape, attention heads (0 when none), and the
    rank of the two factors that are stored for it (0 when it is stored itself).
    """

    name: str
    role: str
    layer: int
    rows: int
    cols: int
    heads: int
    rank: int = 0

    @property
    def weights(self) -> int:
        """Number of weights, rows × columns."""
        return self.rows * self.cols


def sites_of(run_path: Path) -> list[Site]:
    """Lists the prunable matrices of a run in the order of its sites.json; a damaged entry is left out."""
    out = []
    entries = read_json(Path(run_path) / "sites.json").get("sites")
    for entry in entries if isinstance(entries, list) else []:
        try:
            layer, heads = entry.get("layer"), entry.get("heads")
            site = Site(
                name=str(entry["site"]),
                role=str(entry.get("role") or ""),
                layer=-1 if layer is None else int(layer),
                rows=int(entry["rows"]),
                cols=int(entry["cols"]),
                heads=0 if heads is None else int(heads),
                rank=int(entry.get("rank") or 0),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            log.info("an entry of %s/sites.json cannot be read", run_path)
            continue
        if site.rows > 0 and site.cols > 0:
            out.append(site)
    return out


def numbers(run_path: Path, kind: str) -> list[int]:
    """Lists the snapshot numbers (steps) under a folder of the run: "masks", "points" or "histograms"."""
    folder = Path(run_path) / kind
    try:
        return sorted(arrays.numbers(folder)) if folder.is_dir() else []
    except UNREADABLE as error:
        log.info("%s cannot be listed: %s", folder, error)
        return []


def file_of(run_path: Path, kind: str, number: int | None, suffix: str) -> Path | None:
    """Finds the file of one snapshot, the latest when no number is given; None when it does not exist."""
    if number is None:
        known = numbers(run_path, kind)
        if not known:
            return None
        number = known[-1]
    path = Path(run_path) / kind / f"{int(number):06d}{suffix}"
    return path if path.is_file() else None


def packed(
    run_path: Path, number: int | None = None, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Loads masks as packed bits: site name to uint8, eight weights a byte, the first in the highest bit."""
    path = file_of(run_path, "masks", number, ".npz")
    if path is None:
        return {}
    try:
        return dict(arrays.load_masks(path, None if names is None else list(names)))
    except UNREADABLE as error:
        log.info("%s cannot be read: %s", path, error)
        return {}


def planes(run_path: Path, number: int | None, *names: str) -> dict[str, np.ndarray]:
    """Loads the named arrays of the exact two-dimensional bins of a snapshot; empty when there are none."""
    path = file_of(run_path, "histograms", number, ".npz")
    if path is None:
        return {}
    try:
        return dict(arrays.load_planes(path, names))
    except UNREADABLE as error:
        log.info("%s cannot be read: %s", path, error)
        return {}


def points_of(run_path: Path, number: int | None = None) -> dict[str, Any]:
    """Loads the fixed sample of weights of a snapshot as columns; empty when there is none."""
    path = file_of(run_path, "points", number, ".parquet")
    if path is None:
        return {}
    try:
        return dict(arrays.load_points(path))
    except UNREADABLE as error:
        log.info("%s cannot be read: %s", path, error)
        return {}


def fits(site: Site, bits: np.ndarray | None) -> bool:
    """Says whether packed bits have the length that a site's shape asks for."""
    return bits is not None and bits.size == (site.weights + 7) // 8


def ones(bits: np.ndarray) -> int:
    """Counts the ones of packed bits, in pieces, so that a large matrix needs no large temporary."""
    flat = bits.reshape(-1)
    return sum(int(np.bitwise_count(flat[i : i + WORDS]).sum()) for i in range(0, flat.size, WORDS))


def matrix(site: Site, bits: np.ndarray) -> np.ndarray:
    """Unpacks the bits of one site to bool [rows, cols]."""
    return np.unpackbits(bits, count=site.weights).reshape(site.rows, site.cols).view(bool)
