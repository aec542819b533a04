"""Resuming: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from analysis.engine import moments
from analysis.engine.setup import Setup

STAGE = "stage"
SHARE = 50  # checkpoints come sooner than asked where they cost less than one part in so many of the time


@dataclass
class Saver:
    """Writes checkpoints often enough to lose little and seldom enough to cost little."""

    folder: Path
    seconds: float
    last: float = field(default_factory=time.monotonic)
    cost: float = 0.0

    def due(self) -> bool:
        """Whether the next checkpoint should be written now."""
        return time.monotonic() - self.last >= min(self.seconds, max(1.0, SHARE * self.cost))

    def save(self, step: int, s: Setup) -> None:
        """Writes a checkpoint under a temporary name, renames it, and drops the older ones by rename
        first.
        """
        begun = time.monotonic()
        self.folder.mkdir(exist_ok=True)
        target = self.folder / f"{step:06d}"
        temporary = self.folder / f"{step:06d}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        state = {
            "step": step,
            "maps": s.maps.state_dict(),
            "model": s.model.state_dict(),
            "optimizer": s.optimizer.state_dict(),
            "pruner": moments.memory(s.pruner),
            "tutor": s.tutor.memory() if s.tutor else None,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "steer": [s.steer.integral, s.steer.error, s.steer.trend] if s.steer else [],
            "lookahead": s.lookahead.past if s.lookahead else [],
        }
        (temporary / STAGE).write_text(str(s.leg.number), encoding="ascii")
        with open(temporary / "state.pt", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            _drop(target)
        temporary.rename(target)
        for old in self.folder.iterdir():
            if old != target and old.name.isdigit():
                _drop(old)
        self.last = time.monotonic()
        self.cost = self.last - begun


def _drop(folder: Path) -> None:
    # Deleting in place could be killed half way and leave a folder that looks whole.
    trash = folder.with_name(f"{folder.name}.trash")
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def load(folder: Path, s: Setup) -> dict[str, Any] | None:
    """Restores the newest checkpoint.

    Returns:
        what was saved (with its ``step``), or None when there is nothing to resume from.
    """
    newest = _newest(folder)
    if newest is None:
        return None
    state: dict[str, Any] = torch.load(newest / "state.pt", weights_only=True, map_location="cpu")
    s.model.load_state_dict(state["model"])
    s.maps.load_state_dict(state.get("maps", {}))
    s.optimizer.load_state_dict(state["optimizer"])
    # Checkpoints of earlier versions hold the count alone.
    moments.recall(s.pruner, state.get("pruner") or {"kept": state["kept"], "cut": None, "states": []})
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    if s.steer is not None and state["steer"]:
        s.steer.integral, s.steer.error, s.steer.trend = state["steer"]
    if s.tutor is not None and state.get("tutor"):
        s.tutor.recall(state["tutor"])
    if s.lookahead is not None:
        s.lookahead.load(state.get("lookahead", []))
    return state


def stage(folder: Path) -> int:
    """The number of the stage that the newest checkpoint is in; 0 when there is nothing to resume from."""
    newest = _newest(folder)
    try:
        return int((newest / STAGE).read_text(encoding="ascii")) if newest else 0
    except FileNotFoundError:
        return 0  # written before there were stages


def _newest(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    for leftover in (*folder.glob("*.tmp"), *folder.glob("*.trash")):
        shutil.rmtree(leftover, ignore_errors=True)
    whole = [f for f in folder.iterdir() if f.name.isdigit() and (f / "state.pt").is_file()]
    return max(whole, key=lambda f: int(f.name)) if whole else None  # as text, a million is before 999,999


def drop_all(folder: Path) -> None:
    """Removes the checkpoints of a finished run."""
    if folder.is_dir():
        _drop(folder)
