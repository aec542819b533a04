"""Tidy tables with declared columns: the same columns and types whether there is much or nothing to show."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import LabError
from analysis.store import events, layout

log = logging.getLogger(__name__)

Columns = Mapping[str, str]
UNREADABLE = (LabError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def table(columns: Columns, rows: Iterable[Mapping[str, Any]] | Mapping[str, Any] = ()) -> pd.DataFrame:
    """Builds a frame with exactly the declared columns and types.

    Args:
        columns: column name to dtype: "str", "bool", "int64", "int32", "float64", "float32".
        rows: records, or a mapping of column name to values. What is missing or not a number becomes NaN,
            "", False or 0.

    Returns:
        a new frame, index 0, 1, 2, …
    """
    if isinstance(rows, Mapping):
        data = {name: rows.get(name) for name in columns}
        length = max((len(v) for v in data.values() if v is not None), default=0)
        data = {name: [None] * length if v is None else v for name, v in data.items()}
    else:
        records = list(rows)
        data = {name: [r.get(name) for r in records] for name in columns}
    return pd.DataFrame({name: _cast(data[name], dtype) for name, dtype in columns.items()})


def _cast(values: Any, dtype: str) -> Any:
    if isinstance(values, np.ndarray) and values.dtype != object and dtype != "str":
        return values.astype(dtype)
    if dtype == "str":
        return pd.Series(["" if v is None else str(v) for v in values], dtype="str")
    if dtype == "bool":
        return np.array([v is True or (isinstance(v, np.bool_) and bool(v)) for v in values], dtype=bool)
    numbers = np.array([number(v) for v in values], dtype=np.float64)
    return numbers.astype(dtype) if dtype.startswith("float") else np.nan_to_num(numbers).astype(dtype)


def number(value: Any) -> float:
    """Returns a finite or infinite number as float; anything else (text, None, a list) as NaN."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def read_events(run_path: Path, *kinds: str) -> list[dict[str, Any]]:
    """Reads the whole lines of a run's event file; a torn or foreign line is left out.

    Args:
        run_path: folder of the run.
        kinds: kinds of event wanted, such as "loss"; none for all.

    Returns:
        the rows in the order written.
    """
    rows: list[dict[str, Any]] = []
    offset, before = 0, -1
    while offset != before:  # one read takes at most a bounded stretch of the file
        before = offset
        try:
            found = events.tail(Path(run_path) / "events.jsonl", offset, kinds or None)
        except UNREADABLE as error:
            log.info("events of %s cannot be read: %s", run_path, error)
            break
        if found.rewound_to is not None:
            rows = [r for r in rows if not events.is_void(r, found.rewound_to)]
        rows += found.rows
        offset = found.offset
    return rows


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; a missing or damaged file is an empty one."""
    try:
        found = layout.read_json(path)
    except UNREADABLE as error:
        log.info("%s cannot be read: %s", path, error)
        return {}
    return found if isinstance(found, dict) else {}
