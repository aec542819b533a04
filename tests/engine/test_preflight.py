"""What would fail in the first second of a run is said before there is one, and without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.engine.preflight import check
from analysis.errors import DataError, ModelError
from analysis.recipes import build


def test_what_is_here_passes(
    tiny_bert: Path, write: Callable[..., Path], sentences: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = write("data.jsonl", sentences)
    check(build("movement", str(tiny_bert), str(data)), tmp_path)
    check(build("movement", "bundled:text", "bundled:opinions"), tmp_path)
    with pytest.raises(DataError, match="colour"):
        check(build("movement", str(tiny_bert), str(data), settings={"task.text": "colour"}), tmp_path)


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
        f"check(build('movement', 'bundled:text', 'bundled:opinions'), Path({str(tmp_path)!r}))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
