"""Readers: one data file (.jsonl[.gz], .tsv, .csv, .parquet) to named columns.

Every error names the file, the row, what was found and the remedy; rows are counted from 1 there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".tsv", ".csv", ".tsv.gz", ".csv.gz", ".parquet")
ALLOWED = ".jsonl, .jsonl.gz, .tsv, .csv or .parquet"
LONGEST_CELL = 1 << 24


@dataclass(frozen=True)
class Table:
    """Named columns of one file, each a list with one value per row.

    Args:
        name: file name, or what stands for it, used in error sentences.
        columns: column name to values; a missing value is None.
        rows: row number in the file of every row, counted from 0 without the header, int32 [n].
        names: label names that the source itself declares, per column; empty when it declares none.
    """

    name: str
    columns: dict[str, list[Any]]
    rows: np.ndarray
    names: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray) -> Table:
        """Return the rows at the given positions.

        Args:
            indices: positions in [0, n), any integer array [m].

        Returns:
            A table of m rows that keeps the original row numbers.
        """
        columns = {key: [values[i] for i in indices] for key, values in self.columns.items()}
        return Table(self.name, columns, self.rows[indices], self.names)

    def replaced(self, column: str, values: Sequence[Any] | np.ndarray) -> Table:
        """Return the table with one column replaced.

        Args:
            column: its name.
            values: n values.

        Returns:
            A table that shares the other columns.
        """
        return Table(self.name, {**self.columns, column: list(values)}, self.rows, self.names)

    def place(self, index: int, column: str = "") -> str:
        """Name a cell for an error sentence, counting rows from 1.

        Args:
            index: position in this table.
            column: column name, or "" for the whole row.

        Returns:
            Text such as "row 12 of train.csv, column 'label'".
        """
        text = f"row {int(self.rows[index]) + 1} of {self.name}"
        return f"{text}, column '{column}'" if column else text


def table(name: str, columns: dict[str, list[Any]], names: dict[str, list[str]] | None = None) -> Table:
    """Build a table whose rows are numbered from 0.

    Args:
        name: what to call it in error sentences.
        columns: column name to values, all of one length.
        names: declared label names per column.

    Returns:
        The table.

    Raises:
        DataError: there is no row.
    """
    count = len(next(iter(columns.values()), []))
    if count == 0:
        raise DataError(f"{name} holds no rows; give a file with at least one row per split.")
    return Table(name, columns, np.arange(count, dtype=np.int32), names or {})


def from_records(name: str, records: list[dict[str, Any]]) -> Table:
    """Turn a list of rows into columns; a key that a row lacks becomes None there.

    Args:
        name: what to call the table in error sentences.
        records: one dictionary per row.

    Returns:
        The table.

    Raises:
        DataError: there is no row.
    """
    keys = dict.fromkeys(key for record in records for key in record)
    return table(name, {key: [record.get(key) for record in records] for key in keys})


def suffix(path: Path) -> str:
    """Return the part of a file name that says its format.

    Args:
        path: a file.

    Returns:
        One of SUFFIXES, or "" when the format is none of them.
    """
    name = path.name.lower()
    return next((end for end in SUFFIXES if name.endswith(end)), "")


def read(path: Path) -> Table:
    """Read one data file.

    Args:
        path: a .jsonl, .jsonl.gz, .tsv, .csv or .parquet file.

    Returns:
        Its columns.

    Raises:
        DataError: missing, empty, unreadable, not UTF-8, of another format, or with broken rows.
    """
    end = suffix(path)
    if not end:
        raise DataError(
            f"{path.name} has a format that is not read here; give {ALLOWED}, with named columns."
        )
    if not path.is_file():
        raise DataError(
            f"{path} is not a file on this machine; check the path, or give the name of a bundled task."
        )
    if path.stat().st_size == 0:
        raise DataError(
            f"{path.name} is empty (0 bytes); give a file with named columns and at least one row."
        )
    if end == ".parquet":
        return _parquet(path)
    text = _text(path)
    return _jsonl(path.name, text) if end.startswith(".jsonl") else _delimited(path.name, text, end)


def _text(path: Path) -> str:
    """Return the decoded content of a text file, gzipped or not."""
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name} is not a complete gzip file ({error}); copy or compress it again."
        ) from error
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}); check its permissions.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        value = content[error.start]
        raise DataError(
            f"{path.name} is not UTF-8 text (byte 0x{value:02x} in line {line}); save it again as UTF-8."
        ) from error


def _jsonl(name: str, text: str) -> Table:
    """Parse one JSON object per line; blank lines are skipped."""
    records: list[dict[str, Any]] = []
    # str.splitlines would also cut at U+2028 and friends, which JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise DataError(
                f"Line {number} of {name} is not JSON ({reason}); a .jsonl file holds one JSON object on "
                "every line."
            ) from error
        if not isinstance(record, dict):
            raise DataError(
                f"Line {number} of {name} holds {_kind(record)}, not an object with named columns; "
                'write it as {"text": …, "label": …}.'
            )
        records.append(record)
    return from_records(name, records)


def _kind(value: object) -> str:
    """Name a JSON value's type in words."""
    words = {list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number"}
    return words.get(type(value), "nothing")


def _cells(name: str, text: str, end: str) -> Iterator[list[str]]:
    """Yield the rows of a delimited file; quotes mean something in .csv and nothing in .tsv."""
    csv.field_size_limit(LONGEST_CELL)
    lines = io.StringIO(text, newline="")
    if end.startswith(".csv"):
        reader = csv.reader(lines)
    else:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(
            f"Line {reader.line_num} of {name} cannot be read as {end} ({error}); save it again."
        ) from error


def _delimited(name: str, text: str, end: str) -> Table:
    """Parse a .csv or .tsv file whose first row names the columns."""
    lines = (row for row in _cells(name, text, end) if row)
    header = next(lines, [])
    if not header or len(set(header)) != len(header) or any(not cell.strip() for cell in header):
        raise DataError(f"The first row of {name} must name every column once; it holds {header[:8]}.")
    body: list[list[str]] = []
    for row in lines:
        if len(row) != len(header):
            raise DataError(
                f"Row {len(body) + 1} of {name} has {len(row)} cells but the header names {len(header)} "
                f"({', '.join(header[:8])}); repair that row."
            )
        body.append(row)
    return table(name, {key: [row[i] for row in body] for i, key in enumerate(header)})


def _parquet(path: Path) -> Table:
    """Read a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path.name} is not a readable Parquet file ({reason}); write it again.") from error
    columns = {key: content.column(key).to_pylist() for key in content.column_names}
    return table(path.name, columns, _declared(content.schema.metadata or {}))


def _declared(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Return the label names that `datasets` writes into a Parquet file's metadata."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}
    names: dict[str, list[str]] = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and isinstance(inner.get("names"), list):
            names[column] = [str(name) for name in inner["names"]]
    return names
