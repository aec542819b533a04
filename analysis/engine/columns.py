"""Which columns of a table are text, pair and label, and which kind of task they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from analysis.engine import labels
from analysis.engine.files import Table
from analysis.errors import DataError
from analysis.spec import TaskSpec

CLASSIFICATION = "classification"
REGRESSION = "regression"
ANSWERS = "question-answering"
TOKENS = "token-classification"
IMAGES = "image-classification"

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text_a", "text_b"),
)
SINGLES = ("sentence", "text", "content", "review")
LABELS = ("label", "labels", "target", "score")
PICTURES = ("pixel_values", "image", "img")
TAGS = ("ner_tags", "tags", "labels")


@dataclass(frozen=True)
class Columns:
    """Settled columns of a task.

    Args:
        kind: one of the five task kinds.
        text: column of the sentence, question, tokens or image.
        pair: column of the second sentence or the context, or "".
        label: column of labels, tags or answers.
    """

    kind: str
    text: str
    pair: str
    label: str


def infer(table: Table, task: TaskSpec) -> Columns:
    """Settle the columns from what the task names and what the train table holds.

    Args:
        table: the train split.
        task: kind and column names; "auto" and "" are inferred.

    Returns:
        The settled columns.

    Raises:
        DataError: a named column is absent, or nothing suitable is there.
    """
    for role in ("text", "pair", "label"):
        name = getattr(task, role)
        if name and name not in table.columns:
            raise DataError(
                f"Column '{name}' is not in {table.name}, which has {labels.listing(list(table.columns))}; "
                f"set task.{role} to one of them."
            )
    kind = task.kind if task.kind != "auto" else _kind(table, task)
    if kind == ANSWERS:
        return Columns(
            kind,
            _one(table, task.text, ("question",), "text"),
            _one(table, task.pair, ("context",), "pair"),
            _one(table, task.label, ("answers",), "label"),
        )
    if kind == TOKENS:
        return Columns(
            kind,
            _one(table, task.text, ("tokens", "words"), "text"),
            "",
            _one(table, task.label, TAGS, "label"),
        )
    if kind == IMAGES:
        return Columns(
            kind, _one(table, task.text, PICTURES, "text"), "", _one(table, task.label, LABELS, "label")
        )
    text, pair = _texts(table, task)
    label = _one(table, task.label, LABELS, "label")
    if kind == "auto":
        kind = REGRESSION if labels.parse(table, label)[0] == "float" else CLASSIFICATION
    return Columns(kind, text, pair, label)


def _kind(table: Table, task: TaskSpec) -> str:
    """Read the kind off the column names and the first row; "auto" leaves it to the labels."""
    has = table.columns.keys()
    if {"question", "context", "answers"} <= has and not task.label:
        return ANSWERS
    first = table.columns[task.text][0] if task.text else None
    if isinstance(first, list) and all(isinstance(item, str) for item in first):
        return TOKENS
    if not task.text and ("tokens" in has or "words" in has) and any(tag in has for tag in TAGS):
        return TOKENS
    if task.text in PICTURES or (not task.text and any(name in has for name in PICTURES)):
        return IMAGES
    return "auto"


def _one(table: Table, wanted: str, usual: tuple[str, ...], role: str) -> str:
    """Return the wanted column, else the first usual name the table has."""
    if wanted:
        return wanted
    found = next((name for name in usual if name in table.columns), "")
    if not found:
        raise DataError(
            f"{table.name} has no column named {' or '.join(usual)}: it has "
            f"{labels.listing(list(table.columns))}; set task.{role} to the right one."
        )
    return found


def _texts(table: Table, task: TaskSpec) -> tuple[str, str]:
    """Return the text column and the pair column, which may be "" for one sentence."""
    if task.text:
        partner = next((b for a, b in PAIRS if a == task.text and b in table.columns), "")
        return task.text, task.pair or partner
    for first, second in PAIRS:
        if first in table.columns and second in table.columns:
            return first, task.pair or second
    return _one(table, "", SINGLES, "text"), task.pair


def require(table: Table, columns: Columns) -> None:
    """Check that another split has the columns that the train split settled.

    Args:
        table: the split.
        columns: settled columns.

    Raises:
        DataError: one of them is absent.
    """
    for name in (columns.text, columns.pair, columns.label):
        if name and name not in table.columns:
            raise DataError(
                f"{table.name} lacks the column '{name}' that the train split has; it has "
                f"{labels.listing(list(table.columns))}: give all splits the same columns."
            )


def texts(table: Table, column: str) -> list[str]:
    """Return a text column after checking that every cell is text.

    Args:
        table: the split.
        column: column name.

    Returns:
        One text per row.

    Raises:
        DataError: a cell is missing or is not text.
    """
    values: list[Any] = table.columns[column]
    bad = next((i for i, value in enumerate(values) if not isinstance(value, str)), None)
    if bad is not None:
        given = "missing" if values[bad] is None else f"{type(values[bad]).__name__} {str(values[bad])[:40]}"
        raise DataError(f"The text in {table.place(bad, column)}, is {given}; every row needs text there.")
    return values
