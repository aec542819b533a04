"""Tasks: from a task spec to splits that a model can learn from, with the main metric and its floor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from analysis.engine import answers, labels, sources, tasks_image, tasks_qa, tasks_text, tasks_token
from analysis.engine import columns as cols
from analysis.engine.model_files import wrong_input
from analysis.engine.splits import Split, pad_id
from analysis.errors import DataError
from analysis.spec import TaskSpec

log = logging.getLogger(__name__)

MAJORITY = "always the most frequent class"
NO_COLUMNS = cols.Columns("", "", "", "")
ONE_OF_MANY = "single_label_classification"


@dataclass(frozen=True)
class TaskData:
    """A task ready for training.

    Args:
        kind: "classification", "regression", "question-answering", "token-classification" or
            "image-classification".
        metric: name of the main metric; higher is better, as a fraction.
        num_labels: size of the model's head.
        label_names: class or tag names by id; empty for regression and answers.
        floor: main metric on the test split of a predictor that learnt nothing.
        floor_note: what that predictor does.
        problem_type: what transformers calls the loss, "" where it has no name.
        train, validation, test: the splits.
        max_length: longest input in tokens, 0 for images.
        pad: id of the padding token.
        columns: the columns that were used.
    """

    kind: str
    metric: str
    num_labels: int
    label_names: list[str]
    floor: float
    floor_note: str
    problem_type: str
    train: Split
    validation: Split
    test: Split
    max_length: int = 0
    pad: int = 0
    columns: cols.Columns = NO_COLUMNS


class Scorer(Protocol):
    """Takes outputs batch by batch and returns metrics and predictions at the end."""

    def add(self, indices: np.ndarray, outputs: Any, batch: dict[str, Tensor]) -> None:
        """Take the outputs of one batch of the split."""

    def result(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return metrics by name and predictions by column."""


def load_task(task: TaskSpec, tokenizer: Any) -> TaskData:
    """Read, check and cut the data of a task; texts are tokenised when a split is first used.

    Args:
        task: source, kind, columns and limits.
        tokenizer: what `load_tokenizer` returned for the model: a tokenizer, an image processor or None.

    Returns:
        The task.

    Raises:
        DataError: the data is missing or cannot be used as asked.
        ModelError: the model has no tokenizer for a text task.
    """
    files = sources.load(task.source)
    columns = cols.infer(files.train, task)
    if files.test is not None and labels.unlabelled(files.test, columns.label):
        log.info("%s has no labels and is left out", files.test.name)
        files = sources.Files(files.train, files.validation)
    for rows in files.tables():
        cols.require(rows, columns)
    builder = BUILDERS.get(columns.kind)
    if builder is None:
        raise DataError(f"task.kind is {columns.kind!r}; allowed are {', '.join(BUILDERS)}.")
    return builder(files, columns, task, tokenizer)


def _text(files: sources.Files, columns: cols.Columns, task: TaskSpec, tokenizer: Any) -> TaskData:
    """Build a sentence classification or regression task."""
    max_length = text_length(task, tokenizer)
    names, tables = tasks_text.check(files.tables(), columns)
    arranged = sources.arrange(files.replaced(tables), train_rows=task.train_rows, eval_rows=task.eval_rows)
    parts = tasks_text.splits(arranged, columns, tokenizer, max_length)
    common = _common(columns, parts, tokenizer, max_length)
    if columns.kind == cols.REGRESSION:
        note = "a constant, which correlates with nothing"
        return TaskData("regression", "pearson", 1, [], 0.0, note, "regression", **common)
    floor = tasks_text.majority(parts["test"].labels)
    return TaskData(columns.kind, "accuracy", len(names), names, floor, MAJORITY, ONE_OF_MANY, **common)


