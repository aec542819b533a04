"""Stages: a run in parts, each with its share of the steps, its start, its teacher and its changes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.errors import SpecError

if TYPE_CHECKING:
    from analysis.spec.core import LineUp, RunSpec

STARTS = ("previous", "pre-trained", "teacher")
TEACHERS = ("none", "fine-tuned", "previous", "pre-trained")
BEGINS = ("nothing", "fill", "fill around mean")
CHOICES = {"start": STARTS, "teacher": TEACHERS, "begin": BEGINS}


@dataclass(frozen=True)
class Stage:
    """One part of a run.

    Attributes:
        name: a word for people.
        share: steps in proportion to the other stages, > 0.
        start: whose weights it begins with: the previous stage's, the pre-trained model's, or the fine-tuned
            teacher's. What the previous stage pruned stays pruned when it begins with its weights.
        teacher: whose outputs its losses follow: nobody's, a fine-tuned model's (the one given with the run,
            else the result of the stage that teaches), the previous stage's, or the pre-trained model's.
        begin: "fill" puts noise around zero where a weight is zero inside a structure that lives, which then
            is trained; "fill around mean" does it around the mean of the weights, as published.
        depth: it cuts to keep**depth: 0 prunes nothing, 1 is the keep of the run.
        plain: fine-tuning of the task alone with the run's optimizer, whatever its line-up says; belongs
            with depth 0.
        teaches: makes the fine-tuned teacher; left out when one is given.
        settings: changes of the run's line-up, in the grammar of ``--set``.
    """

    name: str
    share: float = 1.0
    start: str = "previous"
    teacher: str = "none"
    begin: str = "nothing"
    depth: float = 1.0
    plain: bool = False
    teaches: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(
                    f"Stage.{name} is {getattr(self, name)!r}; allowed is one of {', '.join(allowed)}."
                )
        for name in ("plain", "teaches"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"Stage.{name} is {getattr(self, name)!r}; allowed is true or false.")
        if not isinstance(self.name, str) or not self.name.strip() or len(self.name) > 40:
            raise SpecError(f"Stage.name is {self.name!r}; allowed is a text of up to 40 characters.")
        for name, low in (("share", "(0"), ("depth", "[0")):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (name == "share" and value == 0):
                raise SpecError(f"Stage.{name} is {value!r}; allowed is a number in {low}, inf).")


TEACH = Stage("teach", 0.3, start="pre-trained", depth=0, plain=True, teaches=True)


@dataclass(frozen=True)
class Leg:
    """A stage of a certain run: the spec it follows, and the steps it takes of the whole.

    Attributes:
        stage: what it does.
        asked: the whole run.
        spec: a run of this stage alone.
        number: from 0.
        first: steps done before it.
        last: steps done after it.
    """

    stage: Stage
    asked: RunSpec
    spec: RunSpec
    number: int
    first: int
    last: int


def legs(spec: RunSpec) -> list[Leg]:
    """The stages of a run in order; one leg that is the run itself where it has none.

    Raises:
        SpecError: a stage asks for what the run does not have, or there are more stages than steps.
    """
    if not spec.stages:
        return [Leg(Stage(spec.recipe, start="pre-trained"), spec, spec, 0, 0, spec.training.steps)]
    idle = bool(spec.teacher) or not _taught(spec)
    chosen = [s for s in spec.stages if not (s.teaches and idle)]
    _check(chosen, spec)
    total, steps = sum(s.share for s in chosen), spec.training.steps
    found, done, share = [], 0, 0.0
    for number, stage in enumerate(chosen):
        share += stage.share
        last = steps if number == len(chosen) - 1 else round(steps * share / total)
        if last == done:
            raise SpecError(
                f"stage {stage.name!r} has a share of {stage.share:g} of {total:g}, which is none of "
                f"{steps} steps; raise its share, or training.steps."
            )
        found.append(Leg(stage, spec, _alone(spec, stage, last - done), number, done, last))
        done = last
    return found


def _taught(spec: RunSpec) -> bool:
    """Whether a stage begins with the fine-tuned teacher's weights or has a loss that follows it."""
    return any(
        s.start == "teacher" or (s.teacher == "fine-tuned" and _parts(spec, s).followers())
        for s in spec.stages
    )


