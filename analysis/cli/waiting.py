"""Waiting for runs, with progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from analysis.cli.shared import say
from analysis.store import launch
from analysis.store.runs import RunInfo, find_run


def wait_for(runs: Path, ids: Sequence[str]) -> list[RunInfo]:
    """Wait until runs are over, telling on stderr how far they are.

    Args:
        runs: runs folder.
        ids: which runs.

    Returns:
        the runs as they ended, in the order of ``ids``.
    """
    told: dict[str, str] = {}
    checked = time.monotonic()
    step = 5 if sys.stderr.isatty() else 25
    while True:
        found = [find_run(runs, run_id) for run_id in ids]
        for info in found:
            line = (
                info.state
                if info.state != "running"
                else f"running {int(100 * info.progress) // step * step} %"
            )
            if told.get(info.id) != line:
                told[info.id] = line
                say(f"{info.id}: {line}{': ' + info.reason if info.reason else ''}")
        if all(info.over for info in found):
            return found
        if time.monotonic() - checked > 2.0:  # a runner that was killed would leave the line standing
            checked = time.monotonic()
            if any(info.state == "queued" for info in found):
                launch.ensure_runner(runs)
        time.sleep(0.1)
