"""Schedules: pure functions of progress in [0, 1], going from a start value to an end value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from analysis.errors import SpecError
from analysis.parts.base import Part, knob

SLACK = 1e-9  # step / steps may be a rounding error short of a moment


class Always(Part):
    """A schedule by which the mask may be chosen anew at every step."""

    def due(self, progress: float, step: int) -> bool:
        """Whether the mask is chosen and applied at a step; always."""
        del progress, step
        return True


@dataclass(frozen=True)
class Cubic(Always):
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
        _check_plateaus(self)

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
class CubicEvery(Cubic):
    """The cubic with plateaus, applied now and then while it falls and at every step after the last cut.

    Source: Ren and Zhu 2023, arXiv:2305.12394; Zhang et al. 2022 (PLATON).
    """

    warmup: float = knob(
        0.05, "share of the run before the first cut", unit="of the run", low=0, high=1, open="high"
    )
    cooldown: float = knob(
        0.35, "share of the run after the last cut", unit="of the run", low=0, high=1, open="high"
    )
    every: int = knob(10, "steps between two cuts while it falls", unit="steps", low=1, high=10_000)

    title: ClassVar[str] = "cubic with plateaus, every n steps"

    def due(self, progress: float, step: int) -> bool:
        """Whether the mask is chosen and applied at a step: each n-th while it falls, each after that."""
        return progress > 1 - self.cooldown or step % self.every == 0


def _check_plateaus(schedule: Cubic | Rounds) -> None:
    both = schedule.warmup + schedule.cooldown
    if both >= 1:
        name = type(schedule).__name__
        raise SpecError(
            f"{name}.warmup + {name}.cooldown is {both:g}; together they must stay "
            "below 1, or no step is left in which to prune: lower one of them."
        )


@dataclass(frozen=True)
class Rounds(Always):
    """A few cuts, evenly spaced in time, after which 1 / remaining has grown by equal amounts.

    After cut k of n: value_k = 1 / ((1 - k / n) / start + (k / n) / end), exactly the end value for k = n.
    From 1 to 1 - p this removes p / (k p + n (1 - p)) of what is left at cut k: much at first, ever less
    later. Cut k comes at w + (k / n) (1 - w - c), with w the warm-up and c the cool-down. Where start or end
    is 0, which has no inverse, the value itself grows by equal amounts.
    Source: the code of Lubana and Dick 2021.
    """

    rounds: int = knob(5, "number of cuts; 1 is one shot", unit="cuts", low=1, high=1000)
    warmup: float = knob(
        0.1, "share of the run before the first round begins", unit="of the run", low=0, high=1, open="high"
    )
    cooldown: float = knob(
        0.4, "share of the run after the last cut", unit="of the run", low=0, high=1, open="high"
    )

    title: ClassVar[str] = "rounds, linear in compression"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_plateaus(self)

    def done(self, progress: float) -> int:
        """Number of cuts made at a progress in [0, 1]."""
        passed = (progress - self.warmup) / (1 - self.warmup - self.cooldown)
        return max(0, min(self.rounds, math.floor(passed * self.rounds + SLACK)))

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns the value after the cuts made so far; start before the first, end after the last."""
        share = self.done(progress) / self.rounds
        if share in (0, 1):
            return end if share else start
        if start <= 0 or end <= 0:
            return start + share * (end - start)
        return 1 / ((1 - share) / start + share / end)


@dataclass(frozen=True)
class Constant(Always):
    """The end value from the first step to the last."""

    title: ClassVar[str] = "constant"

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns the end value at every progress."""
        del progress, start
        return end


@dataclass(frozen=True)
class OneShot(Always):
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


@dataclass(frozen=True)
class Events(Always):
    """A few cuts, one every F of a pruning stage E, along the cubic: after cut k = F / E * E of K,
    end + (start - end) * (1 - k / K)**3 with K = floor(E / F); the last one cuts to the end value exactly.

    Cut k comes at k F < E, strictly: where F divides E the last is left out, unless it is forced at E itself.
    Source: the code of Huang et al. 2022; Zhu and Gupta 2017.
    """

    interval: float = knob(
        0.084, "F / E, time between two cuts", unit="of the pruning stage", low=0.001, high=1
    )
    cooldown: float = knob(
        0.6, "share of the run after the pruning stage", unit="of the run", low=0, high=1, open="high"
    )
    forced: bool = knob(True, "cut to the target at the end of the stage where no cut has reached it before")

    title: ClassVar[str] = "cubic in a few cuts"

    @property
    def cuts(self) -> int:
        """K, how many steps the cubic has."""
        return max(1, math.floor(1 / self.interval + SLACK))

    def value(self, progress: float, start: float, end: float) -> float:
        """Returns the value after the cuts made so far; start before the first."""
        passed = progress / (1 - self.cooldown)
        if self.forced and passed >= 1 - SLACK:
            return end
        last = math.ceil(1 / self.interval - SLACK) - 1  # the last with k F < E
        done = min(last, math.floor(passed / self.interval + SLACK))
        return end + (start - end) * (1 - min(1.0, done / self.cuts)) ** 3


Schedule = Cubic | CubicEvery | Rounds | Constant | OneShot | Events


def settled(schedule: Schedule) -> float:
    """The progress from which on the choice stands; infinite where it is made anew until the end."""
    return schedule.at if isinstance(schedule, OneShot) and schedule.frozen else math.inf
