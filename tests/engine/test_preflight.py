"""What would fail in the first second of a run is said before there is one, and without torch."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.engine.model_files import resolve
from analysis.engine.preflight import check, shapes, units
from analysis.errors import DataError, ModelError, SpecError
from analysis.recipes import build
from analysis.spec import Stage


def test_what_is_here_passes(
    tiny_bert: Path, write: Callable[..., Path], sentences: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = write("data.jsonl", sentences)
    check(build("movement", str(tiny_bert), str(data)), tmp_path)
    check(build("movement", "bundled:text", "bundled:opinions"), tmp_path)
    with pytest.raises(DataError, match="colour"):
        check(build("movement", str(tiny_bert), str(data), settings={"task.text": "colour"}), tmp_path)


def test_the_headers_tell_the_shapes_that_the_model_has(tiny_bert: Path) -> None:
    from transformers import AutoModel

    from analysis.engine.sites import find_sites

    for folder in (tiny_bert, resolve("bundled:text"), resolve("bundled:digits")):
        sites = find_sites(AutoModel.from_pretrained(folder))
        # transformers gives some families other names in memory than in the file, and the same shapes
        loaded = sorted((s.layer, s.role, s.shape.rows, s.shape.cols) for s in sites)
        assert sorted((s.layer, s.role, s.rows, s.cols) for s in shapes(folder)) == loaded


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("block_movement", {}, "blocks of 32 x 32 do not divide .*, whose weight is 16 x 16"),
        ("block_movement", {"stages.variant": "filled"}, "blocks of 32 x 32 do not divide"),
        ("block_movement", {"units.rows": 8, "units.cols": 16, "units.ffn": "blocks"}, ""),
        ("block_movement", {"units.attention": "heads"}, ""),
        ("magnitude", {"units.type": "Block", "units.rows": 5, "units.cols": 1}, "blocks of 5 x 1"),
        ("magnitude", {"units.type": "Block", "units.rows": 16, "units.cols": 8}, ""),
        ("movement", {}, ""),
    ],
)
def test_blocks_that_do_not_divide_the_model_are_refused_before_there_is_a_run(
    tiny_bert: Path,
    write: Callable[..., Path],
    sentences: list[dict[str, Any]],
    tmp_path: Path,
    recipe: str,
    settings: dict[str, Any],
    message: str,
) -> None:
    asked = build(recipe, str(tiny_bert), str(write("data.jsonl", sentences)), settings=settings)
    if not message:
        check(asked, tmp_path)
        return
    with pytest.raises(SpecError, match=message):
        check(asked, tmp_path)


def test_a_stage_with_blocks_of_its_own_is_looked_at(tiny_bert: Path, tmp_path: Path) -> None:
    plain = build("magnitude", str(tiny_bert), "t")
    stages = (Stage("one", start="pre-trained"), Stage("two", settings={"units.type": "Block"}))
    with pytest.raises(SpecError, match="blocks of 32 x 32 do not divide"):
        units(dataclasses.replace(plain, stages=stages), tmp_path)


def test_a_header_that_cannot_be_read_is_left_to_the_run(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_bert, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert shapes(folder) == []
    units(build("block_movement", str(folder), "t"), tmp_path)


@pytest.mark.parametrize(
    ("model", "task", "teacher", "error"),
    [
        ("/no/such/model", "bundled:opinions", "", ModelError),
        ("nosuchmodel", "bundled:opinions", "", ModelError),
        ("bundled:text", "bundled:opinions", "run:nosuch", ModelError),
        ("bundled:text", "/no/such.csv", "", DataError),
        ("bundled:text", "./empty.csv", "", DataError),
    ],
)
def test_what_is_missing_is_said(
    model: str,
    task: str,
    teacher: str,
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        check(build("movement", model, task, teacher=teacher), tmp_path)
    assert "\n" not in str(caught.value)


def test_looking_does_not_load_torch(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from analysis.engine.preflight import check\n"
        "from analysis.recipes import build\n"
        f"check(build('block_movement', 'bundled:text', 'bundled:opinions'), Path({str(tmp_path)!r}))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
