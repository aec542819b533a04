"""The controller that adapts a penalty weight so that the kept fraction follows the asked one.

The papers scan lambda by hand and report whatever fraction comes out. A person who asks for 10 % wants 10 %:
here lambda starts at the part's value and is multiplied by a factor that grows while too much is kept and
shrinks while too little is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.parts.schedules import Schedule

GAIN = 0.015  # change of ln(lambda) per step and unit of error, at the peak learning rate
LEAST = 0.1  # a smaller share of the peak learning rate counts as this much
RUSH = 1.5  # immediate reaction, in units of the foreseen error
LEAD = 2.0  # how far ahead to look, in score units; divided by the learning rate it is a number of steps
SMOOTH = 0.9  # memory of the trend


@dataclass
class Steer:
    """Control of the logarithm of the penalty weight by the error, its sum and its trend.

    A score needs many steps to cross the threshold, so a controller that only sees how many have crossed
    brakes too late: the error is looked at where it will be when the scores now under way have arrived.

    Attributes:
        base: penalty weight to start from, > 0.
        keep: fraction to reach, in (0, 1].
        path: schedule along which the fraction goes from 1 to ``keep``.
        lr: peak learning rate of the scores, > 0.
        integral: accumulated correction of ln(weight), bounded to [-7, 7].
        error: last ln(kept / wanted), bounded to [-2, 2].
        trend: smoothed change of the error per step.
    """

    base: float
    keep: float
    path: Schedule
    lr: float
    integral: float = 0.0
    error: float = 0.0
    trend: float = 0.0

    def wanted(self, progress: float) -> float:
        """The fraction that should be kept at a moment of the run."""
        return self.path.value(progress, 1.0, self.keep)

    def observe(self, kept: float, progress: float, rate: float = 1.0) -> None:
        """Takes note of the fraction kept now; nothing is learnt before the first cut.

        Args:
            kept: fraction kept now, in [0, 1].
            progress: position in the run, in [0, 1].
            rate: learning rate as a share of its peak, in [0, 1]. While it falls, scores move ever less per
                step, so the correction grows as fast; with a constant gain the end comes too early.
        """
        wanted = self.wanted(progress)
        if wanted >= 1:
            return
        error = max(-2.0, min(2.0, math.log(max(kept, 1e-6) / wanted)))
        self.trend = SMOOTH * self.trend + (1 - SMOOTH) * (error - self.error)
        self.error = error
        self.integral = max(-7.0, min(7.0, self.integral + GAIN / max(rate, LEAST) * self.foreseen()))

    def foreseen(self) -> float:
        """The error to expect when the scores now under way have arrived, in [-3, 3]."""
        return max(-3.0, min(3.0, self.error + LEAD / self.lr * self.trend))

    def weight(self) -> float:
        """The penalty weight to use now."""
        return self.base * math.exp(self.integral + RUSH * self.foreseen())
