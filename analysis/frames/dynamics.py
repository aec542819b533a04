"""When it was decided: how the masks of a run change and when they reach their final form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames.folders import Site, fits, numbers, ones, packed, sites_of
from analysis.frames.runs import steps_of
from analysis.frames.tables import table

HISTORY = {
    "number": "int64",
    "progress": "float64",
    "keep": "float64",
    "pruned": "float64",
    "regrown": "float64",
    "distance": "float64",
    "settled": "float64",
}
SETTLED = {
    "site": "str",
    "role": "str",
    "layer": "int64",
    "weights": "int64",
    "progress": "float64",
    "share": "float64",
}


def mask_history(run_path: Path) -> pd.DataFrame:
    """Follows the mask through its snapshots, every number a fraction of all prunable weights.

    Args:
        run_path: folder of the run.

    Returns:
        one row a snapshot: keep, pruned and regrown since the snapshot before (NaN for the first), distance
        (weights
        whose mask differs from the final one) and settled (weights whose mask no longer changes from here
        on).
    """
    known, chosen = _common(run_path)
    if not known:
        return table(HISTORY)
    total = sum(s.weights for s in known)
    steps = steps_of(run_path)
    final = packed(run_path, chosen[-1])
    rows: list[dict[str, Any]] = []
    after: dict[str, np.ndarray] = {}
    moving = {s.name: np.zeros_like(final[s.name]) for s in known}
    for at in reversed(chosen):  # from the end: settled means no change in any later snapshot
        bits = packed(run_path, at)
        row: dict[str, Any] = {"number": at, "progress": at / steps if steps else None}
        for s in known:
            moving[s.name] |= bits[s.name] ^ final[s.name]
        row["keep"] = sum(ones(bits[s.name]) for s in known) / total
        row["distance"] = sum(ones(bits[s.name] ^ final[s.name]) for s in known) / total
        row["settled"] = 1 - sum(ones(moving[s.name]) for s in known) / total
        if after:
            rows[-1]["pruned"] = sum(ones(bits[s.name] & ~after[s.name]) for s in known) / total
            rows[-1]["regrown"] = sum(ones(~bits[s.name] & after[s.name]) for s in known) / total
        after = bits
        rows.append(row)
    return table(HISTORY, rows[::-1])


def settled(run_path: Path) -> pd.DataFrame:
    """Says for every site at which progress what share of its weights had reached its final mask for good."""
    known, chosen = _common(run_path)
    if not known:
        return table(SETTLED)
    steps = steps_of(run_path)
    final = packed(run_path, chosen[-1])
    moving = {s.name: np.zeros_like(final[s.name]) for s in known}
    rows: list[dict[str, Any]] = []
    for at in reversed(chosen):
        bits = packed(run_path, at)
        for s in known:
            moving[s.name] |= bits[s.name] ^ final[s.name]
            label = {"site": s.name, "role": s.role, "layer": s.layer, "weights": s.weights}
            share = 1 - ones(moving[s.name]) / s.weights
            rows.append({**label, "progress": at / steps if steps else None, "share": share})
    return table(SETTLED, rows[::-1])


def _common(run_path: Path) -> tuple[list[Site], list[int]]:
    """The snapshots that can be read, and the sites that every one of them holds whole."""
    chosen = []
    known = sites_of(run_path)
    for at in numbers(run_path, "masks"):
        bits = packed(run_path, at)
        if bits:
            chosen.append(at)
            known = [s for s in known if fits(s, bits.get(s.name))]
    return (known, chosen) if chosen else ([], [])
