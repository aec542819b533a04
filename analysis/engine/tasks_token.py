"""Token classification: one tag per word, learnt on the word's first sub-word."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.engine import metrics
from analysis.engine.columns import Columns
from analysis.engine.files import Table
from analysis.engine.labels import listing
from analysis.engine.splits import PART, Inputs, Ragged, Split, pad_id
from analysis.errors import DataError

IGNORED = -100
OUTSIDE = "O"
ENTITY = re.compile(r"O|[BIESLU]-.+")


def check(tables: list[Table], columns: Columns) -> tuple[list[str], list[Table]]:
    """Check words and tags of a source, and replace tags by ids.

    Args:
        tables: splits of the source, train first; the tags of train declare what is allowed, unless the
            source does.
        columns: settled columns.

    Returns:
        (tag names, sorted with O first, the tables with lists of ids as tags).

    Raises:
        DataError: a row without a list of words, with another number of tags, or with a tag that train does
            not have.
    """
    for table in tables:
        for index in range(len(table)):
            _check_row(table, columns, index)
    train = tables[0]
    seen = {tag for tags in train.columns[columns.label] for tag in tags}
    kinds = {type(tag) for tag in seen}
    if len(kinds) > 1 or not kinds <= {str, int}:
        raise DataError(
            f"Column '{columns.label}' of {train.name} mixes tags of types "
            f"{listing(sorted(k.__name__ for k in kinds))}; write all tags as text, such as B-PER."
        )
    names, lookup = _names(train, columns, seen)
    if len(names) < 2:
        raise DataError(
            f"Column '{columns.label}' of {train.name} holds one tag only ({names[0]}); two are needed to "
            "learn."
        )
    return names, [_replaced(table, columns, lookup, train.name) for table in tables]


def _names(train: Table, columns: Columns, seen: set[Any]) -> tuple[list[str], dict[Any, int]]:
    """Return tag names and the id of every tag that is allowed."""
    declared = train.names.get(columns.label, [])
    if declared:
        return declared, {index: index for index in range(len(declared))}
    ordered = sorted(seen, key=lambda tag: (tag != OUTSIDE, tag))
    return [str(tag) for tag in ordered], {tag: index for index, tag in enumerate(ordered)}


def _check_row(table: Table, columns: Columns, index: int) -> None:
    """Refuse a row whose words and tags are not two lists of one length."""
    words, tags = table.columns[columns.text][index], table.columns[columns.label][index]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise DataError(
            f"The words in {table.place(index, columns.text)}, are {str(words)[:40]}; every row needs a list "
            "of words there, which .jsonl and .parquet files can hold."
        )
    if not isinstance(tags, list) or len(tags) != len(words):
        given = f"{len(tags)} tags" if isinstance(tags, list) else f"{str(tags)[:40]}"
        raise DataError(
            f"The tags in {table.place(index, columns.label)}, are {given} for {len(words)} words; give one "
            "tag per word."
        )


def _replaced(table: Table, columns: Columns, lookup: dict[Any, int], source: str) -> Table:
    """Return the table with tag ids."""
    ids: list[list[int]] = []
    for index, tags in enumerate(table.columns[columns.label]):
        odd = next((tag for tag in tags if tag not in lookup), None)
        if odd is not None:
            raise DataError(
                f"The tag {odd!r} in {table.place(index, columns.label)}, is outside the range: {source} has "
                f"{listing(list(lookup))}; correct it or remove the row."
            )
        ids.append([lookup[tag] for tag in tags])
    return table.replaced(columns.label, ids)


def entity_tags(names: list[str]) -> bool:
    """Say whether tags mark entities, so that whole entities can be scored.

    Args:
        names: tag names.

    Returns:
        True when all are O or B-, I-, E-, S-, L-, U- tags.
    """
    return OUTSIDE in names and all(ENTITY.fullmatch(name) for name in names)


def floor(split: TagSplit, names: list[str]) -> tuple[float, str]:
    """Return the main metric of a predictor that gives every word the same tag, and what it does.

    Args:
        split: the test split.
        names: tag names.

    Returns:
        (fraction, sentence part).
    """
    if entity_tags(names):
        return 0.0, "no entity anywhere"
    counts = Counter(tag for tags in split.tags for tag in tags)
    return max(counts.values()) / sum(counts.values()), "always the most frequent tag"


class TagSplit(Split):
    """Words and tags; tokenised at first use, once.

    Args:
        name: split name.
        source: rows, with lists of tag ids as tags.
        columns: settled columns.
        tokenizer: fast tokenizer.
        max_length: longest input in tokens; words beyond it are neither learnt nor predicted.
    """

    def __init__(self, name: str, source: Table, columns: Columns, tokenizer: Any, max_length: int) -> None:
        super().__init__(name, source)
        self.tags: list[list[int]] = source.columns[columns.label]
        self._words = source.columns[columns.text]
        self._tokenizer, self._max_length = tokenizer, max_length

    @cached_property
    def inputs(self) -> Inputs:
        """All rows tokenised."""
        return self._encoded[0]

    @cached_property
    def words(self) -> Ragged:
        """Number of the word that each token begins, IGNORED for every other token."""
        return self._encoded[1]

    @cached_property
    def _encoded(self) -> tuple[Inputs, Ragged]:
        """Tokenise all rows, remembering which token begins which word."""
        ids: list[list[int]] = []
        firsts: list[list[int]] = []
        for start in range(0, len(self), PART):
            encoded = split_words(self._tokenizer)(
                self._words[start : start + PART],
                is_split_into_words=True,
                truncation=True,
                max_length=self._max_length,
                return_attention_mask=False,
                verbose=False,
            )
            ids.extend(encoded["input_ids"])
            firsts.extend(_firsts(encoded.word_ids(i)) for i in range(len(encoded["input_ids"])))
        blank = [first or [IGNORED] for first in firsts]
        return Inputs.of({"input_ids": ids}, pad_id(self._tokenizer)), Ragged.of(blank)

    @property
    def lengths(self) -> np.ndarray:
        """Input length of every item in tokens, int32 [n]."""
        return self.inputs.ids.lengths

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return padded inputs and "labels" int64 [b, longest], IGNORED wherever no word begins.

        Args:
            indices: positions in [0, n), int [b].

        Returns:
            Arguments of the model's forward.
        """
        indices = np.asarray(indices)
        fields = self.inputs.batch(indices, pad_id(self._tokenizer))
        words, _ = self.words.pad(indices, IGNORED)
        wanted = np.full(words.shape, IGNORED, dtype=np.int64)
        for line, index in enumerate(indices):
            begins = words[line] >= 0
            wanted[line, begins] = np.asarray(self.tags[index])[words[line, begins]]
        fields["labels"] = torch.from_numpy(wanted)
        return fields


