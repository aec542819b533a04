"""What was found so far, on disk: a few tensors to a part, so that a process that is killed goes on there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.engine.inspect.layouts import Tensor
from analysis.engine.inspect.structure import BLOCK, GROUPS, Structure
from analysis.engine.inspect.values import QUANTILES, Found
from analysis.store import arrays

LEVELS = tuple(f"q{round(100 * q):02d}" for q in QUANTILES)
MOST = tuple(f"most{m:02d}" for m in GROUPS)
NUMBERS = (
    "number", "zeros", "nonfinite", "min", "max", "mean", "std", "rows", "rows_empty", "cols", "cols_empty",
    "heads_empty", "blocks32", "blocks32_empty", *LEVELS, *MOST,
)  # fmt: skip
LISTS = {"value": "float32", "count": "int64", "row": "uint8", "col": "uint8"}
EVERY = 1.0  # seconds between two parts at first
SHARE = 0.05  # and this share of the time so far later: a long file must not leave thousands of parts


@dataclass
class Parts:
    """The parts of one inspection.

    Attributes:
        folder: where they are; made when something is written.
        numbers: the tensors that are in them.
    """

    folder: Path
    numbers: set[int] = field(default_factory=set)
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _lists: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in LISTS})
    _last: float = 0.0

    @classmethod
    def load(cls, folder: Path) -> Parts:
        """Finds what an earlier process left; a part that cannot be read is taken away and read again."""
        found = cls(folder)
        for file in sorted(folder.glob("*.npz")):
            try:
                found.numbers |= set(arrays.load_arrays(file, ["number"])["number"].tolist())
            except (OSError, ValueError, KeyError):
                file.unlink(missing_ok=True)
                file.with_suffix(".parquet").unlink(missing_ok=True)
        return found

    def forget(self) -> None:
        """Takes all parts away: they are of another file."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.numbers.clear()

    def add(self, number: int, tensor: Tensor, found: Found) -> None:
        """Takes what was found in a tensor, by its number among all."""
        row = {"number": number, **found.tally.summary()}
        row |= dict(zip(LEVELS, row.pop("quantiles") or [None] * len(LEVELS), strict=True))
        seen = found.structure
        if seen is not None:
            row |= self._structure(tensor, seen)
        values, counts = found.tally.histogram()
        none = np.zeros(0, dtype=np.uint8)
        used = (none, none) if seen is None else (arrays.pack(seen.row_used), arrays.pack(seen.col_used))
        for name, array in zip(LISTS, (values, counts, *used), strict=True):
            self._lists[name].append(array)
        self._rows.append(row)

    def _structure(self, tensor: Tensor, seen: Structure) -> dict[str, Any]:
        rows, cols = seen.row_used, seen.col_used
        out = {
            "rows": rows.size,
            "rows_empty": int(rows.size - np.count_nonzero(rows)),
            "cols": cols.size,
            "cols_empty": int(cols.size - np.count_nonzero(cols)),
            "heads_empty": tensor.heads_empty(rows, cols),
        }
        if seen.square:
            out |= {"blocks32": -(-rows.size // BLOCK) * -(-cols.size // BLOCK)}
            out |= {"blocks32_empty": seen.blocks_empty}
        return out | {f"most{m:02d}": most for m, most in seen.most.items()}

    def flush(self, seconds: float) -> None:
        """Writes a part when it is time for one.

        Args:
            seconds: how long the reading has taken; ∞ writes what there is.
        """
        if not self._rows or seconds < self._last + max(EVERY, SHARE * seconds if seconds < 1e9 else 0):
            return
        self.folder.mkdir(exist_ok=True)
        numbers = [row["number"] for row in self._rows]
        file = self.folder / f"{min(numbers):06d}.npz"
        columns = {name: [row.get(name) for row in self._rows] for name in NUMBERS}
        # The arrays last: a part counts as there when they are.
        arrays.save_table(file.with_suffix(".parquet"), columns)
        packed = {"number": np.array(numbers)}
        for name, kind in LISTS.items():
            one = arrays.ragged(self._lists[name], kind)
            packed |= {name: one["data"], f"{name}_ends": one["ends"]}
        arrays.save_arrays(file, packed)
        self.numbers |= set(numbers)
        self._rows, self._lists, self._last = [], {name: [] for name in LISTS}, seconds


def histograms(folder: Path) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields number, values and counts of every tensor in the parts of an inspection."""
    for file in sorted(folder.glob("*.npz")):
        yield from arrays.load_ragged(file, "value", "count")
