"""Labels become ids or numbers, or a sentence that names file, row, column, value and range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.engine import labels
from analysis.engine.files import Table, table
from analysis.errors import DataError


def column(values: list[Any], name: str = "train.jsonl", names: list[str] | None = None) -> Table:
    return table(name, {"label": values}, {"label": names} if names else None)


def test_whole_numbers_stay_as_they_are() -> None:
    names, ids = labels.classes([column([0, 1, 2, 1, 0, 2]), column([2, 0], "test.jsonl")], "label")
    assert names == ["0", "1", "2"]
    assert [part.tolist() for part in ids] == [[0, 1, 2, 1, 0, 2], [2, 0]]


def test_names_are_numbered_in_alphabetical_order() -> None:
    names, ids = labels.classes([column(["pos", "neg", "neg", "pos"])], "label")
    assert names == ["neg", "pos"]
    assert ids[0].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("values", [["0", "1", "0", "1"], [False, True, False, True], [0.0, 1.0, 0.0, 1.0]])
def test_numbers_spelled_otherwise_are_the_same_labels(values: list[Any]) -> None:
    names, ids = labels.classes([column(values)], "label")
    assert names == ["0", "1"]
    assert ids[0].tolist() == [0, 1, 0, 1]


def test_declared_names_allow_a_class_that_train_does_not_show() -> None:
    names, ids = labels.classes([column([0, 0, 1], names=["a", "b", "c"]), column([2], "t.jsonl")], "label")
    assert names == ["a", "b", "c"]
    assert ids[1].tolist() == [2]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([column([0, 1, 0, 1, 7])], ["7", "row 5 of train.jsonl, column 'label'", "outside the range"]),
        ([column([0, 1, 0, -1, 1])], ["-1", "row 4", "outside the range", "negative"]),
        ([column([1, 2, 1, 2])], ["outside the range", "no row has 0"]),
        ([column([0, 1, 0, 1, 2])], ["2", "row 5", "occurs only once"]),
        (
            [column([0, 1, 0, 1]), column([0, 2], "test.jsonl")],
            ["2", "row 2 of test.jsonl", "train.jsonl has 0, 1"],
        ),
        ([column(["a", "b", "a", "b"]), column(["c"], "test.csv")], ["'c'", "row 1 of test.csv", "has a, b"]),
        ([column([0, 0, 1, 1]), column(["x", "y"], "test.csv")], ["outside the range", "'x'"]),
        ([column([0, 1, 2, 0, 1, 2], names=["no", "yes"])], ["2", "row 3", "has 0, 1"]),
        ([column([1, 1, 1])], ["one class only", "3 rows"]),
        ([column([0, 1, None, 1])], ["row 3", "missing"]),
        ([column([0.0, float("nan"), 1.0])], ["row 2", "missing"]),
        ([column(["a", " ", "b"])], ["row 2", "missing"]),
        ([column([0, 1, "one", 1])], ["'one'", "row 3", "another type", "numbers"]),
        ([column(["a", "b", 3, "b"])], ["3", "row 3", "another type", "names"]),
        ([column([0, 1, [1], 1])], ["row 3", "list"]),
        ([column([0.5, 1.5, 2.0])], ["0.5", "row 1", "set task.kind to regression"]),
        ([column([0, float("inf"), 1])], ["decimal"]),
    ],
)
def test_labels_that_cannot_be_classes(tables: list[Table], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        labels.classes(tables, "label")
    assert [word for word in words if word not in str(caught.value)] == []


def test_numbers_for_regression() -> None:
    train, test = labels.numbers([column(["5.0", "3.8"]), column([1, 2], "test.csv")], "label")
    np.testing.assert_array_equal(train, np.float32([5.0, 3.8]))
    np.testing.assert_array_equal(test, np.float32([1, 2]))


@pytest.mark.parametrize("values", [[1.0, float("inf")], ["low", "high"], [1.5, "high", 2.5]])
def test_numbers_that_are_none(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"row \d of train.jsonl, column 'label'"):
        labels.numbers([column(values)], "label")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1, -1], True),
        ([None, None], True),
        (["", "-1"], True),
        ([-1, 0], False),
        ([0, 1], False),
        ([{"text": [], "answer_start": []}], True),
        ([{"text": ["x"], "answer_start": [0]}], False),
        ([[-1, -1], []], True),
        ([["O"], []], False),
    ],
)
def test_hidden_labels(values: list[Any], expected: bool) -> None:
    assert labels.unlabelled(column(values), "label") is expected
    assert labels.unlabelled(column(values), "absent")
