"""Run folders to tidy pandas frames, with the same columns and types whether there is much or nothing."""

from __future__ import annotations

from analysis.frames.batches import batches
from analysis.frames.checkpoint import denominators, file_problems, inspection, layers, storage, tensors
from analysis.frames.checkpoint_document import document, patterns
from analysis.frames.checkpoint_units import matrix_structure, units
from analysis.frames.checkpoint_values import (
    cut,
    cut_sentence,
    exact_threshold,
    scored,
    sizes,
    tensor_histogram,
    window,
)
from analysis.frames.checkpoint_verdict import findings
from analysis.frames.compare import (
    comparison,
    counted,
    distances,
    lost_units,
    tensor_pairs,
    unpaired,
    zero_overlap,
)
from analysis.frames.compare_values import kept_by_size, two_values
from analysis.frames.compare_verdict import difference
from analysis.frames.curves import best_lr, curves, few_rates, usual
from analysis.frames.front import areas, front_sentences, trials
from analysis.frames.growth import growth, growth_agreement
from analysis.frames.overlap import expected_jaccard, overlap, overlap_matrix, rank_agreement
from analysis.frames.planes import box, large, plane, points, quadrants, thresholds
from analysis.frames.probe import probe_about, probe_latency, probe_points, probe_sentences, probe_speed
from analysis.frames.progress import evals, keeps, losses, many
from analysis.frames.published import TASKS, published
from analysis.frames.removal import removal_sentence, removed
from analysis.frames.runs import counts, results, runs
from analysis.frames.sites import factors_sentence, mask_picture, sites, structure
from analysis.frames.verdict import verdict

__all__ = [
    "TASKS",
    "areas",
    "batches",
    "best_lr",
    "box",
    "comparison",
    "counted",
    "counts",
    "curves",
    "cut",
    "cut_sentence",
    "denominators",
    "difference",
    "distances",
    "document",
    "evals",
    "exact_threshold",
    "expected_jaccard",
    "factors_sentence",
    "few_rates",
    "file_problems",
    "findings",
    "front_sentences",
    "growth",
    "growth_agreement",
    "inspection",
    "keeps",
    "kept_by_size",
    "large",
    "layers",
    "losses",
    "lost_units",
    "many",
    "mask_picture",
    "matrix_structure",
    "overlap",
    "overlap_matrix",
    "patterns",
    "plane",
    "points",
    "probe_about",
    "probe_latency",
    "probe_points",
    "probe_sentences",
    "probe_speed",
    "published",
    "quadrants",
    "rank_agreement",
    "removal_sentence",
    "removed",
    "results",
    "runs",
    "scored",
    "sites",
    "sizes",
    "storage",
    "structure",
    "tensor_histogram",
    "tensor_pairs",
    "tensors",
    "thresholds",
    "trials",
    "two_values",
    "units",
    "unpaired",
    "usual",
    "verdict",
    "window",
    "zero_overlap",
]
