"""Pictures of a moment: masks, a sample of weights, and exact bins of the weight-score plane."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from analysis.engine.pruner import Pruner
from analysis.store import arrays

BINS = 64


def sample_indices(sizes: list[int], points: int, least: int = 16) -> list[np.ndarray]:
    """A fixed sample of weights per site, in proportion to size; the same for every run on the same model.

    Args:
        sizes: weights per site.
        points: weights to sample in all.
        least: weights to sample from even the smallest site.

    Returns:
        sorted index arrays, one per site.
    """
    total = sum(sizes)
    rng = np.random.default_rng(0)
    counts = [min(size, max(least, round(points * size / total))) for size in sizes]
    return [
        np.sort(rng.choice(size, count, replace=False)) for size, count in zip(sizes, counts, strict=True)
    ]


def inner_edges(values: torch.Tensor, bins: int = BINS) -> np.ndarray:
    """Bin edges: equal steps over the bulk of the values, the outermost bins reaching to the extremes.

    Equal steps from smallest to largest would put nearly all weights into a few bins, because a handful are
    far out.

    Args:
        values: a sample or all of the values, any shape.
        bins: number of bins.

    Returns:
        increasing float64 edges, shape [bins + 1]; the outer ones are -inf and inf until the data's extremes
        replace them.
    """
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.numel() // 200_000)]
    flat = flat[flat.isfinite()].double()
    if not flat.numel():
        flat = torch.zeros(1, dtype=torch.float64)
    low, high = (float(q) for q in torch.quantile(flat, torch.tensor([0.0005, 0.9995], dtype=torch.float64)))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins - 1)


def _index(values: torch.Tensor, edges: np.ndarray) -> torch.Tensor:
    step = (edges[-1] - edges[0]) / (len(edges) - 1)
    position = ((values.reshape(-1).double() - edges[0]) / step).floor() + 1
    return position.nan_to_num(0).clamp(0, len(edges)).long()


def _plane(
    x: torch.Tensor, y: torch.Tensor, nx: int, ny: int, mask: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    cell = x * ny + y
    kept = torch.bincount(cell[mask.reshape(-1)], minlength=nx * ny)
    every = torch.bincount(cell, minlength=nx * ny)
    shape = (nx, ny)
    return kept.view(shape).numpy().astype(np.uint32), (every - kept).view(shape).numpy().astype(np.uint32)


def _outer(edges: np.ndarray, parts: list[torch.Tensor]) -> np.ndarray:
    low = min([float(p.min()) for p in parts if p.numel()] + [edges[0]])
    high = max([float(p.max()) for p in parts if p.numel()] + [edges[-1]])
    margin = (edges[-1] - edges[0]) / len(edges) * 1e-3
    return np.concatenate([[min(low, edges[0]) - margin], edges, [max(high, edges[-1]) + margin]]).astype(
        np.float32
    )


@torch.no_grad()
def write(run: Path, number: int, pruner: Pruner, start: list[torch.Tensor], points: int) -> None:
    """Writes masks, points and planes of this moment under one number.

    Args:
        run: the run's folder.
        number: optimizer step.
        pruner: sites, scores and masks.
        start: the pre-trained weights, one per site.
        points: weights sampled for the scatter.
    """
    for folder in ("masks", "points", "histograms"):
        (run / folder).mkdir(exist_ok=True)
    names = [s.name for s in pruner.sites]
    masks = [m.cpu() for m in pruner.masks()]
    weights = [pruner.weight(i).float().cpu() for i in range(len(names))]
    scores = [pruner.scores(i).float().cpu() for i in range(len(names))]
    arrays.save_masks(
        run / "masks" / f"{number:06d}.npz", {n: m.numpy() for n, m in zip(names, masks, strict=True)}
    )

    chosen = sample_indices([w.numel() for w in weights], points)
    columns: dict[str, list[np.ndarray]] = {
        "site": [],
        "index": [],
        "w0": [],
        "w": [],
        "score": [],
        "kept": [],
    }
    for name, index, w0, w, s, m in zip(names, chosen, start, weights, scores, masks, strict=True):
        columns["site"].append(np.full(len(index), name, dtype=object))
        columns["index"].append(index.astype(np.int32))
        columns["w0"].append(w0.reshape(-1)[index].numpy())
        columns["w"].append(w.reshape(-1)[index].numpy())
        columns["score"].append(s.reshape(-1)[index].numpy())
        columns["kept"].append(m.reshape(-1)[index].numpy())
    joined = {key: np.concatenate(parts) for key, parts in columns.items()}
    arrays.save_points(run / "points" / f"{number:06d}.parquet", joined)

    planes = _planes(start, weights, scores, masks)
    planes["sites"] = np.array(names)
    planes["threshold"] = np.array(_thresholds(pruner), dtype=np.float32)
    arrays.save_planes(run / "histograms" / f"{number:06d}.npz", planes)


def _thresholds(pruner: Pruner) -> list[float]:
    """The lowest score that is kept, per site; NaN where nothing is cut or nothing kept."""
    found = []
    for i, gate in enumerate(pruner.gates):
        mask = gate.mask.bool()
        whole = bool(mask.all()) or not bool(mask.any())
        found.append(math.nan if whole else float(pruner.scores(i)[mask].min()))
    return found


def _planes(
    start: list[torch.Tensor],
    weights: list[torch.Tensor],
    scores: list[torch.Tensor],
    masks: list[torch.Tensor],
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    edges = {}
    for key, parts in (("weight", weights), ("score", scores), ("start", start)):
        stride = max(1, sum(p.numel() for p in parts) // 400_000)
        edges[key] = inner_edges(torch.cat([p.reshape(-1)[::stride] for p in parts]))
        found[f"{key}_edges"] = _outer(edges[key], parts)
    bins = len(edges["weight"]) + 1
    planes: dict[str, list[np.ndarray]] = {
        k: [] for k in ("score_kept", "score_pruned", "start_kept", "start_pruned")
    }
    for w0, w, s, m in zip(start, weights, scores, masks, strict=True):
        x, y, z = _index(w, edges["weight"]), _index(s, edges["score"]), _index(w0, edges["start"])
        kept, pruned = _plane(x, y, bins, bins, m)
        planes["score_kept"].append(kept)
        planes["score_pruned"].append(pruned)
        kept, pruned = _plane(z, x, bins, bins, m)
        planes["start_kept"].append(kept)
        planes["start_pruned"].append(pruned)
    found.update({key: np.stack(parts) for key, parts in planes.items()})
    return found
