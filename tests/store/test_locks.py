from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.store import locks
from analysis.store.layout import ROOT
from analysis.store.locks import RunLock, held, identity, is_same_process

HOLDER = """
import sys, time
from pathlib import Path
from analysis.store.locks import RunLock
assert RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Another process that holds a lock."""
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT,
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield path, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path / "lock"), RunLock(tmp_path / "lock")
    assert not held(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert held(tmp_path / "lock")
    assert not second.acquire(patience=0.02)
    first.release()
    first.release()
    assert not held(tmp_path / "lock")
    with second:
        assert held(tmp_path / "lock")


def test_a_killed_holder_frees_its_lock_although_it_lingers_as_a_zombie(
    holder: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    path, process = holder
    assert held(path)
    os.kill(process.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while held(path) and time.monotonic() < end:
        time.sleep(0.01)
    assert not held(path)
    os.kill(process.pid, 0)  # the zombie still answers: a process number is no sign of life
    assert RunLock(path).acquire()


def test_readers_that_look_at_once_do_not_take_each_other_for_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    looker = "import sys; from pathlib import Path; from analysis.store.locks import held\n"
    looker += "sys.exit(sum(held(Path(sys.argv[1])) for _ in range(20000)))"
    processes = [subprocess.Popen([sys.executable, "-c", looker, str(path)], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]


def test_a_look_does_not_keep_a_worker_from_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    looker = (
        "import sys; from pathlib import Path; from analysis.store.locks import held; print(1, flush=True)\n"
    )
    looker += "while True: held(Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", looker, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(30):
            lock = RunLock(path)
            assert lock.acquire()
            lock.release()
    finally:
        process.kill()
        process.communicate()


def test_a_child_that_forgets_the_lock_does_not_keep_it_from_being_freed(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "lock")
    assert lock.acquire()
    duplicate = os.dup(lock._descriptor or 0)  # what a fork would leave in the child
    lock.release()
    assert held(tmp_path / "lock")
    os.close(duplicate)
    assert not held(tmp_path / "lock")


def test_a_deleted_folder_cannot_be_locked_under_its_old_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lock = RunLock(folder / "lock")
    assert lock.acquire()
    folder.rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        RunLock(folder / "lock").acquire()
    lock.release()


def test_a_missing_lock_file_is_not_held(tmp_path: Path) -> None:
    assert not held(tmp_path / "none" / "lock")


def test_only_the_very_process_on_file_may_be_signalled() -> None:
    me = identity()
    assert is_same_process(me)
    assert not is_same_process({**me, "pid_start": 1})
    assert not is_same_process({**me, "boot_id": "another boot"})
    assert not is_same_process({**me, "pid": 1})
    for pid in (None, "7", True, -1, 2**22 + 7):
        assert not is_same_process({**me, "pid": pid})


def test_the_start_of_a_process_is_read_behind_a_name_with_brackets(tmp_path: Path) -> None:
    odd = tmp_path / "a) 1 (b"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen([str(odd), "-c", "import time; time.sleep(30)"])
    try:
        time.sleep(0.1)
        started = locks.start_ticks(process.pid)
        mine = locks.start_ticks(os.getpid())
        assert started is not None
        assert mine is not None
        assert started >= mine
    finally:
        process.kill()
        process.wait()
    assert locks.start_ticks(process.pid) is None