def _firsts(words: list[int | None]) -> list[int]:
    """Keep a word's number at its first token only."""
    found, last = [], None
    for word in words:
        found.append(IGNORED if word is None or word == last else word)
        last = word
    return found


def split_words(tokenizer: Any) -> Any:
    """Return a tokenizer that accepts lists of words.

    Args:
        tokenizer: fast tokenizer.

    Returns:
        The same one, or for byte-level tokenizers a copy that puts the space before each word that they
        expect.
    """
    if getattr(tokenizer, "add_prefix_space", True):
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        tokenizer.name_or_path, add_prefix_space=True, local_files_only=True, trust_remote_code=False
    )


class TagScorer:
    """Collects one tag per word and scores whole entities, or words where tags are no entity tags.

    Args:
        split: the split.
        names: tag names.
    """

    def __init__(self, split: TagSplit, names: list[str]) -> None:
        self._split, self._names = split, names
        default = names.index(OUTSIDE) if OUTSIDE in names else 0
        self._found = [np.full(len(tags), default, dtype=np.int32) for tags in split.tags]
        self._chances = [np.full(len(tags), np.nan, dtype=np.float32) for tags in split.tags]
        self._finite = True

    def add(self, indices: np.ndarray, outputs: Any, batch: dict[str, Tensor]) -> None:
        """Take the outputs of one batch.

        Args:
            indices: positions in the split, int [b].
            outputs: model outputs with `logits` [b, tokens, tags].
            batch: the inputs that gave them.
        """
        logits = outputs.logits.float().cpu()
        confidence, tags = torch.softmax(logits, dim=-1).max(dim=-1)
        words, _ = self._split.words.pad(indices, IGNORED)
        for line, index in enumerate(indices):
            at = np.flatnonzero(words[line] >= 0)
            self._found[index][words[line, at]] = tags[line].numpy()[at]
            self._chances[index][words[line, at]] = confidence[line].numpy()[at]
            self._finite &= bool(torch.isfinite(logits[line, torch.from_numpy(at)]).all())

    def result(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return metrics and one prediction per word; words beyond the longest input count as predicted O."""
        right = [np.asarray(tags, dtype=np.int32) for tags in self._split.tags]
        joined, found = np.concatenate(right), np.concatenate(self._found)
        if entity_tags(self._names):
            scores = metrics.entities(self._named(right), self._named(self._found))
        else:
            scores = {"accuracy": float((joined == found).mean())}
        if not self._finite:
            scores = dict.fromkeys(scores, float("nan"))
        rows = np.repeat(self._split.rows, [len(tags) for tags in right])
        return scores, {
            "row": rows,
            "label": joined,
            "prediction": found,
            "confidence": np.concatenate(self._chances),
        }

    def _named(self, rows: list[np.ndarray]) -> list[list[str]]:
        """Return tag names instead of ids."""
        return [[self._names[tag] for tag in row] for row in rows]
