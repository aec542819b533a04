"""`inspect A --against B`: one document with both, one sentence and status 2 for whatever cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from analysis.cli import main

NAME = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    w = np.arange(1, 65, dtype="f4").reshape(8, 8)
    save_file({NAME: w, "gone": w[0]}, tmp_path / "a.safetensors")
    save_file({f"bert.{NAME}": np.where(w > 32, -w, 0), "new": w[0]}, tmp_path / "b.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"GIF89a" + b"\0" * 100)
    return {name: str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "bad", "none")}


def test_one_document_holds_the_inspection_and_the_difference(
    files: dict[str, str], runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", files["a"], "--against", files["b"], "--json", "--runs-dir", str(runs_dir)]
    for _ in range(2):  # the second time from what the first left
        assert main(words) == 0
        document = json.loads(capsys.readouterr().out)
    assert {"tensors", "sparsity", "verdict", "pairs", "missing", "extra"} <= set(document)
    (pair,) = document["pairs"]
    assert (pair["name"], pair["name_b"]) == (NAME, f"bert.{NAME}")
    assert (pair["sign_flips"], pair["zeros_gained"], pair["zeros_lost"]) == (32, 32, 0)
    w = np.arange(1, 65)
    assert pair["l2"] == pytest.approx(np.linalg.norm(np.where(w > 32, 2 * w, w)))
    assert (document["missing"], document["extra"]) == (["gone"], ["new"])


def test_people_get_sentences_and_a_table(
    files: dict[str, str], runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", files["a"], "--against", files["b"], "--runs-dir", str(runs_dir)]) == 0
    said = capsys.readouterr().out
    assert "32 gained, 0 lost" in said and "zeros_gained" in said


@pytest.mark.parametrize("bad", ["bad", "none"])
def test_what_cannot_be_read_is_one_sentence(
    bad: str, files: dict[str, str], runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, second in (("a", bad), (bad, "a")):
        assert main(["inspect", files[first], "--against", files[second], "--runs-dir", str(runs_dir)]) == 2
        told = capsys.readouterr().err.strip()
        assert bad in told and "\n" not in told and "Traceback" not in told
