"""Work on the side: its note tells the truth whoever dies, and it stops when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.errors import ModelError
from analysis.store import jobs, layout

WORKS = (
    "import sys, time; from pathlib import Path; from analysis.store.jobs import Job\n"
    "with Job(Path(sys.argv[1]), 'steps') as job:\n"
    "    print('up', flush=True)\n"
    "    for i in range(10_000):\n"
    "        job.tell(i, 10_000)\n"
    "        time.sleep(.01)\n"
)


def worker(folder: Path) -> subprocess.Popen[str]:
    found = subprocess.Popen(
        [sys.executable, "-c", WORKS, str(folder)], stdout=subprocess.PIPE, text=True, cwd=layout.ROOT
    )
    assert found.stdout is not None and found.stdout.readline() == "up\n"
    return found


def test_a_folder_without_work_is_absent_and_a_damaged_note_too(tmp_path: Path) -> None:
    assert jobs.read(tmp_path / "none").state == "absent"
    (tmp_path / jobs.NOTE).write_text("{")
    assert jobs.read(tmp_path).state == "absent"
    (tmp_path / jobs.NOTE).write_text('{"state": "done", "done": [1]}')
    assert jobs.read(tmp_path).state == "absent"


def test_work_that_ends_is_done_and_a_failure_keeps_its_sentence(tmp_path: Path) -> None:
    with jobs.Job(tmp_path, "bytes") as job:
        job.tell(1, 2)
        assert jobs.read(tmp_path).state == "working"
        job.told = -1e9
        job.tell(2, 2)
    note = jobs.read(tmp_path)
    assert (note.state, note.done, note.total, note.unit) == ("done", 2.0, 2.0, "bytes") and note.over
    with pytest.raises(ModelError), jobs.Job(tmp_path, "bytes"):
        raise ModelError("It is\nbroken.")
    assert jobs.read(tmp_path).state == "failed" and jobs.read(tmp_path).reason == "It is broken."


def test_an_error_of_ours_or_a_kill_is_a_crash(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), jobs.Job(tmp_path / "a", "bytes"):
        _ = 1 / 0
    assert jobs.read(tmp_path / "a").state == "crashed"
    process = worker(tmp_path / "b")
    assert jobs.read(tmp_path / "b").state == "working"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert jobs.read(tmp_path / "b").state == "crashed"


def test_work_stops_when_asked_and_can_begin_again(tmp_path: Path) -> None:
    process = worker(tmp_path)
    jobs.cancel(tmp_path)
    assert jobs.wait(tmp_path).state == "cancelled" and process.wait(10) == 0
    process.communicate()
    process = worker(tmp_path)
    time.sleep(0.5)
    note = jobs.read(tmp_path)
    assert note.state == "working" and note.done > 0 and note.left is None
    process.kill()
    process.communicate()


def test_time_left_follows_the_pace_so_far() -> None:
    assert jobs.Note("working", 25, 100, "bytes", 10).left == 30
    assert jobs.Note("working", 0, 100, "bytes", 10).left is None


def test_a_command_line_is_work_or_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    did: list[object] = []

    def work(out: Path, count: int) -> None:
        did.append((out, count))
        if count < 0:
            raise ModelError("Too few; give more.")

    def run(*words: str) -> int:
        return jobs.run(words, "some.module", {"OUT": Path, "COUNT": int}, work)

    assert run("x", "3") == 0 and did == [(Path("x"), 3)] and capsys.readouterr().err == ""
    for words in ((), ("x",), ("x", "3", "4"), ("x", "three")):
        assert run(*words) == 2 and len(did) == 1
        assert capsys.readouterr().err == "Usage: python -m some.module OUT COUNT\n"
    assert run("x", "-1") == 2 and capsys.readouterr().err == "Too few; give more.\n"


def test_a_process_that_dies_before_its_first_note_is_a_crash(tmp_path: Path) -> None:
    jobs.begin(tmp_path, "analysis.no_such_module")
    assert jobs.read(tmp_path).state == "crashed"
    assert "no_such_module" in (tmp_path / jobs.LOG).read_text()


def test_a_request_that_came_while_waiting_for_the_lock_still_counts(tmp_path: Path) -> None:
    job = jobs.Job(tmp_path, "steps")
    (tmp_path / jobs.STOP).touch()
    os.utime(tmp_path / jobs.STOP, (job.born + 1, job.born + 1))
    with job:
        job.told = -1e9
        job.tell(1, 2)
    assert jobs.read(tmp_path).state == "cancelled"
    with jobs.Job(tmp_path, "steps") as other:
        (tmp_path / jobs.STOP).unlink(missing_ok=True)
        other.tell(1, 2)
    assert jobs.read(tmp_path).state == "done"


def test_time_left_counts_what_this_process_did() -> None:
    assert jobs.Note("working", 75, 100, "bytes", 10, first=50).left == 10
