"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.engine import metrics


def test_two_classes() -> None:
    right, found = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])
    scores = metrics.classification(right, found, 2)
    # 2 true positives, 1 false positive, 1 false negative, 1 true negative.
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert scores["matthews"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))


def test_three_classes_average_f1_over_classes() -> None:
    scores = metrics.classification(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]), 3)
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_a_constant_predictor_has_no_correlation_and_no_warning() -> None:
    right = np.array([0, 1, 1])
    assert metrics.classification(right, np.ones(3, dtype=int), 2)["matthews"] == 0
    assert metrics.regression(right.astype(float), np.full(3, 2.5)) == {"pearson": 0.0, "spearman": 0.0}
    assert metrics.regression(np.ones(3), right.astype(float)) == {"pearson": 0.0, "spearman": 0.0}
    assert metrics.regression(np.ones(1), np.ones(1)) == {"pearson": 0.0, "spearman": 0.0}


def test_correlations() -> None:
    scores = metrics.regression(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0]))
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] == pytest.approx(25 / np.sqrt(5 * 129))


def test_entities_count_only_when_type_and_both_ends_agree() -> None:
    right = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    found = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "O"]]
    scores = metrics.entities(right, found)
    assert scores["f1"] == pytest.approx(1 / 3)
    assert scores["precision"] == scores["recall"] == pytest.approx(1 / 3)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert metrics.entities(right, right)["f1"] == 1.0


def test_no_entity_found_is_zero_without_a_warning() -> None:
    assert metrics.entities([["B-PER", "O"]], [["O", "O"]])["f1"] == 0.0
    assert metrics.entities([["O", "O"]], [["O", "O"]])["f1"] == 0.0


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the Cat!", "cat", 1, 1.0),
        ("1976", "1976", 1, 1.0),
        ("in 1976", "1976", 0, 2 / 3),
        ("Denver Broncos", "The Denver Broncos", 1, 1.0),
        ("a big red dog", "red dog", 0, 2 * 2 / (3 + 2)),
        ("the the", "", 1, 1.0),
        ("dog", "", 0, 0.0),
        ("dog dog cat", "dog cat cat", 0, 2 * 2 / 6),
        ("U.S.A.", "usa", 1, 1.0),
        ("well-known", "well known", 0, 0.0),
        ("theatre", "atre", 0, 0.0),
    ],
)
def test_answers(answer: str, gold: str, exact: int, f1: float) -> None:
    matches, overlap = metrics.answer_scores([answer], [[gold]])
    assert (matches[0], overlap[0]) == (exact, pytest.approx(f1))


def test_the_best_right_answer_counts() -> None:
    matches, overlap = metrics.answer_scores(
        ["in Santa Clara"], [["California", "Santa Clara", "in Santa Clara, California"]]
    )
    assert (matches[0], overlap[0]) == (0, pytest.approx(6 / 7))
