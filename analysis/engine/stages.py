"""What one stage of a run hands on to the next."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from analysis.engine import embedding

if TYPE_CHECKING:
    from analysis.engine.setup import Setup

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Carry:
    """What earlier stages left behind.

    Attributes:
        previous: weights of the previous stage with its masks made permanent, None in the first.
        masks: what it kept, bool, one per site.
        tuned: weights of the stage that made the teacher, None without one.
        macs: multiply-adds of all stages so far.
    """

    previous: State | None = None
    masks: list[torch.Tensor] = field(default_factory=list)
    tuned: State | None = None
    macs: int = 0


def hand_over(s: Setup, carry: Carry, macs: int) -> Carry:
    """Ends a stage: its masks become permanent, and what follows begins from here.

    Args:
        s: the stage, trained; its gates are gone afterwards.
        carry: what it began with.
        macs: multiply-adds of the stage.
    """
    masks = [m.cpu() for m in s.pruner.masks()]
    s.pruner.finalise()
    embedding.fold(s.model)
    state = {name: value.detach().cpu().clone() for name, value in s.model.state_dict().items()}
    return Carry(state, masks, state if s.leg.stage.teaches else carry.tuned, carry.macs + macs)


def save(folder: Path, number: int, carry: Carry) -> None:
    """Writes what stage ``number`` begins with, under a temporary name first."""
    folder.mkdir(exist_ok=True)
    temporary = folder / f"stage-{number}.part"
    with open(temporary, "wb") as file:
        torch.save(vars(carry), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / f"stage-{number}.pt")


def load(folder: Path, number: int) -> Carry:
    """Reads what stage ``number`` begins with; the first begins with nothing."""
    if not number:
        return Carry()
    found: dict[str, Any] = torch.load(folder / f"stage-{number}.pt", weights_only=True, map_location="cpu")
    return Carry(**found)
