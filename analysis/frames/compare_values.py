"""Did large weights stay? Two checkpoints' weights by their values on both sides, from exact counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.frames.tables import UNREADABLE, log, table
from analysis.store import arrays

PLANE = {"a_bin": "int64", "b_bin": "int64", "a": "float64", "b": "float64", "count": "int64"}
FINEST = 80  # bins of a sign above which two are drawn as one
REST = 0.001  # share of the weights, the smallest, that fall together into the innermost bin
TENTHS = {
    "tenth": "int64",
    "low": "float64",
    "high": "float64",
    "weights": "float64",
    "kept": "float64",
    "share": "float64",
    "chance": "float64",
}


def _counts(
    folder: Path, prefix: str, layers: tuple[int, ...], roles: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Adds up the counts of some layers and roles: int64 [65536], and the edges between the bins."""
    total = np.zeros(65536, dtype=np.int64)
    try:
        found = arrays.load_arrays(Path(folder) / "planes.npz")
        chosen = found["prunable"] if found["prunable"].any() else ~found["prunable"]
        if layers:
            chosen = chosen & np.isin(found["layer"], layers)
        if roles:
            chosen = chosen & np.isin(found["role"], roles)
        starts = found[f"{prefix}starts"]
        for i in np.flatnonzero(chosen):
            here = slice(starts[i], starts[i + 1])
            total[found[f"{prefix}cells"][here]] += found[f"{prefix}counts"][here]
        return total, found["edges"]
    except (*UNREADABLE, IndexError) as error:
        log.info("no planes in %s: %s", folder, error)
        return total * 0, np.zeros(0)


def two_values(folder: Path, layers: tuple[int, ...] = (), roles: tuple[str, ...] = ()) -> pd.DataFrame:
    """Counts weights by their value in A and in B, exactly, in bins that grow with the size.

    Args:
        folder: folder of the comparison.
        layers: only these layers, () for all.
        roles: only these roles, () for all.

    Returns:
        one row a cell that is not empty: a_bin and b_bin number the bins outwards from 0, which is an exact
        zero; a and b are the values in their middle. The innermost bins hold everything smaller.
    """
    total, edges = _counts(folder, "", layers, roles)
    cells = np.flatnonzero(total)
    if not len(cells):
        return table(PLANE)
    counts = total[cells]
    bins = [_signed(cells >> 8), _signed(cells & 255)]
    sizes = np.bincount(np.abs(np.concatenate(bins)), np.concatenate([counts, counts]))[1:]
    seen = np.flatnonzero(sizes) + 1
    if not len(seen):
        low, step, high = 1, 1, 1
    else:
        low = int(np.searchsorted(sizes.cumsum(), REST * sizes.sum())) + 1
        high = int(seen[-1])
        step = 1 if high - low < FINEST else 2
    middle = np.sqrt(
        edges[low - 1 : high : step] * edges[np.minimum(np.arange(low, high + 1, step) + step - 1, high)]
    )
    placed = [np.sign(b) * ((np.abs(b).clip(low) - low) // step + 1) for b in bins]
    frame = table(PLANE, {"a_bin": placed[0], "b_bin": placed[1], "count": counts})
    frame = frame.groupby(["a_bin", "b_bin"])[["count"]].sum().reset_index()
    middles = np.concatenate([[0.0], middle])
    return table(
        PLANE,
        {name: frame[name].to_numpy() for name in frame}
        | {s: np.sign(frame[f"{s}_bin"]) * middles[frame[f"{s}_bin"].abs()] for s in ("a", "b")},
    )


def _signed(codes: np.ndarray) -> np.ndarray:
    return np.where(codes & 128, -(codes & 127), codes & 127)


def kept_by_size(folder: Path, layers: tuple[int, ...] = (), roles: tuple[str, ...] = ()) -> pd.DataFrame:
    """Tells how many of the weights that A does not have at zero are not zero in B, by their size in A.

    Args:
        folder: folder of the comparison.
        layers: only these layers, () for all.
        roles: only these roles, () for all.

    Returns:
        ten rows, the smallest tenth of A's weights first: low and high = their sizes |a|, weights, kept (not
        zero in B), share = kept / weights, and chance = the share over all ten. Weights whose sizes are the
        same to within 1/128 and lie across a border are shared out in proportion. No row when A is all zeros.
    """
    total, _ = _counts(folder, "size_", layers, roles)
    both = total[1:32768] + total[32769:]
    seen = np.flatnonzero(both)
    if not len(seen):
        return table(TENTHS)
    counts, kept = both[seen].cumsum(), total[1:32768][seen].cumsum()
    border = counts[-1] * np.arange(11) / 10
    parts = np.diff(np.interp(border, np.append(0, counts), np.append(0, kept)))
    sizes = ((seen + 1).astype(np.uint32) << 16).view(np.float32)
    last = np.searchsorted(counts, border[1:] * (1 - 1e-12))
    first = np.searchsorted(counts, border[:-1], side="right")
    return table(
        TENTHS,
        {
            "tenth": np.arange(1, 11),
            "low": sizes[first],
            "high": sizes[last.clip(0, len(sizes) - 1)],
            "weights": np.diff(border),
            "kept": parts,
            "share": parts / np.diff(border),
            "chance": np.full(10, kept[-1] / counts[-1]),
        },
    )
