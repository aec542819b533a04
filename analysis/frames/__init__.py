"""Run folders to tidy pandas frames, with the same columns and types whether there is much or nothing."""

from __future__ import annotations

from analysis.frames.checkpoint import (
    denominators,
    file_problems,
    inspection,
    layers,
    tensor_histogram,
    tensors,
)
from analysis.frames.curves import best_lr, curves, pareto
from analysis.frames.dynamics import mask_history, settled
from analysis.frames.overlap import expected_jaccard, overlap, overlap_matrix, rank_agreement
from analysis.frames.planes import box, distribution, large, plane, points, quadrants, thresholds
from analysis.frames.predictions import changes, predictions
from analysis.frames.progress import evals, keeps, losses, many, notes
from analysis.frames.runs import counts, results, runs, steps_of
from analysis.frames.sites import heads, mask_picture, sites, structure
from analysis.frames.verdict import verdict

__all__ = [
    "best_lr",
    "box",
    "changes",
    "counts",
    "curves",
    "denominators",
    "distribution",
    "evals",
    "expected_jaccard",
    "file_problems",
    "heads",
    "inspection",
    "keeps",
    "large",
    "layers",
    "losses",
    "many",
    "mask_history",
    "mask_picture",
    "notes",
    "overlap",
    "overlap_matrix",
    "pareto",
    "plane",
    "points",
    "predictions",
    "quadrants",
    "rank_agreement",
    "results",
    "runs",
    "settled",
    "sites",
    "steps_of",
    "structure",
    "tensor_histogram",
    "tensors",
    "thresholds",
    "verdict",
]
