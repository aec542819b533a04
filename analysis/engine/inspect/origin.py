"""What a run says of the weights it saved: how many its masks keep. Read here, in the throw-away process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from analysis.store import arrays, layout

MOST = 5000  # matrices of a run
LARGEST = 1 << 28  # bytes of a file of masks


def kept(path: Path) -> dict[str, list[int]]:
    """Counts what the last masks of a run keep.

    Args:
        path: a run folder, or a folder inside one.

    Returns:
        name of each masked matrix → its weights and how many are kept; empty where this is no run.
    """
    run = next((p for p in (path, path.parent) if (p / "sites.json").is_file()), None)
    number = arrays.latest(run / "masks") if run else None
    if run is None or number is None:
        return {}
    file = run / "masks" / f"{arrays.name_of(number)}.npz"
    try:
        listed = layout.read_json(run / "sites.json")["sites"][:MOST]
        sizes = {str(s["site"]): _weights(s) for s in listed}
        if os.stat(file).st_size > LARGEST:
            return {}
        masks = arrays.load_masks(file, sizes)
    except (OSError, ValueError, KeyError, TypeError, MemoryError):
        return {}
    return {
        name: [sizes[name], int(np.bitwise_count(bits).sum())]
        for name, bits in masks.items()
        if bits.dtype == np.uint8 and bits.size == -(-sizes[name] // 8) and sizes[name]
    }


def _weights(site: dict[str, Any]) -> int:
    """Weights of a matrix; none where two factors stand for it, whose mask says nothing."""
    return 0 if site.get("rank") else int(site["rows"]) * int(site["cols"])
