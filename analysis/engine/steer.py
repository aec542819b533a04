"""The controller that adapts a penalty weight so that the kept fraction follows the asked one.

The papers scan lambda by hand and report whatever fraction comes out. A person who asks for 10 % wants 10 %: here lambda
starts at the part's value and is multiplied by a factor that grows while too much is kept and shrinks while too little is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.parts.schedules import Schedule

GAIN = 0.04  # change of ln(lambda) per step and unit of error
RUSH = 1.5  # immediate reaction, in units of the error


@dataclass
class Steer:
    """Proportional-integral control in the logarithm of the penalty weight.

    Attributes:
        base: penalty weight to start from, > 0.
        keep: fraction to reach, in (0, 1].
        path: schedule along which the fraction goes from 1 to ``keep``.
        integral: accumulated correction of ln(weight), bounded to [-7, 7].
        error: last ln(kept / wanted), bounded to [-2, 2].
    """

    base: float
    keep: float
    path: Schedule
    integral: float = 0.0
    error: float = 0.0

    def wanted(self, progress: float) -> float:
        """The fraction that should be kept at a moment of the run."""
        return self.path.value(progress, 1.0, self.keep)

    def observe(self, kept: float, progress: float) -> None:
        """Takes note of the fraction kept now; nothing is learnt before the first cut."""
        wanted = self.wanted(progress)
        if wanted >= 1:
            return
        error = math.log(max(kept, 1e-6) / wanted)
        self.error = max(-2.0, min(2.0, error))
        self.integral = max(-7.0, min(7.0, self.integral + GAIN * self.error))

    def weight(self) -> float:
        """The penalty weight to use now."""
        return self.base * math.exp(self.integral + RUSH * self.error)
