from __future__ import annotations

import os
from pathlib import Path

import pytest

from analysis.errors import RunError
from analysis.store import queue


def test_first_come_first_served(runs_dir: Path) -> None:
    for run_id in ("c", "a", "b"):
        queue.enqueue(runs_dir, run_id)
    assert [ticket.run_id for ticket in queue.tickets(runs_dir)] == ["c", "a", "b"]


def test_a_clock_set_back_does_not_let_a_newcomer_jump_the_line(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue(runs_dir, "first")
    monkeypatch.setattr(queue.time, "time_ns", lambda: 5)
    queue.enqueue(runs_dir, "second")
    assert [ticket.run_id for ticket in queue.tickets(runs_dir)] == ["first", "second"]


def test_a_ticket_carries_the_settings_of_whoever_launched(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNING_LAB_MODELS", "/models")
    monkeypatch.setenv("SECRET", "no")
    queue.enqueue(runs_dir, "a")
    found = queue.tickets(runs_dir)[0].environment()
    assert found is not None
    assert found["PRUNING_LAB_MODELS"] == "/models"
    assert "SECRET" not in found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"environment": 3}'])
def test_a_damaged_ticket_still_holds_its_place(runs_dir: Path, text: str) -> None:
    queue.enqueue(runs_dir, "a")
    ticket = queue.tickets(runs_dir)[0]
    ticket.path.write_text(text)
    assert queue.tickets(runs_dir)[0].environment() is None


def test_foreign_files_in_the_line_are_passed_over(runs_dir: Path) -> None:
    queue.enqueue(runs_dir, "a")
    for name in ("x", "12", "12-../a", "12-A", "-a", "1e3-a"):
        (runs_dir / queue.FOLDER / name.replace("/", "_")).write_text("")
    assert [ticket.run_id for ticket in queue.tickets(runs_dir)] == ["a"]


def test_leaving_the_line_twice_is_harmless(runs_dir: Path) -> None:
    queue.enqueue(runs_dir, "a")
    queue.enqueue(runs_dir, "a")
    queue.enqueue(runs_dir, "b")
    ticket = queue.tickets(runs_dir)[0]
    ticket.drop()
    ticket.drop()
    queue.withdraw(runs_dir, "a")
    assert [ticket.run_id for ticket in queue.tickets(runs_dir)] == ["b"]


def test_the_limit_is_what_was_chosen_else_one_run_per_core(runs_dir: Path) -> None:
    assert queue.queue_limit(runs_dir) == queue.default_limit() == min(8, queue.cores())
    assert 1 <= queue.cores() <= (os.cpu_count() or 1)
    queue.set_queue_limit(runs_dir, 3)
    assert queue.queue_limit(runs_dir) == 3
    for spoilt in ("", "[]", '{"limit": 0}', '{"limit": "many"}', '{"limit": 1e9}'):
        (runs_dir / queue.SETTINGS).write_text(spoilt)
        assert queue.queue_limit(runs_dir) == queue.default_limit()


@pytest.mark.parametrize("limit", [0, -1, 65, 1.5, True, "2"])
def test_a_limit_out_of_range_is_one_sentence(runs_dir: Path, limit: object) -> None:
    with pytest.raises(RunError, match="from 1 to 64"):
        queue.set_queue_limit(runs_dir, limit)  # type: ignore[arg-type]
