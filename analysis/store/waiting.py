"""Waiting for runs, and telling how far they are."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.store import launch
from analysis.store.runs import RunInfo, find_run


def wait_for(
    runs: Path, ids: Sequence[str], tell: Callable[[str], None], over: dict[str, float] | None = None
) -> list[RunInfo]:
    """Wait until runs are over, telling how far they are.

    Args:
        runs: runs folder.
        ids: which runs.
        tell: takes one line whenever there is news; more often when stderr is a terminal.
        over: filled with the moment at which each run was seen to be over, on the monotonic clock.

    Returns:
        the runs as they ended, in the order of ``ids``.
    """
    told: dict[str, str] = {}
    checked = time.monotonic()
    step = 5 if sys.stderr.isatty() else 25
    while True:
        found = [find_run(runs, run_id) for run_id in ids]
        for info in found:
            if over is not None and info.over:
                over.setdefault(info.id, time.monotonic())
            percent = int(100 * info.progress) // step * step
            line = f"running {percent} %" if info.state == "running" else info.state
            if told.get(info.id) != line:
                told[info.id] = line
                tell(f"{info.id}: {line}{': ' + info.reason if info.reason else ''}")
        if all(info.over for info in found):
            return found
        if time.monotonic() - checked > 2.0:  # a runner that was killed would leave the line standing
            checked = time.monotonic()
            if any(info.state == "queued" for info in found):
                launch.ensure_runner(runs)
        time.sleep(0.1)
