"""The exact threshold of a cut in single precision: a second pass over the weights of one histogram step.

``python -m analysis.engine.inspect.exact INSPECTION EDGE RANK OUT`` writes OUT/exact.json: threshold (the
value of |w| that ranks RANK-th, from 1, among those in the step that begins at EDGE), below and at (how many
weights of the step are smaller, and how many have that very value).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.inspect.again import entries, mask_of
from analysis.engine.inspect.header import Entry, open_regular
from analysis.engine.inspect.kinds import KINDS, WIDE_SHIFT, nonzero
from analysis.engine.inspect.reading import CHUNK, read
from analysis.errors import ModelError
from analysis.store import arrays, jobs, layout

RESULT = "exact.json"
MODULE = "analysis.engine.inspect.exact"
REST = (1 << WIDE_SHIFT) - 1  # the bits that the histogram left out


def exact(inspection: Path, edge: float, rank: int, out: Path) -> dict[str, Any]:
    """Finds the weight that ranks at a place inside one step of the histogram.

    Args:
        inspection: folder of a finished inspection.
        edge: |w| at which the step begins, as ``frames.cut`` gives it.
        rank: place in the step, from 1, smallest first.
        out: folder of the result.

    Returns:
        the content of ``exact.json``, empty when it was cancelled.

    Raises:
        ModelError: the file has changed, or the step holds fewer weights.
    """
    with jobs.Job(out, "values") as job:
        found = entries(inspection)
        same = set(arrays.load_table(inspection / "tied.parquet")["number"].tolist())
        listed = enumerate(found.items())
        chosen = [n for i, (n, (e, r)) in listed if r["prunable"] and i not in same and e.dtype == "F32"]
        code = int(np.float32(edge).view(np.uint32)) >> WIDE_SHIFT
        counts = np.zeros(REST + 1, dtype=np.int64)
        done, total = 0, sum(found[n][0].numel for n in chosen)
        for name in chosen:
            counts += _count(found[name][0], mask_of(found, name), code)
            done += found[name][0].numel
            job.tell(done, total)
        cumulative = counts.cumsum()
        if not 1 <= rank <= cumulative[-1]:
            raise ModelError(
                f"The step at {edge:g} holds {cumulative[-1]} weights and rank {rank} was asked for; open "
                "the checkpoint again."
            )
        at = int(np.searchsorted(cumulative, rank))
        value = np.uint32((code << WIDE_SHIFT) | at).view(np.float32)
        result = {"threshold": float(value), "below": int(cumulative[at] - counts[at]), "at": int(counts[at])}
        layout.write_json(out / RESULT, result)
        return result
    return {}


def _count(entry: Entry, mask: Entry | None, code: int) -> np.ndarray:
    """How often each rest of the bits occurs among the weights of one step, int64 [32768]."""
    counts = np.zeros(REST + 1, dtype=np.int64)
    with open_regular(entry.file) as file, open_regular((mask or entry).file) as other:
        for at in range(0, entry.numel, CHUNK):
            count = min(CHUNK, entry.numel - at)
            bits = read(file, entry, at, count).view(np.uint32) & np.uint32(0x7FFFFFFF)
            inside = bits >> np.uint32(WIDE_SHIFT) == code
            if mask is not None:
                inside &= nonzero(KINDS[mask.dtype], read(other, mask, at, count))
            counts += np.bincount(bits[inside] & np.uint32(REST), minlength=REST + 1)
    return counts


def main(arguments: list[str]) -> int:
    """Runs from the command line; one sentence on stderr and code 2 on failure."""
    kinds = {"INSPECTION": Path, "EDGE": float, "RANK": int, "OUT": Path}
    return jobs.run(arguments, MODULE, kinds, exact)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
