"""Evaluation of a model on a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from analysis.engine import data as tasks
from analysis.engine.hardware import computing_in
from analysis.engine.splits import Split

TARGETS = ("labels", "start_positions", "end_positions")


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on a split.

    Args:
        metrics: metric name to value, as fractions; NaN when the model's outputs are not finite.
        value: the task's main metric.
        predictions: "row", "label", "prediction", "confidence", one entry per prediction, [n] each.
    """

    metrics: dict[str, float]
    value: float
    predictions: dict[str, np.ndarray]


def evaluate(
    model: nn.Module,
    split: Split,
    data: tasks.TaskData,
    *,
    batch: int = 64,
    device: str = "cpu",
    precision: str = "fp32",
    tell: Callable[[int], object] | None = None,
) -> Evaluation:
    """Run a model over a split without gradients, longest inputs first so that batches hold little padding.

    Args:
        model: a model from `load_model`; its train or eval mode is restored afterwards.
        split: one of the task's splits.
        data: the task.
        batch: items per forward, ≥ 1.
        device: where the model is.
        precision: "fp32", or "bf16" for mixed precision.
        tell: takes the number of items after each forward; what it raises ends the evaluation.

    Returns:
        Metrics and predictions in the split's own order.
    """
    scorer = tasks.scorer(split, data)
    longest_first = np.argsort(-split.lengths.astype(np.int64), kind="stable")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), computing_in(precision, device):
            for start in range(0, len(longest_first), batch):
                indices = longest_first[start : start + batch]
                fields = split.batch(indices)
                inputs = {key: value.to(device) for key, value in fields.items() if key not in TARGETS}
                scorer.add(indices, model(**inputs), fields)
                if tell is not None:
                    tell(len(indices))
    finally:
        model.train(was_training)
    found, predictions = scorer.result()
    return Evaluation(found, found[data.metric], predictions)
