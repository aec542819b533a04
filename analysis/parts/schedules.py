"""Schedules: pure functions of progress in [0, 1], going from a start value to an end value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.parts.base import Part, knob


@dataclass(frozen=True)
class Cubic(Part):
    """Plateau, cubic, plateau: z + (a - z) * (1 - (p - w) / (1 - w - c))**3 between the plateaus.

    p is progress, w the warm-up, c the cool-down, a the start, z the end. Continuous at both ends. The closed
    form printed in the paper subtracts the cool-down inside the cube's numerator and would jump; this is the
    form its code executes.
    Source: Zhu and Gupta 2017; Sanh, Wolf, Rush 2020, equation 5 as executed.
    """

    warmup: float = knob(
        0.2, "share of the run before the first cut", unit="of the run", low=0, high=1, open="high"
    )
    cooldown: float = knob(
        0.4, "share of the run after the last cut", unit="of the run", low=0, high=1, open="high"
    )

    title: ClassVar[str] = "cubic with plateaus"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup + self.cooldown >= 1:
            raise SpecError(
                f"Cubic.warmup + Cubic.cooldown is {self.warmup + self.cooldown:g}; together they must stay "
                "below 1, or no step is left in which to prune: lower one of them."
            )

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns the scheduled value.

        Args:
            progress: position in the run, in [0, 1].
            start: value during the warm-up.
            end: value during the cool-down.

        Returns:
            a number between start and end.
        """
        if progress <= self.warmup:  # 1) before the first cut
            return start
        if progress > 1 - self.cooldown:  # 2) after the last cut
            return end
        left = 1 - (progress - self.warmup) / (1 - self.warmup - self.cooldown)  # 3) between
        return end + (start - end) * left**3


@dataclass(frozen=True)
class Constant(Part):
    """The end value from the first step to the last."""

    title: ClassVar[str] = "constant"

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns the end value at every progress."""
        del progress, start
        return end


@dataclass(frozen=True)
class OneShot(Part):
    """The start value, and from one moment on the end value.

    Frozen, what is cut at that moment is what stays cut: without it the scores are ranked anew at every step,
    and a unit that has grown meanwhile takes the place of another.
    """

    at: float = knob(0.2, "moment of the cut", unit="of the run", low=0, high=1)
    frozen: bool = knob(False, "the choice made at the cut is never made again")

    title: ClassVar[str] = "one cut"

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns start before the cut and end from it on."""
        return end if progress >= self.at else start


Schedule = Cubic | Constant | OneShot


def settled(schedule: Schedule) -> float:
    """The progress from which on the choice stands; infinite where it is made anew until the end."""
    return schedule.at if isinstance(schedule, OneShot) and schedule.frozen else math.inf
