"""Metrics, all as fractions.

Accuracy, F1 and Matthews by scikit-learn, correlations by scipy, entity F1 by seqeval. Exact match and F1 of
answers are written here, because transformers 5 no longer ships them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = frozenset(string.punctuation)


def classification(labels: np.ndarray, predictions: np.ndarray, num_labels: int) -> dict[str, float]:
    """Score class predictions; F1 is of class 1 for two classes, else the unweighted mean over classes.

    Args:
        labels: int [n], in [0, num_labels).
        predictions: int [n].
        num_labels: number of classes, ≥ 2.

    Returns:
        {"accuracy", "f1", "matthews"}; the first two in [0, 1], the last in [-1, 1] and 0 for a constant
        predictor.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    average = "binary" if num_labels == 2 else "macro"
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "f1": float(f1_score(labels, predictions, average=average, zero_division=0.0)),
        "matthews": _matthews(labels, predictions, matthews_corrcoef),
    }


def _matthews(labels: np.ndarray, predictions: np.ndarray, formula: object) -> float:
    """Return Matthews correlation, 0 when either side is constant: the formula divides by zero there."""
    if len(set(labels.tolist())) < 2 or len(set(predictions.tolist())) < 2:
        return 0.0
    return float(formula(labels, predictions))  # type: ignore[operator]


def regression(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Score predicted numbers by correlation.

    Args:
        labels: float [n].
        predictions: float [n].

    Returns:
        {"pearson", "spearman"} in [-1, 1]; 0 when either side is constant, where no correlation is defined.
    """
    from scipy.stats import pearsonr, spearmanr

    if (
        len(labels) < 2
        or np.ptp(labels) == 0
        or np.ptp(predictions) <= 1e-6 * max(1.0, float(np.abs(predictions).max()))
    ):
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(labels, predictions).statistic),
        "spearman": float(spearmanr(labels, predictions).statistic),
    }


def entities(labels: list[list[str]], predictions: list[list[str]]) -> dict[str, float]:
    """Score tag sequences by whole entities: right only when type and both ends agree.

    Args:
        labels: tags such as "B-PER", one list per sentence.
        predictions: tags of the same shape.

    Returns:
        {"f1", "precision", "recall", "accuracy"} in [0, 1]; accuracy is per word.
    """
    from seqeval.metrics import accuracy_score
    from seqeval.metrics.sequence_labeling import (
        precision_recall_fscore_support,
    )

    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predictions, average="micro", zero_division=0
    )
    return {
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "accuracy": float(accuracy_score(labels, predictions)),
    }


def normal_answer(text: str) -> str:
    """Return an answer as SQuAD compares it: lower case, no punctuation, no articles, single spaces.

    Args:
        text: any answer.

    Returns:
        The normalised text, possibly empty.
    """
    plain = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", plain).split())


def answer_f1(answer: str, gold: str) -> float:
    """Return the F1 of the bags of words of two answers, F1 = 2·common / (words + gold words).

    Args:
        answer: predicted text.
        gold: right text.

    Returns:
        A fraction in [0, 1]; two empty answers agree fully.
    """
    words, right = normal_answer(answer).split(), normal_answer(gold).split()
    if not words or not right:
        return float(words == right)
    common = sum((Counter(words) & Counter(right)).values())
    return 2.0 * common / (len(words) + len(right))


def answer_scores(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Score every answer against the best of its right texts.

    Args:
        answers: predicted texts, n of them.
        golds: right texts of each question, at least one each.

    Returns:
        (exact match [n] of 0 or 1, F1 [n] in [0, 1]).
    """
    exact = [
        max(float(normal_answer(a) == normal_answer(g)) for g in gold)
        for a, gold in zip(answers, golds, strict=True)
    ]
    overlap = [max(answer_f1(a, g) for g in gold) for a, gold in zip(answers, golds, strict=True)]
    return np.asarray(exact), np.asarray(overlap)
