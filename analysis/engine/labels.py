"""Labels: parsed, checked against the range that the train file shows, turned into ids or numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.engine.files import Table
from analysis.errors import DataError

SHOWN = 8


def listing(values: Sequence[object]) -> str:
    """Write values for an error sentence, at most SHOWN of them.

    Args:
        values: anything with a short text form.

    Returns:
        Text such as "0, 1, 2" or "a, b, … (77 in all)".
    """
    text = ", ".join(str(value) for value in values[:SHOWN])
    return f"{text}, … ({len(values)} in all)" if len(values) > SHOWN else text


def missing(value: object) -> bool:
    """Say whether a label cell holds nothing.

    Args:
        value: the cell.

    Returns:
        True for None, NaN and blank text.
    """
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def hidden(value: object) -> bool:
    """Say whether a label cell stands for a label that is kept back.

    Args:
        value: the cell.

    Returns:
        True for a missing value, -1, a list of such values, and answers without a text.
    """
    if isinstance(value, dict):
        return not value.get("text")
    if isinstance(value, list):
        return all(hidden(item) for item in value)
    return missing(value) or value in (-1, "-1")


def unlabelled(table: Table, column: str) -> bool:
    """Say whether a split carries no labels, as the hidden test sets of public benchmarks do.

    Args:
        table: the split.
        column: label column.

    Returns:
        True when the column is absent, or every cell is hidden.
    """
    values = table.columns.get(column)
    return values is None or all(hidden(value) for value in values)


def _number(text: str) -> float | None:
    """Return the number a text spells, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def parse(table: Table, column: str) -> tuple[str, list[Any]]:
    """Give all labels of a column one type.

    Args:
        table: the split.
        column: label column; numbers may be spelled as text, as they are in .csv and .tsv files.

    Returns:
        ("int" | "float" | "text", values); whole numbers written as 1.0 count as int.

    Raises:
        DataError: a cell is missing, is a list or object, or mixes text with numbers.
    """
    raw = table.columns[column]
    values: list[Any] = []
    for index, value in enumerate(raw):
        if missing(value):
            raise DataError(
                f"The label in {table.place(index, column)}, is missing; fill it in or remove the row."
            )
        if not isinstance(value, (str, int, float)):
            raise DataError(
                f"The label in {table.place(index, column)}, is {type(value).__name__} {str(value)[:40]!r}; "
                "a label is a whole number, a decimal number or a name."
            )
        values.append(_number(value) if isinstance(value, str) else value)
    words = [index for index, value in enumerate(values) if value is None]
    if words and 2 * len(words) > len(values):
        odd = next((i for i, value in enumerate(raw) if not isinstance(value, str)), None)
        if odd is not None:
            raise _mixed(table, column, odd, "the other labels are names")
        return "text", [str(value) for value in raw]
    if words:
        raise _mixed(table, column, words[0], "the other labels are numbers")
    if all(float(value).is_integer() for value in values if math.isfinite(value)):
        infinite = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
        if infinite is None:
            return "int", [int(value) for value in values]
    return "float", [float(value) for value in values]


def _mixed(table: Table, column: str, index: int, others: str) -> DataError:
    """Say that one label is of another type than the rest."""
    value = table.columns[column][index]
    return DataError(
        f"The label {value!r} in {table.place(index, column)}, is of another type: {others}; use one type "
        "throughout."
    )


def numbers(tables: Sequence[Table], column: str) -> list[np.ndarray]:
    """Return the labels of a regression task.

    Args:
        tables: the splits.
        column: label column.

    Returns:
        One float32 array [n] per split.

    Raises:
        DataError: a label is missing, not a number, or not finite.
    """
    found: list[np.ndarray] = []
    for table in tables:
        kind, values = parse(table, column)
        bad = next((i for i, v in enumerate(values) if kind == "text" or not math.isfinite(v)), None)
        if bad is not None:
            raise DataError(
                f"The label {table.columns[column][bad]!r} in {table.place(bad, column)}, is not a finite "
                "number; regression needs numbers, or set task.kind to classification."
            )
        found.append(np.asarray(values, dtype=np.float32))
    return found


def classes(tables: Sequence[Table], column: str) -> tuple[list[str], list[np.ndarray]]:
    """Return class names and class ids; the first table, the train split, declares what is allowed.

    Args:
        tables: the splits, train first.
        column: label column.

    Returns:
        (label names [c], one int64 array [n] of ids in [0, c) per split).

    Raises:
        DataError: one class only, a class seen once, a gap in whole-number labels, or a label that train
            does not show.
    """
    train = tables[0]
    kind, values = parse(train, column)
    if kind == "float":
        odd = next(i for i, value in enumerate(values) if not float(value).is_integer())
        raise DataError(
            f"The label {values[odd]} in {train.place(odd, column)}, is a decimal number, which is no class; "
            "set task.kind to regression, or use whole numbers or names."
        )
    declared = train.names.get(column, []) if kind == "int" else []
    distinct = sorted(set(values))
    if declared:
        allowed: list[Any] = list(range(len(declared)))
    else:
        _check_classes(train, column, kind, values, distinct)
        allowed = distinct
    lookup = {value: index for index, value in enumerate(allowed)}
    ids = [_ids(table, column, kind, lookup, train.name) for table in tables]
    return declared or [str(value) for value in allowed], ids


def _check_classes(train: Table, column: str, kind: str, values: list[Any], distinct: list[Any]) -> None:
    """Refuse a train column that cannot declare a range of classes."""
    if len(distinct) == 1:
        raise DataError(
            f"Column '{column}' of {train.name} holds one class only ({distinct[0]!r} in all {len(values)} "
            "rows); a classifier needs at least two."
        )
    if kind == "int":
        stray = next((value for index, value in enumerate(distinct) if value != index), None)
        if stray is not None:
            hole = f"no row has {distinct.index(stray)}" if stray >= 0 else "it is negative"
            raise DataError(
                f"The label {stray} in {train.place(values.index(stray), column)}, is outside the range: "
                f"whole-number labels must be 0, 1, 2, … without a gap and {hole}; correct it, or write "
                "names instead of numbers."
            )
    counts = dict.fromkeys(distinct, 0)
    for value in values:
        counts[value] += 1
    once = next((value for value in distinct if counts[value] == 1), None)
    if once is not None:
        raise DataError(
            f"The label {once!r} in {train.place(values.index(once), column)}, occurs only once, outside the "
            f"range of the others ({listing([v for v in distinct if v != once])}); correct it, remove the "
            "row, or add rows of it."
        )


def _ids(table: Table, column: str, kind: str, lookup: dict[Any, int], source: str) -> np.ndarray:
    """Turn one split's labels into class ids."""
    found, values = parse(table, column)
    ids = np.empty(len(values), dtype=np.int64)
    for index, value in enumerate(values):
        number = lookup.get(value, -1) if found == kind else -1
        if number < 0:
            raise DataError(
                f"The label {value!r} in {table.place(index, column)}, is outside the range: {source} has "
                f"{listing(list(lookup))}; correct it or remove the row."
            )
        ids[index] = number
    return ids
