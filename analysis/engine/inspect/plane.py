"""The weight × score plane of a checkpoint that stores scores beside its weights, counted over all of them.

``python -m analysis.engine.inspect.plane INSPECTION OUT`` writes OUT/sites.json and
OUT/histograms/000000.npz in the form of a run's, so that the same frames and figures read them. Where no mask
is stored every weight that is not zero counts as kept. A weight that is not finite, or whose score is not,
has no place in the plane and is left out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.inspect.again import entries, mask_of
from analysis.engine.inspect.header import Entry, open_regular
from analysis.engine.inspect.kinds import KINDS, nonzero
from analysis.engine.inspect.names import plain_name
from analysis.engine.inspect.reading import CHUNK, read
from analysis.engine.inspect.window import numbers
from analysis.errors import ModelError
from analysis.store import arrays, jobs, layout

MODULE = "analysis.engine.inspect.plane"
BINS = 64
REACH = 0.999  # share of the values that lie within the inner bins


@dataclass(frozen=True)
class Pair:
    """A weight and its scores: name, role and layer of the site, where both are, and the mask stored too."""

    site: str
    role: str
    layer: int
    weight: Entry
    scores: Entry
    mask: Entry | None


def plane(inspection: Path, out: Path) -> None:
    """Counts the plane.

    Args:
        inspection: folder of a finished inspection.
        out: folder of the result.

    Raises:
        ModelError: no scores of the shape of their weight are stored, or the file has changed.
    """
    with jobs.Job(out, "values") as job:
        pairs = _pairs(entries(inspection))
        if not pairs:
            raise ModelError(
                "No scores of the same shape as their weights are stored in this checkpoint, so there is no "
                "plane to draw; scores of blocks can still be cut."
            )
        limits = [_limit([p.weight for p in pairs]), _limit([p.scores for p in pairs])]
        edges = [np.linspace(-x, x, BINS + 1, dtype=np.float32) for x in limits]
        total, done = sum(p.weight.numel for p in pairs), 0
        kept, pruned, ends = [], [], []
        for pair in pairs:
            k, p, e = _count(pair, edges)
            kept.append(k)
            pruned.append(p)
            ends.append(e)
            done += pair.weight.numel
            job.tell(done, total)
        low, high = np.min([e[0] for e in ends], axis=0), np.max([e[1] for e in ends], axis=0)
        outer = [_outer(edge, low[i], high[i]) for i, edge in enumerate(edges)]
        _write(out, pairs, outer, kept, pruned)


def _pairs(found: dict[str, tuple[Entry, dict[str, Any]]]) -> list[Pair]:
    weights = {plain_name(name): name for name, (_, row) in found.items() if row["prunable"]}
    out = []
    for scores, row in found.values():
        name = weights.get(row["weight"])
        if row["role"] != "scores" or name is None:
            continue
        weight, labels = found[name]
        known = scores.dtype in KINDS and weight.dtype in KINDS
        if known and scores.shape == weight.shape and scores.ordered and weight.ordered:
            site = row["weight"].removesuffix(".weight")
            out.append(Pair(site, labels["role"], int(labels["layer"]), weight, scores, mask_of(found, name)))
    return out


def _stretches(entry: Entry) -> list[tuple[int, int]]:
    return [(at, min(CHUNK, entry.numel - at)) for at in range(0, entry.numel, CHUNK)]


def _limit(found: list[Entry]) -> float:
    """A half-width that leaves out only the largest, from a sample of every tensor."""
    sample = []
    for entry in found:
        with open_regular(entry.file) as file:
            for at, count in _stretches(entry)[:2]:
                values = numbers(entry.dtype, read(file, entry, at, count))
                sample.append(np.abs(values[:: max(1, count // 20_000)]))
    values = np.concatenate(sample)
    values = values[np.isfinite(values)]
    limit = float(np.quantile(values, REACH)) if values.size else 0.0
    return limit or 1.0


def _count(
    pair: Pair, edges: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    weight, score, mask = pair.weight, pair.scores, pair.mask
    side = BINS + 2
    kept, every = np.zeros(side * side, dtype=np.int64), np.zeros(side * side, dtype=np.int64)
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    with (
        open_regular(weight.file) as a,
        open_regular(score.file) as b,
        open_regular((mask or weight).file) as c,
    ):
        for at, count in _stretches(weight):
            raw = read(a, weight, at, count)
            flags = nonzero(KINDS[weight.dtype], raw)
            if mask is not None:
                flags &= nonzero(KINDS[mask.dtype], read(c, mask, at, count))
            both = [numbers(weight.dtype, raw), numbers(score.dtype, read(b, score, at, count))]
            finite = np.isfinite(both[0]) & np.isfinite(both[1])
            places = []
            for i, values in enumerate(v[finite] for v in both):
                low[i], high[i] = values.min(initial=low[i]), values.max(initial=high[i])
                step = (edges[i][-1] - edges[i][0]) / BINS
                place = np.floor((values - edges[i][0]) / step) + 1
                places.append(place.clip(0, side - 1).astype(np.int64))
            cell = places[0] * side + places[1]
            every += np.bincount(cell, minlength=side * side)
            kept += np.bincount(cell[flags[finite]], minlength=side * side)
    shape = (side, side)
    return kept.reshape(shape), (every - kept).reshape(shape), (low, high)


def _outer(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    margin = (edges[-1] - edges[0]) / len(edges) * 1e-3
    first, last = min(low, edges[0]) - margin, max(high, edges[-1]) + margin
    return np.concatenate([[first], edges, [last]]).astype(np.float32)


def _write(
    out: Path, pairs: list[Pair], edges: list[np.ndarray], kept: list[np.ndarray], pruned: list[np.ndarray]
) -> None:
    sites = [
        {"site": p.site, "role": p.role, "layer": p.layer, "rows": p.weight.shape[0]}
        | {"cols": p.weight.numel // max(1, p.weight.shape[0])}
        for p in pairs
    ]
    layout.write_json(out / "sites.json", {"sites": sites})
    (out / "histograms").mkdir(exist_ok=True)
    arrays.save_planes(
        out / "histograms" / "000000.npz",
        {
            "weight_edges": edges[0],
            "score_edges": edges[1],
            "score_kept": np.stack(kept).astype(np.uint32),
            "score_pruned": np.stack(pruned).astype(np.uint32),
            "sites": np.array([p.site for p in pairs]),
        },
    )


def main(arguments: list[str]) -> int:
    """Runs from the command line; one sentence on stderr and code 2 on failure."""
    return jobs.run(arguments, MODULE, {"INSPECTION": Path, "OUT": Path}, plane)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
