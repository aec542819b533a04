"""Which columns a task uses, inferred and named."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.engine.columns import Columns, infer, require, texts
from analysis.engine.files import table
from analysis.errors import DataError
from analysis.spec import TaskSpec

ANSWERS = {"text": ["x"], "answer_start": [0]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"sentence": "a", "label": 1}, Columns("classification", "sentence", "", "label")),
        ({"text": "a", "label": 1, "lowercased": True}, Columns("classification", "text", "", "label")),
        (
            {"sentence1": "a", "sentence2": "b", "label": 0},
            Columns("classification", "sentence1", "sentence2", "label"),
        ),
        (
            {"premise": "a", "hypothesis": "b", "label": 0},
            Columns("classification", "premise", "hypothesis", "label"),
        ),
        (
            {"sentence1": "a", "sentence2": "b", "label": 3.8},
            Columns("regression", "sentence1", "sentence2", "label"),
        ),
        (
            {"question": "a", "context": "x", "answers": ANSWERS},
            Columns("question-answering", "question", "context", "answers"),
        ),
        ({"tokens": ["a"], "ner_tags": ["O"]}, Columns("token-classification", "tokens", "", "ner_tags")),
        ({"tokens": ["a"], "tags": ["O"]}, Columns("token-classification", "tokens", "", "tags")),
        ({"pixel_values": [[0.0]], "label": 1}, Columns("image-classification", "pixel_values", "", "label")),
        ({"image": {"bytes": b""}, "label": 1}, Columns("image-classification", "image", "", "label")),
        (
            {"question": "a", "sentence": "b", "label": 1},
            Columns("classification", "question", "sentence", "label"),
        ),
    ],
)
def test_inference(row: dict[str, Any], expected: Columns) -> None:
    assert infer(table("t", {key: [value] for key, value in row.items()}), TaskSpec()) == expected


def test_named_columns_win() -> None:
    rows = table("t", {"title": ["a"], "body": ["b"], "stars": [3], "label": [0], "text": ["c"]})
    named = TaskSpec(text="title", pair="body", label="stars")
    assert infer(rows, named) == Columns("classification", "title", "body", "stars")
    assert infer(rows, TaskSpec(kind="regression", label="stars")).kind == "regression"


def test_a_named_first_sentence_finds_its_partner() -> None:
    rows = table("t", {"sentence1": ["a"], "sentence2": ["b"], "label": [0]})
    assert infer(rows, TaskSpec(text="sentence1")).pair == "sentence2"
    assert infer(rows, TaskSpec(text="sentence2")).pair == ""


@pytest.mark.parametrize(
    ("names", "task", "words"),
    [
        (
            ["sentence", "label"],
            TaskSpec(text="texts"),
            "Column 'texts' is not in t, which has sentence, label; set task.text",
        ),
        (["sentence", "gold"], TaskSpec(), "no column named label or labels"),
        (["body", "label"], TaskSpec(), "no column named sentence or text"),
        (["sentence", "label"], TaskSpec(kind="question-answering"), "no column named question"),
        (["sentence", "label"], TaskSpec(kind="token-classification"), "no column named tokens"),
        (["sentence", "label"], TaskSpec(kind="image-classification"), "no column named pixel_values"),
    ],
)
def test_columns_that_are_not_there(names: list[str], task: TaskSpec, words: str) -> None:
    with pytest.raises(DataError) as caught:
        infer(table("t", {name: ["1"] for name in names}), task)
    assert words in str(caught.value)


def test_another_split_needs_the_same_columns() -> None:
    with pytest.raises(DataError, match=r"test.csv lacks the column 'label'"):
        require(table("test.csv", {"sentence": ["a"]}), Columns("classification", "sentence", "", "label"))


@pytest.mark.parametrize(
    ("cell", "word"), [(None, "missing"), (3, "int 3"), (["a"], "list"), (float("nan"), "float")]
)
def test_a_text_cell_without_text(cell: Any, word: str) -> None:
    with pytest.raises(DataError, match=rf"row 2 of t, column 'text', is {word}"):
        texts(table("t", {"text": ["a", cell]}), "text")
