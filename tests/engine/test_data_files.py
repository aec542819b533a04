"""Every file format gives the same columns, and every damaged file one sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.engine.files import read
from analysis.errors import DataError

ROWS = [{"text": "a film, with commas", "label": 1}, {"text": 'quotes " stay', "label": 0}]


def save(path: Path) -> Path:
    """Write ROWS in the format that the name asks for."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        content = "\n".join(json.dumps(row) for row in ROWS)
    elif name.endswith(".tsv"):
        content = "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS)
    elif name.endswith(".csv"):
        content = 'text,label\n"a film, with commas",1\n"quotes "" stay",0\n'
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    path.write_bytes(gzip.compress(content.encode()) if path.name.endswith(".gz") else content.encode())
    return path


@pytest.mark.parametrize(
    "name", ["d.jsonl", "d.jsonl.gz", "d.tsv", "d.csv", "d.tsv.gz", "d.csv.gz", "d.parquet"]
)
def test_formats_agree(tmp_path: Path, name: str) -> None:
    table = read(save(tmp_path / name))
    assert table.columns["text"] == [row["text"] for row in ROWS]
    assert [int(value) for value in table.columns["label"]] == [1, 0]
    assert table.rows.tolist() == [0, 1]
    assert table.name == name


def test_byte_order_mark_and_blank_lines_are_no_data(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n{"text": "b"}\n')
    assert read(path).columns == {"text": ["a", "b"]}


def test_line_separator_inside_a_json_text_does_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a\u2028b\u0085c"}\n', encoding="utf-8")
    assert read(path).columns == {"text": ["a\u2028b\u0085c"]}


def test_quotes_mean_nothing_in_tsv(tmp_path: Path) -> None:
    path = tmp_path / "d.tsv"
    path.write_text('sentence\tlabel\n"an open quote\t1\nplain\t0\n')
    assert read(path).columns["sentence"] == ['"an open quote', "plain"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d.jsonl", b"", "empty"),
        ("d.csv", b"text,label\n", "no rows"),
        ("d.jsonl", b"\n\n", "no rows"),
        ("d.jsonl", b'{"a": 1}\n{"a": \n', "Line 2 of d.jsonl is not JSON"),
        ("d.jsonl", b"[1, 2]\n", "holds a list"),
        ("d.jsonl", b"[" * 100_000, "not JSON"),
        ("d.jsonl", b'{"a": "ok"}\n{"a": "caf\xe9"}\n', "not UTF-8 text (byte 0xe9 in line 2)"),
        ("d.jsonl.gz", b"not gzip", "not a complete gzip file"),
        ("d.jsonl.gz", gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-12], "not a complete gzip file"),
        ("d.csv", b"a,b\n1,2\n3\n", "Row 2 of d.csv has 1 cells but the header names 2 (a, b)"),
        ("d.tsv", b"a\ta\n1\t2\n", "must name every column once"),
        ("d.csv", b"a,\n1,2\n", "must name every column once"),
        ("d.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("d.xlsx", b"x", "a format that is not read here"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert words in str(caught.value)
    assert "d." in str(caught.value)


def test_a_missing_file_and_a_folder_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("absent.csv", "folder.csv"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


def test_declared_label_names_of_a_parquet_file(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    path = tmp_path / "d.parquet"
    datasets.Dataset.from_list(ROWS, features=features).to_parquet(path)
    assert read(path).names == {"label": ["no", "yes"]}
