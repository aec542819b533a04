"""What a run tells the world: its worker how far it is, its folder what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from analysis.store.events import EventWriter


class Control(Protocol):
    """What the loop needs from the worker around it."""

    def should_stop(self) -> bool:
        """Whether the run was asked to stop."""

    def report(self, step: int, progress: float) -> None:
        """Makes progress visible."""

    def elapsed(self) -> float:
        """Seconds spent on this run, over all attempts."""


class Diary:
    """Events of one run, with step, progress and time added."""

    def __init__(self, path: Path, steps: int, control: Control) -> None:
        self._writer = EventWriter(path)
        self._steps, self._control = steps, control

    def write(self, kind: str, step: int, **fields: Any) -> None:
        """Appends one event."""
        progress = min(1.0, step / self._steps)
        time = round(self._control.elapsed(), 3)
        self._writer.append({"kind": kind, "step": step, "progress": progress, "time": time, **fields})
