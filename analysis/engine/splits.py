"""A split ready for a model: padded batches by position, lengths, labels and the row numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.engine.files import Table

PART = 2048


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one array.

    Args:
        values: all rows joined, int32 [sum of lengths].
        starts: where each row begins, int64 [n + 1].
    """

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Join rows.

        Args:
            rows: n sequences of integers.

        Returns:
            The joined rows.
        """
        starts = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        values = np.fromiter((item for row in rows for item in row), dtype=np.int32, count=int(starts[-1]))
        return cls(values, starts)

    @property
    def lengths(self) -> np.ndarray:
        """Length of every row, int32 [n]."""
        return np.diff(self.starts).astype(np.int32)

    def row(self, index: int) -> np.ndarray:
        """Return one row, int32 [its length]."""
        return self.values[self.starts[index] : self.starts[index + 1]]

    def pad(self, indices: np.ndarray, fill: int) -> tuple[np.ndarray, np.ndarray]:
        """Stack rows, filled up to the longest of them.

        Args:
            indices: positions, int [b].
            fill: value after the end of a row.

        Returns:
            (values int64 [b, longest], inside bool [b, longest]).
        """
        begins = self.starts[indices]
        lengths = self.starts[np.asarray(indices) + 1] - begins
        reach = np.arange(int(lengths.max(initial=0)))
        inside = reach < lengths[:, None]
        at = np.where(inside, begins[:, None] + reach, 0)
        return np.where(inside, self.values[at], fill).astype(np.int64), inside


@dataclass(frozen=True)
class Inputs:
    """Tokenised rows.

    Args:
        ids: token ids.
        types: segment ids of two-part inputs, or None.
    """

    ids: Ragged
    types: Ragged | None

    @classmethod
    def of(cls, encoded: Mapping[str, Sequence[Sequence[int]]], spare: int) -> Inputs:
        """Collect what a tokenizer returned.

        Args:
            encoded: "input_ids" and perhaps "token_type_ids", one list per row.
            spare: token that stands for an input without any token.

        Returns:
            The joined rows; segment ids only when a row has more than one segment.
        """
        ids = Ragged.of([row or [spare] for row in encoded["input_ids"]])
        if "token_type_ids" not in encoded:
            return cls(ids, None)
        types = Ragged.of([row or [0] for row in encoded["token_type_ids"]])
        return cls(ids, types if bool(types.values.any()) else None)

    def batch(self, indices: np.ndarray, pad: int) -> dict[str, Tensor]:
        """Return padded model inputs.

        Args:
            indices: positions, int [b].
            pad: id of the padding token.

        Returns:
            "input_ids", "attention_mask" and perhaps "token_type_ids", int64 [b, longest].
        """
        values, inside = self.ids.pad(indices, pad)
        fields = {
            "input_ids": torch.from_numpy(values),
            "attention_mask": torch.from_numpy(inside.astype(np.int64)),
        }
        if self.types is not None:
            fields["token_type_ids"] = torch.from_numpy(self.types.pad(indices, 0)[0])
        return fields


class Split:
    """Base of all splits; subclasses say how rows become model inputs.

    Args:
        name: "train", "validation" or "test".
        source: rows the split was made from.
    """

    def __init__(self, name: str, source: Table) -> None:
        self.name = name
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    @property
    def rows(self) -> np.ndarray:
        """Row number in the file of every item, counted from 0, int32 [n]."""
        return self.source.rows

    @property
    def lengths(self) -> np.ndarray:
        """Input length of every item in tokens, int32 [n]; 1 where inputs have no length."""
        return np.ones(len(self), dtype=np.int32)

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return model inputs and labels of the items at some positions, padded to the longest of them."""
        raise TypeError(f"{type(self).__name__} does not say how to build a batch.")


class TextSplit(Split):
    """One or two texts and one label per row; tokenised at first use, once.

    Args:
        name: split name.
        source: rows.
        texts: one or two lists of n texts.
        labels: int64 class ids or float32 numbers, [n].
        tokenizer: fast tokenizer.
        max_length: longest input in tokens.
    """

    def __init__(
        self,
        name: str,
        source: Table,
        texts: Sequence[list[str]],
        labels: np.ndarray,
        tokenizer: Any,
        max_length: int,
    ) -> None:
        super().__init__(name, source)
        self.labels = labels
        self._texts, self._tokenizer, self._max_length = texts, tokenizer, max_length

    @cached_property
    def inputs(self) -> Inputs:
        """All rows tokenised."""
        found: dict[str, list[list[int]]] = {}
        for start in range(0, len(self), PART):
            parts = [column[start : start + PART] for column in self._texts]
            encoded = self._tokenizer(
                *parts,
                truncation=True,
                max_length=self._max_length,
                return_attention_mask=False,
                verbose=False,
                **({} if len(parts) == 2 else {"return_token_type_ids": False}),
            )
            for key, rows in encoded.items():
                found.setdefault(key, []).extend(rows)
        return Inputs.of(found, pad_id(self._tokenizer))

    @property
    def lengths(self) -> np.ndarray:
        """Input length of every item in tokens, int32 [n]."""
        return self.inputs.ids.lengths

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return padded inputs and "labels", int64 or float32 [b].

        Args:
            indices: positions in [0, n), int [b].

        Returns:
            Arguments of the model's forward.
        """
        indices = np.asarray(indices)
        fields = self.inputs.batch(indices, pad_id(self._tokenizer))
        fields["labels"] = torch.from_numpy(self.labels[indices])
        return fields


def pad_id(tokenizer: Any) -> int:
    """Return the id that fills up short inputs.

    Args:
        tokenizer: any tokenizer.

    Returns:
        Its padding token, else its end-of-text token, else 0.
    """
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.eos_token_id) if tokenizer.eos_token_id is not None else 0
