"""Extractive question answering in flat SQuAD form.

Long contexts are read in overlapping windows; the answer is the best span over all windows of a question.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.engine import columns as cols
from analysis.engine import metrics
from analysis.engine.columns import Columns
from analysis.engine.files import Table
from analysis.engine.splits import Inputs, Ragged, Split, pad_id
from analysis.errors import DataError

LONGEST_QUESTION = 64
LONGEST_OVERLAP = 128
PART = 512


def check(tables: list[Table], columns: Columns) -> list[Table]:
    """Check questions, contexts and answers of a source.

    Args:
        tables: splits of the source.
        columns: settled columns; answers are {"text": […], "answer_start": […]} per row.

    Returns:
        The tables, answers as lists of (text, first character).

    Raises:
        DataError: a row without text, without answer, or whose first answer is not in the context where it
            says.
    """
    checked: list[Table] = []
    for table in tables:
        contexts = cols.texts(table, columns.pair)
        cols.texts(table, columns.text)
        answers = [_answers(table, columns, index) for index in range(len(table))]
        for index, given in enumerate(answers):
            text, start = given[0]
            if contexts[index][start : start + len(text)] != text or start < 0:
                raise DataError(
                    f"The answer {text[:40]!r} in {table.place(index, columns.label)}, does not begin at "
                    f"character {start} of its context; answer_start counts characters from 0."
                )
        checked.append(table.replaced(columns.label, answers))
    return checked


def _answers(table: Table, columns: Columns, index: int) -> list[tuple[str, int]]:
    """Return the answers of one row."""
    cell = table.columns[columns.label][index]
    texts: Any = cell.get("text") if isinstance(cell, dict) else None
    starts: Any = cell.get("answer_start") if isinstance(cell, dict) else None
    good = (
        isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts) and len(texts) > 0
    )
    if not good or not all(isinstance(t, str) for t in texts) or not all(type(s) is int for s in starts):
        raise DataError(
            f"The answers in {table.place(index, columns.label)}, are {str(cell)[:60]}; every row needs at "
            "least one, as "
            '{"text": ["…"], "answer_start": [0]}.'
        )
    return list(zip(texts, starts, strict=True))


@dataclass(frozen=True)
class Windows:
    """Tokenised windows over the contexts of a split.

    Args:
        inputs: model inputs of m windows.
        example: which question each window belongs to, int64 [m].
        begin, end: characters of the context that each token covers, -1 outside the context.
        first, last: token positions of the answer, or of the first token where the window does not hold it,
            int64 [m].
    """

    inputs: Inputs
    example: np.ndarray
    begin: Ragged
    end: Ragged
    first: np.ndarray
    last: np.ndarray


class AnswerSplit(Split):
    """Questions over contexts; an item is a window, and a long context has several.

    Args:
        name: split name.
        source: one row per question.
        columns: settled columns.
        tokenizer: fast tokenizer.
        max_length: window length in tokens.
    """

    def __init__(self, name: str, source: Table, columns: Columns, tokenizer: Any, max_length: int) -> None:
        super().__init__(name, source)
        self.contexts: list[str] = source.columns[columns.pair]
        self.answers: list[list[tuple[str, int]]] = source.columns[columns.label]
        self._questions = source.columns[columns.text]
        self._tokenizer, self._max_length = tokenizer, max_length

    def __len__(self) -> int:
        return len(self.windows.example)

    @property
    def rows(self) -> np.ndarray:
        """Row number in the file of every window, int32 [m]."""
        return self.source.rows[self.windows.example]

    @property
    def lengths(self) -> np.ndarray:
        """Length of every window in tokens, int32 [m]."""
        return self.windows.inputs.ids.lengths

    @cached_property
    def windows(self) -> Windows:
        """All windows, tokenised at first use."""
        stride = min(LONGEST_OVERLAP, self._max_length // 3)
        found: dict[str, list[Any]] = {
            "input_ids": [],
            "token_type_ids": [],
            "begin": [],
            "end": [],
            "example": [],
        }
        for start in range(0, len(self.source), PART):
            questions = [self._shortened(text) for text in self._questions[start : start + PART]]
            encoded = self._tokenizer(
                questions,
                self.contexts[start : start + PART],
                truncation="only_second",
                max_length=self._max_length,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            found["input_ids"].extend(encoded["input_ids"])
            found["token_type_ids"].extend(encoded.get("token_type_ids", []))
            found["example"].extend(start + i for i in encoded["overflow_to_sample_mapping"])
            for window, offsets in enumerate(encoded["offset_mapping"]):
                inside = [part == 1 for part in encoded.sequence_ids(window)]
                found["begin"].append([a if yes else -1 for (a, _), yes in zip(offsets, inside, strict=True)])
                found["end"].append([b if yes else -1 for (_, b), yes in zip(offsets, inside, strict=True)])
        return self._joined(found)

    def _joined(self, found: dict[str, list[Any]]) -> Windows:
        """Join what the tokenizer returned, and find the answers in it."""
        keys = ("input_ids", "token_type_ids") if found["token_type_ids"] else ("input_ids",)
        spans = [
            self._span(np.asarray(begin), np.asarray(end), example)
            for begin, end, example in zip(found["begin"], found["end"], found["example"], strict=True)
        ]
        first, last = np.asarray(spans, dtype=np.int64).T
        return Windows(
            Inputs.of({key: found[key] for key in keys}, pad_id(self._tokenizer)),
            np.asarray(found["example"], dtype=np.int64),
            Ragged.of(found["begin"]),
            Ragged.of(found["end"]),
            first,
            last,
        )

    def _shortened(self, question: str) -> str:
        """Cut a question that would leave no room for the context."""
        question = question.strip()
        most = min(LONGEST_QUESTION, self._max_length // 3)
        if len(question) <= most:
            return question
        spans = self._tokenizer(
            question, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        return question if len(spans) <= most else question[: spans[most - 1][1]]

    def _span(self, begin: np.ndarray, end: np.ndarray, example: int) -> tuple[int, int]:
        """Return the tokens that cover the first answer, or (0, 0) when the window lacks part of it."""
        text, start = self.answers[example][0]
        stop = start + len(text)
        inside = np.flatnonzero(begin >= 0)
        if len(inside) == 0 or begin[inside[0]] > start or end[inside[-1]] < stop:
            return 0, 0
        first = inside[int(np.searchsorted(begin[inside], start, side="right")) - 1]
        last = inside[min(int(np.searchsorted(end[inside], stop, side="left")), len(inside) - 1)]
        return int(first), int(max(first, last))

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return padded inputs, "start_positions" and "end_positions", int64 [b].

        Args:
            indices: windows in [0, m), int [b].

        Returns:
            Arguments of the model's forward.
        """
        indices = np.asarray(indices)
        fields = self.windows.inputs.batch(indices, pad_id(self._tokenizer))
        fields["start_positions"] = torch.from_numpy(self.windows.first[indices])
        fields["end_positions"] = torch.from_numpy(self.windows.last[indices])
        return fields


def floor(split: AnswerSplit) -> tuple[float, str]:
    """Return the F1 of answering every question with the first word of its context, measured on the split.

    Args:
        split: the test split.

    Returns:
        (fraction, sentence part).
    """
    guesses = [(context.split() or [""])[0] for context in split.contexts]
    _, overlap = metrics.answer_scores(guesses, [[text for text, _ in answers] for answers in split.answers])
    return float(overlap.mean()), "always the first word of the context"
