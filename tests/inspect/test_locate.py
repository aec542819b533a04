"""From what a person types to a path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.engine.inspect.locate import locate
from analysis.errors import LabError


def test_paths_runs_bundled_models_and_names_are_found(
    tmp_path: Path, runs_dir: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs_dir / "a-run").mkdir()
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "checkpoints" / "deep").mkdir(parents=True)
    (tmp_path / "checkpoints" / "deep" / "m.safetensors").touch()
    monkeypatch.setenv("PRUNING_LAB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PRUNING_LAB_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.chdir(tmp_path)
    assert locate(str(runs_dir)) == runs_dir and locate("models/mine") == Path("models/mine")
    assert locate("a-run", runs_dir) == locate(" run:a-run ", runs_dir) == runs_dir / "a-run"
    assert locate("bundled:text") == root / "analysis" / "bundle" / "text"
    assert locate("mine") == tmp_path / "models" / "mine"
    assert locate("deep/m.safetensors") == tmp_path / "checkpoints" / "deep" / "m.safetensors"


def test_a_hub_id_is_found_in_the_cache_of_this_machine(tmp_path: Path) -> None:
    kept = tmp_path / "hub" / "models--owner--tiny"
    snapshot = kept / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").touch()
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a" * 40)
    code = (
        "import os, sys; os.environ.pop('HF_HUB_CACHE', None)\n"
        f"os.environ.update(HF_HOME={str(tmp_path)!r}, PRUNING_LAB_ONLINE='1')\n"
        "from analysis.engine.inspect.locate import locate\n"
        "print(locate('owner/tiny')); assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.stdout.strip(), done.returncode) == (str(snapshot), 0), done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty or too long"),
        ("x" * 5000, "empty or too long"),
        ("a\0b", "empty or too long"),
        ("/no/such/file", "nothing at"),
        ("../no/such", "nothing at"),
        ("y" * 3000, "cannot be followed"),
        ("~nobody-of-that-name/x", "cannot be followed"),
        ("no-such-run", "no path and no run"),
        ("run:no-such-run", "no path and no run"),
        ("run:../x", "no path and no run|nothing at"),
        ("someone/no-such-model", "not in the Hugging Face cache"),
        ("two words", "not a valid hub id"),
        ("<script>", "not a valid hub id"),
        ("bundled:nothing", "not a bundled model"),
    ],
)
def test_what_is_not_here_is_a_sentence(text: str, words: str, runs_dir: Path) -> None:
    with pytest.raises(LabError, match=words) as caught:
        locate(text, runs_dir)
    assert "\n" not in str(caught.value)
