from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.store import layout
from analysis.store.events import EventWriter, tail


def test_what_is_appended_is_read_from_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.append({"kind": "loss", "step": 1, "loss": 0.5})
        first = tail(path)
        writer.append({"kind": "loss", "step": 2, "loss": float("nan")})
        second = tail(path, first.offset)
    assert first.rows == [{"kind": "loss", "step": 1, "loss": 0.5}]
    assert second.rows == [{"kind": "loss", "step": 2, "loss": None}]
    assert second.offset == path.stat().st_size
    assert tail(path, second.offset).rows == []
    assert "NaN" not in path.read_text()


def test_a_missing_file_reads_as_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.jsonl").rows == []
    assert tail(tmp_path / "none.jsonl", 10).restarted


def test_a_torn_tail_is_left_for_later_and_cut_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind":"loss","step":1}\n{"kind":"lo')
    torn = tail(path)
    assert [row["step"] for row in torn.rows] == [1]
    assert torn.bad_lines == 0
    with EventWriter(path) as writer:
        writer.append({"kind": "loss", "step": 2})
    again = tail(path, torn.offset)
    assert [row["step"] for row in again.rows] == [2]
    assert again.bad_lines == 0


@pytest.mark.parametrize("junk", [b"", b"\n", b"x" * 200_000, b'{"a": 1}\n' + b"y" * 70_000])
def test_a_tail_of_any_length_is_cut_to_the_last_line(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(junk)
    EventWriter(path).close()
    assert path.read_bytes() == junk[: junk.rfind(b"\n") + 1]


def test_garbage_lines_are_counted_and_hide_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [
        b'{"kind":"loss","step":1}',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b"{" * 100_000,
        b'{"kind":"loss","step":2}',
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = tail(path)
    assert [row["step"] for row in found.rows] == [1, 2]
    assert found.bad_lines == 4


@given(st.binary(max_size=400))
def test_no_bytes_make_reading_fail(data: bytes) -> None:
    path = Path(os.environ["PRUNING_LAB_RUNS"]) / "any.jsonl"
    path.write_bytes(data)
    found = tail(path)
    assert 0 <= found.offset <= len(data)
    assert all(isinstance(row, dict) for row in found.rows)
    assert tail(path, found.offset).rows == []


def test_a_file_that_became_shorter_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":2}\n')
    offset = tail(path).offset
    path.write_bytes(b'{"step":9}\n')
    again = tail(path, offset)
    assert again.restarted
    assert again.rows == [{"step": 9}]


def test_only_the_kinds_asked_for_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        for kind in ("loss", "eval", "note"):
            writer.append({"kind": kind, "step": 1, "text": 'an "eval" of it'})
    assert [row["kind"] for row in tail(path, kinds=("eval",)).rows] == ["eval"]


def test_a_resume_makes_void_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        for step in (10, 20, 30):
            writer.append({"kind": "eval", "step": step, "value": 1.0})
            writer.append({"kind": "loss", "step": step, "loss": 1.0})
        writer.append({"kind": "note", "step": 30, "text": "kept"})
    first = tail(path)
    with EventWriter(path) as writer:
        writer.append({"kind": "resume", "step": 20})
        writer.append({"kind": "loss", "step": 20, "loss": 2.0})
        writer.append({"kind": "loss", "step": 30, "loss": 2.0})
    whole, second = tail(path), tail(path, first.offset)
    losses = [(row["step"], row["loss"]) for row in whole.rows if row["kind"] == "loss"]
    assert losses == [(10, 1.0), (20, 2.0), (30, 2.0)]
    assert [row["step"] for row in whole.rows if row["kind"] == "eval"] == [10, 20]
    assert [row["text"] for row in whole.rows if row["kind"] == "note"] == ["kept"]
    assert second.rewound_to == 20
    assert [row["step"] for row in second.rows] == [20, 20, 30]
    assert [row["loss"] for row in tail(path, kinds=("loss",)).rows] == [1.0, 2.0, 2.0]


def test_a_full_disk_is_an_error_and_leaves_whole_lines(tmp_path: Path) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full here")
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        EventWriter(path).append({"kind": "loss", "step": 1})


KILLER = """
import os, signal, sys, time
from pathlib import Path
from analysis.store.events import EventWriter, tail
path, delays = Path(sys.argv[1]), [float(d) for d in sys.argv[2:]]
for delay in delays:
    pid = os.fork()
    if pid == 0:
        writer = EventWriter(path)
        rows = tail(path).rows
        step = rows[-1]["step"] + 1 if rows else 0
        while True:
            writer.append({"kind": "loss", "step": step, "text": "x" * (step % 200)})
            step += 1
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def test_fifty_kills_lose_no_line_and_tear_none(tmp_path: Path) -> None:
    """Fifty writers in a row, each going on where the last one stood, each killed at a random instant."""
    path = tmp_path / "events.jsonl"
    draw = random.Random(0)
    delays = [f"{draw.uniform(0.005, 0.03):.4f}" for _ in range(50)]
    subprocess.run(
        [sys.executable, "-c", KILLER, str(path), *delays], check=True, timeout=60, cwd=layout.ROOT
    )
    found = tail(path)
    steps = [row["step"] for row in found.rows]
    assert found.bad_lines == 0
    assert len(steps) > 50
    assert steps == list(range(len(steps)))
