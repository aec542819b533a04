"""The spec of a probe: what a model is worth as it is, and what one-shot cuts would cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from analysis.errors import SpecError
from analysis.parts.base import Part, knob
from analysis.spec.core import TaskSpec

KEEPS = (0.7, 0.5, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class ProbeSpec(Part):
    """A trained model, the task it is measured on, and the cuts that are tried; dense is always measured."""

    model: str
    task: TaskSpec
    keeps: tuple[float, ...] = KEEPS
    by: str = knob("magnitude", "what is kept first", choices=("magnitude", "scores"))
    scope: str = knob("global", "rank over all matrices at once, or inside each", choices=("global", "local"))
    rows: int = knob(256, "rows of the quick look", unit="rows", low=1, high=1_000_000)
    batch: int = knob(64, "examples per forward pass", unit="examples", low=1, high=65536)

    title: ClassVar[str] = "probe"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, str) or not self.model.strip() or len(self.model) > 4096:
            raise SpecError(
                f"The model is {str(self.model)[:60]!r}; allowed is run:ID, a folder or a hub id."
            )
        for keep in self.keeps:
            if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
                raise SpecError(
                    f"One of the keeps is {keep!r}; allowed are numbers in (0, 1], fractions of the prunable "
                    "weights that stay: 0.3 keeps 30 %."
                )
        whole = sorted({1.0, *(float(keep) for keep in self.keeps)}, reverse=True)
        object.__setattr__(self, "keeps", tuple(whole))


def probe_to_dict(spec: ProbeSpec) -> dict[str, Any]:
    """The JSON form of a probe's spec."""
    return {**asdict(spec), "keeps": list(spec.keeps)}


def probe_from_dict(data: Any) -> ProbeSpec:
    """Reads a probe's spec.

    Raises:
        SpecError: it is not one, or holds a value that is not allowed.
    """
    try:
        task = TaskSpec(**data["task"])
        return ProbeSpec(**{**data, "task": task, "keeps": tuple(data["keeps"])})
    except (KeyError, TypeError) as error:
        raise SpecError(f"This is no spec of a probe ({error}); start the measurement again.") from error


def numbers(text: str) -> tuple[float, ...]:
    """Reads "1, 0.5, 0.3" into keeps.

    Raises:
        SpecError: a word between the commas is no number.
    """
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            raise SpecError(
                f"The keeps are {text[:60]!r}; allowed are numbers between commas, such as 0.5,0.3,0.1."
            ) from None
    if not all(map(math.isfinite, found)):
        raise SpecError(f"The keeps are {text[:60]!r}; allowed are numbers in (0, 1].")
    return tuple(found)


def task_of(run: Mapping[str, Any]) -> TaskSpec | None:
    """The task that a run was trained on, read from its spec; None where it does not say."""
    try:
        return TaskSpec(**run["task"])
    except (KeyError, TypeError, SpecError):
        return None