def _answers(files: sources.Files, columns: cols.Columns, task: TaskSpec, tokenizer: Any) -> TaskData:
    """Build an extractive question answering task; questions about one context stay on one side of a cut."""
    max_length = text_length(task, tokenizer)
    checked = files.replaced(tasks_qa.check(files.tables(), columns))
    arranged = sources.arrange(
        checked, group=columns.pair, train_rows=task.train_rows, eval_rows=task.eval_rows
    )
    parts = {
        name: tasks_qa.AnswerSplit(name, rows, columns, tokenizer, max_length)
        for name, rows in arranged.items()
    }
    floor, note = tasks_qa.floor(parts["test"])
    common = _common(columns, parts, tokenizer, max_length)
    return TaskData(columns.kind, "f1", 2, [], floor, note, "", **common)


def _tags(files: sources.Files, columns: cols.Columns, task: TaskSpec, tokenizer: Any) -> TaskData:
    """Build a token classification task."""
    max_length = text_length(task, tokenizer)
    names, tables = tasks_token.check(files.tables(), columns)
    arranged = sources.arrange(files.replaced(tables), train_rows=task.train_rows, eval_rows=task.eval_rows)
    parts = {
        name: tasks_token.TagSplit(name, rows, columns, tokenizer, max_length)
        for name, rows in arranged.items()
    }
    floor, note = tasks_token.floor(parts["test"], names)
    metric = "f1" if tasks_token.entity_tags(names) else "accuracy"
    common = _common(columns, parts, tokenizer, max_length)
    return TaskData(columns.kind, metric, len(names), names, floor, note, "", **common)


def _images(files: sources.Files, columns: cols.Columns, task: TaskSpec, processor: Any) -> TaskData:
    """Build an image classification task."""
    if is_tokenizer(processor):
        raise wrong_input(task.source, pictures=True)
    names, tables = tasks_image.check(files.tables(), columns)
    arranged = sources.arrange(files.replaced(tables), train_rows=task.train_rows, eval_rows=task.eval_rows)
    parts = {name: tasks_image.ImageSplit(name, rows, columns, processor) for name, rows in arranged.items()}
    floor = tasks_text.majority(parts["test"].labels)
    common = _common(columns, parts, None, 0)
    return TaskData(columns.kind, "accuracy", len(names), names, floor, MAJORITY, ONE_OF_MANY, **common)


def _common(
    columns: cols.Columns, parts: Mapping[str, Split], tokenizer: Any, max_length: int
) -> dict[str, Any]:
    """Return the fields that every kind of task fills alike."""
    pad = 0 if tokenizer is None else pad_id(tokenizer)
    return {**parts, "max_length": max_length, "pad": pad, "columns": columns}


def is_tokenizer(thing: Any) -> bool:
    """Tell a tokenizer from an image processor and from nothing.

    Args:
        thing: what `load_tokenizer` returned.

    Returns:
        True for a tokenizer.
    """
    return callable(getattr(thing, "convert_ids_to_tokens", None))


def text_length(task: TaskSpec, tokenizer: Any) -> int:
    """Return the longest input that both task and tokenizer allow.

    Args:
        task: names the wanted length.
        tokenizer: names the model's limit.

    Returns:
        A number of tokens.

    Raises:
        ModelError: there is no tokenizer.
    """
    if not is_tokenizer(tokenizer):
        raise wrong_input(task.source, pictures=False)
    return min(task.max_length, int(tokenizer.model_max_length))


def scorer(split: Split, data: TaskData) -> Scorer:
    """Return what scores a model's outputs on a split.

    Args:
        split: one of the task's splits.
        data: the task.

    Returns:
        A fresh scorer.
    """
    if data.kind == cols.REGRESSION:
        return tasks_text.ValueScorer(split)
    if isinstance(split, tasks_qa.AnswerSplit):
        return answers.AnswerScorer(split)
    if isinstance(split, tasks_token.TagSplit):
        return tasks_token.TagScorer(split, data.label_names)
    return tasks_text.ClassScorer(split, data.num_labels)


Builder = Callable[[sources.Files, cols.Columns, TaskSpec, Any], TaskData]
BUILDERS: dict[str, Builder] = {
    cols.CLASSIFICATION: _text,
    cols.REGRESSION: _text,
    cols.ANSWERS: _answers,
    cols.TOKENS: _tags,
    cols.IMAGES: _images,
}
