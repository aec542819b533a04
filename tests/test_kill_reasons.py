"""How a run ended, in one sentence, and a log that cannot fill the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from analysis import recipes, spec
from analysis.engine import worker
from analysis.errors import DataError
from analysis.store import layout, runs


def raised(by: str, path: Path) -> BaseException:
    """A real exception of the kind a run meets."""
    try:
        if by == "full disk":
            with open("/dev/full", "wb", buffering=0) as file:
                file.write(b"x")
        elif by == "tensors on a full disk":
            torch.save(torch.zeros(9), "/dev/full")
        elif by == "memory":
            torch.empty(2**50, device="cpu")
        elif by == "python memory":
            bytearray(2**62)
        elif by == "missing":
            (path / "gone.csv").open()
        elif by == "folder":
            path.open()
        elif by == "bad input":
            raise DataError("The column 'x' is missing; there are 'a' and 'b'.")
        else:
            {}["two\nlines"]
    except BaseException as error:
        return error
    raise AssertionError(by)


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("full disk", "no space left"),
        ("tensors on a full disk", "no space left"),
        ("memory", "not enough memory"),
        ("python memory", "not enough memory"),
        ("missing", "gone.csv' is missing"),
        ("folder", "cannot be opened"),
        ("bad input", "The column 'x' is missing; there are 'a' and 'b'."),
        ("bug", "unexpected KeyError"),
    ],
)
def test_every_end_has_one_sentence(tmp_path: Path, by: str, words: str) -> None:
    if "full disk" in by and not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full here")
    reason = worker.judge(raised(by, tmp_path), tmp_path)
    assert words in reason
    assert "\n" not in reason
    assert reason.endswith(".")


def test_a_quota_that_is_used_up_counts_as_a_full_disk(tmp_path: Path) -> None:
    assert "no space left" in worker.judge(OSError(errno.EDQUOT, "Quota exceeded"), tmp_path)


def test_progress_is_written_rarely_and_time_adds_up_over_attempts(tmp_path: Path) -> None:
    planned = spec.to_dict(recipes.build("movement", "bundled:text", "bundled:opinions"))
    path = tmp_path / runs.create_run(tmp_path, planned)
    control = worker.Control(path, seconds=100.0)
    written = set()
    for step in range(2000):
        control.report(step, step / 2000)
        written.add(os.stat(path / "state.json").st_ino)
    assert len(written) < 10
    assert control.last()["step"] == 1999
    assert 100 <= runs.read_run(path).seconds <= control.elapsed() < 160
    assert not control.should_stop()
    control.stop()
    assert control.should_stop()


def test_a_flood_of_output_is_cut(tmp_path: Path) -> None:
    program = "import os, sys, time; from pathlib import Path; from analysis.engine import worker\n"
    program += "worker.capture_output(Path(sys.argv[1]), 20000); print('begin', flush=True)\n"
    program += "end = time.monotonic() + 1.5\n"
    program += (
        "while time.monotonic() < end: os.write(1, b'x' * 1000); os.write(2, b'y' * 1000); time.sleep(0.001)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=layout.ROOT, timeout=60)
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("begin\n")
    assert len(text) < 21_000
    assert text.endswith("it reached 20000 bytes.\n")