def _check(chosen: list[Stage], spec: RunSpec) -> None:
    if not chosen:
        raise SpecError("stages holds only one that makes a teacher, and a teacher is given; add another.")
    if spec.teacher and not _taught(spec):
        raise SpecError(
            f"teacher is {spec.teacher!r} but no stage of {spec.recipe} follows a fine-tuned model: drop the "
            "teacher, or choose a recipe that learns from one."
        )
    if spec.training.steps < 2 * len(chosen):
        raise SpecError(
            f"training.steps is {spec.training.steps}, too few for {len(chosen)} stages; take more steps."
        )
    if chosen[0].start == "previous" or chosen[0].teacher == "previous":
        raise SpecError(
            f"stage {chosen[0].name!r} is the first and cannot begin with a previous one; choose the start "
            "pre-trained."
        )
    taught, cut = bool(spec.teacher), False
    for stage in chosen:
        reparam = _parts(spec, stage).reparam
        cut = cut and stage.start == "previous"
        if cut and not reparam.holds:
            raise SpecError(
                f"stage {stage.name!r} goes on with what an earlier one has pruned, but its reparam "
                f"{type(reparam).__name__} has no mask that would keep it pruned; choose the reparam Masked, "
                "or the start pre-trained."
            )
        cut |= spec.keep**stage.depth < 1 and not stage.plain and reparam.holds
        follows = stage.teacher == "fine-tuned" and bool(_parts(spec, stage).followers())
        if not taught and (follows or stage.start == "teacher"):
            raise SpecError(
                f"stage {stage.name!r} needs a fine-tuned teacher, but none is given and no stage before it "
                "makes one: give a fine-tuned model, as run:ID or a folder."
            )
        taught |= stage.teaches


def _alone(spec: RunSpec, stage: Stage, steps: int) -> RunSpec:
    """The spec of one stage: its teacher is only named here, the engine has its weights."""
    parts = _parts(spec, stage)
    given = {"none": "", "pre-trained": spec.model, "fine-tuned": spec.teacher or "the stage that teaches"}
    return dataclasses.replace(
        spec,
        stages=(),
        parts=parts,
        # A line-up that follows nobody may be asked for, to learn from labels what else a teacher says.
        teacher=given.get(stage.teacher, "the previous stage") if parts.followers() else "",
        training=dataclasses.replace(spec.training, steps=steps),
        keep=spec.keep**stage.depth,
    )


def _parts(spec: RunSpec, stage: Stage) -> LineUp:
    from analysis.spec.settings import changed

    parts = _plain(spec.parts) if stage.plain else spec.parts
    whole = [name for name in stage.settings if name.partition(".")[0] in ("training", "data")]
    if whole:
        raise SpecError(
            f"stage {stage.name!r} sets {whole[0]!r}, which holds for a whole run; a stage changes the "
            "fields of parts, such as task.weight."
        )
    try:
        return changed(_untaught(parts) if stage.teacher == "none" else parts, stage.settings)
    except SpecError as error:
        raise SpecError(f"stage {stage.name!r}: {error}") from error


def _plain(parts: LineUp) -> LineUp:
    from analysis.parts.reparam import Masked
    from analysis.parts.schedules import Constant
    from analysis.parts.scores import Magnitude
    from analysis.parts.select import TopK
    from analysis.parts.units import Weight
    from analysis.spec.core import LineUp

    return LineUp(Magnitude(), Weight(), TopK(), Constant(), Masked(), parts.optimizer)


def _untaught(parts: LineUp) -> LineUp:
    lost = {slot: None for slot, part in parts.followers().items() if part.needs_teacher}
    return dataclasses.replace(parts, **lost)  # type: ignore[arg-type]
