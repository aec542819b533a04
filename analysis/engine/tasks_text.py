"""Sentence and sentence-pair tasks: classification and regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.engine import columns as cols
from analysis.engine import labels, metrics
from analysis.engine.columns import Columns
from analysis.engine.files import Table
from analysis.engine.splits import TextSplit


def splits(
    tables: dict[str, Table], columns: Columns, tokenizer: Any, max_length: int
) -> dict[str, TextSplit]:
    """Build the splits of a sentence task whose label column already holds ids or numbers.

    Args:
        tables: {"train", "validation", "test"}.
        columns: settled columns.
        tokenizer: fast tokenizer.
        max_length: longest input in tokens.

    Returns:
        One split per table.
    """
    kind = np.float32 if columns.kind == cols.REGRESSION else np.int64
    names = [name for name in (columns.text, columns.pair) if name]
    return {
        split: TextSplit(
            split,
            rows,
            [rows.columns[name] for name in names],
            np.asarray(rows.columns[columns.label], dtype=kind),
            tokenizer,
            max_length,
        )
        for split, rows in tables.items()
    }


def check(tables: list[Table], columns: Columns) -> tuple[list[str], list[Table]]:
    """Check texts and labels of a source, and replace labels by ids or numbers.

    Args:
        tables: splits of the source, train first.
        columns: settled columns.

    Returns:
        (label names, the tables with labels replaced).

    Raises:
        DataError: see `labels` and `columns.texts`.
    """
    for rows in tables:
        for name in (columns.text, columns.pair):
            if name:
                cols.texts(rows, name)
    names: list[str] = []
    if columns.kind == cols.REGRESSION:
        found = labels.numbers(tables, columns.label)
    else:
        names, found = labels.classes(tables, columns.label)
    return names, [rows.replaced(columns.label, values) for rows, values in zip(tables, found, strict=True)]


def majority(values: np.ndarray) -> float:
    """Return the share of the most frequent class.

    Args:
        values: int class ids [n].

    Returns:
        A fraction in (0, 1]: the accuracy of always answering that class.
    """
    return float(np.bincount(values).max() / len(values))


class ClassScorer:
    """Collects logits of classes and scores them.

    Args:
        split: a split with class ids in `labels`.
        num_labels: number of classes.
    """

    def __init__(self, split: Any, num_labels: int) -> None:
        self._split = split
        self._logits = torch.zeros(len(split), num_labels)

    def add(self, indices: np.ndarray, outputs: Any, batch: dict[str, Tensor]) -> None:
        """Take the outputs of one batch.

        Args:
            indices: positions in the split, int [b].
            outputs: model outputs with `logits` [b, classes].
            batch: the inputs that gave them.
        """
        self._logits[torch.from_numpy(indices)] = outputs.logits.float().cpu()

    def result(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return metrics and one prediction per row; metrics are NaN when a logit is not finite."""
        right, chances = self._split.labels, torch.softmax(self._logits, dim=-1)
        confidence, predicted = chances.max(dim=-1)
        found = metrics.classification(right, predicted.numpy(), self._logits.shape[1])
        if not bool(torch.isfinite(self._logits).all()):
            found = dict.fromkeys(found, float("nan"))
        return found, {
            "row": self._split.rows,
            "label": right.astype(np.int32),
            "prediction": predicted.numpy().astype(np.int32),
            "confidence": confidence.numpy().astype(np.float32),
        }


class ValueScorer:
    """Collects predicted numbers and scores them.

    Args:
        split: a split with numbers in `labels`.
    """

    def __init__(self, split: Any) -> None:
        self._split = split
        self._values = np.zeros(len(split), dtype=np.float32)

    def add(self, indices: np.ndarray, outputs: Any, batch: dict[str, Tensor]) -> None:
        """Take the outputs of one batch.

        Args:
            indices: positions in the split, int [b].
            outputs: model outputs with `logits` [b, 1].
            batch: the inputs that gave them.
        """
        self._values[indices] = outputs.logits.float().cpu().numpy().reshape(-1)

    def result(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return metrics and one prediction per row; a number has no confidence, so that is NaN."""
        if np.isfinite(self._values).all():
            found = metrics.regression(self._split.labels, self._values)
        else:
            found = {"pearson": float("nan"), "spearman": float("nan")}
        return found, {
            "row": self._split.rows,
            "label": self._split.labels,
            "prediction": self._values,
            "confidence": np.full(len(self._values), np.nan, dtype=np.float32),
        }
