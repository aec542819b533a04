from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import RunError
from analysis.store import layout


@pytest.mark.parametrize("good", ["a", "movement-0a1b2c", "x" * 64, "0", "-"])
def test_an_id_of_letters_digits_and_hyphens_names_a_folder_inside_the_runs_folder(
    tmp_path: Path, good: str
) -> None:
    assert layout.run_path(tmp_path, good) == tmp_path / good


@pytest.mark.parametrize(
    "bad",
    ["", "..", ".", "../x", "a/b", "/etc/passwd", "A", "a b", "a\n", "a\x00", "x" * 65, "é", "a_b", ".hidden",
     "%2e%2e", "..%2f", "a\\b", "con.", None, 7],
)  # fmt: skip
def test_anything_else_is_refused_before_it_becomes_a_path(tmp_path: Path, bad: object) -> None:
    with pytest.raises(RunError, match="no run id"):
        layout.run_path(tmp_path, bad)  # type: ignore[arg-type]


@given(st.text(max_size=80))
def test_no_text_leaves_the_runs_folder(text: str) -> None:
    base = Path("/srv/runs")
    try:
        path = layout.run_path(base, text)
    except RunError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 250
    else:
        assert path.parent == base
        assert os.path.normpath(path) == str(path)


def test_a_json_file_is_replaced_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    layout.write_json(target, {"n": 1})
    layout.write_json(target, {"n": 2, "name": "héé"})
    assert layout.read_json(target) == {"n": 2, "name": "héé"}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    layout.write_json(target, {"n": 1})
    with pytest.raises(TypeError):
        layout.write_json(target, {"n": object()})
    with pytest.raises(RuntimeError), layout.replacing(target) as file:
        file.write(b'{"n": ')
        raise RuntimeError
    assert layout.read_json(target) == {"n": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_numbers_that_are_not_finite_are_written_as_null() -> None:
    value = {
        "a": math.nan,
        "b": [1.5, math.inf, -math.inf],
        "c": np.float32("nan"),
        "d": np.arange(2),
        "e": np.int64(3),
    }
    assert json.loads(layout.to_json(value)) == {
        "a": None,
        "b": [1.5, None, None],
        "c": None,
        "d": [0, 1],
        "e": 3,
    }


def test_json_that_is_nested_or_large_without_end_is_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match="deep"):
        layout.read_json(path)
    path.write_bytes(b" " * (9 * 2**20))
    with pytest.raises(ValueError, match="8 MiB"):
        layout.read_json(path)


def test_the_runs_folder_is_the_one_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRUNING_LAB_RUNS", str(tmp_path / "mine"))
    assert layout.default_runs_dir() == tmp_path / "mine"
    monkeypatch.delenv("PRUNING_LAB_RUNS")
    assert layout.default_runs_dir() == layout.ROOT / "runs"
    assert (layout.ROOT / "analysis").is_dir()


def test_a_runs_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--runs-dir"):
        layout.make_runs_dir(tmp_path / "file" / "runs")


def test_a_pipe_or_a_folder_in_place_of_a_file_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        with pytest.raises(OSError, match="no regular file"):
            layout.read_json(tmp_path / name)
