"""Which parts go together: an impossible line-up is refused with a sentence that says what to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.errors import SpecError
from analysis.parts.learned import BudgetHinge, LearnedKeep
from analysis.parts.levels import MultiLevel
from analysis.parts.lowrank import Component, LowRank, Perturbation, SingularValue
from analysis.parts.optim import LARS
from analysis.parts.reparam import HardConcrete, SignedPower, Zeroed
from analysis.parts.schedules import Constant, Cubic, settled
from analysis.parts.scores import Magnitude
from analysis.parts.select import OpenGate, SigmoidThreshold, TopK
from analysis.parts.selfteach import SelfDistillation
from analysis.parts.taylor import Taylor
from analysis.parts.topkast import TopKast, TopKastPenalty

if TYPE_CHECKING:
    from analysis.spec.core import LineUp


def check(parts: LineUp) -> None:
    """Refuses a line-up whose parts do not go together.

    Raises:
        SpecError: what contradicts what, and what to choose.
    """
    _learned(parts)
    _frozen(parts)
    _explored(parts)
    _measured(parts)
    _guided(parts)
    _ahead(parts)
    _grafted(parts)
    _embedded(parts)
    _factored(parts)
    _shared(parts)


def _learned(parts: LineUp) -> None:
    """Parts that need a score with a gradient of its own."""
    for slot in ("select", "reparam"):
        needs_learned = isinstance(
            getattr(parts, slot), SigmoidThreshold | OpenGate | LearnedKeep | HardConcrete
        )
        if needs_learned and not parts.score.learned:
            raise SpecError(
                f"{slot} is {type(getattr(parts, slot)).__name__}, which needs a learned score, but the "
                f"score is {type(parts.score).__name__}; choose Movement or GateLogit, or another {slot}."
            )
    if isinstance(parts.reparam, HardConcrete) and not isinstance(parts.select, OpenGate):
        raise SpecError(
            "reparam is HardConcrete, whose gates decide by themselves which weights are zero, but select "
            f"is {type(parts.select).__name__}, which would count others; choose OpenGate, or the reparam "
            "Masked."
        )
    if parts.penalty is not None and parts.penalty.needs_scores and not parts.score.learned:
        raise SpecError(
            f"penalty is {type(parts.penalty).__name__}, which pulls on learned scores, but the score is "
            f"{type(parts.score).__name__}; choose Movement or GateLogit, or no penalty."
        )
    if isinstance(parts.reparam, Zeroed) and parts.score.learned:
        raise SpecError(
            "reparam is Zeroed, whose forward pass has no mask through which the learned score "
            f"{type(parts.score).__name__} could get a gradient; choose the reparam Masked, or a score "
            "that is not learned."
        )


def _frozen(parts: LineUp) -> None:
    """A choice that is made once needs scores that are ready by then."""
    moment = settled(parts.schedule)
    if parts.score.learned and (moment == 0 or (isinstance(parts.select, OpenGate) and moment <= 1)):
        raise SpecError(
            f"schedule is {type(parts.schedule).__name__}, frozen from {moment:g} of the run on, but the "
            f"score {type(parts.score).__name__} is learned in training and would be cut before it says "
            "anything or go on after it; choose frozen=false, a later cut of top-k, or another score."
        )


def _explored(parts: LineUp) -> None:
    """Parts that need weights beyond the kept ones."""
    if isinstance(parts.select, TopKast) and not isinstance(parts.score, Magnitude):
        raise SpecError(
            "select is TopKast, where explored weights grow until they outrank kept ones, but the score "
            f"is {type(parts.score).__name__}, which their growth does not raise; choose Magnitude or "
            "Norm, or the select TopK."
        )
    if isinstance(parts.penalty, TopKastPenalty) and not isinstance(parts.select, TopKast):
        raise SpecError(
            f"penalty is TopKastPenalty, which needs explored weights, but select is "
            f"{type(parts.select).__name__}, which has none; choose the select TopKast, or no penalty."
        )


def _measured(parts: LineUp) -> None:
    """Scores that look at gradients of the loss."""
    if parts.score.passes() and isinstance(parts.schedule, Cubic):
        raise SpecError(
            f"schedule is Cubic, which cuts at every step, but the score {type(parts.score).__name__} is "
            "measured on training examples at every cut; choose the schedule Rounds or OneShot, or a "
            "score that needs no measuring."
        )
    looks = parts.score.on_demand or parts.score.observes or parts.score.watches
    if looks and isinstance(parts.reparam, SignedPower):
        raise SpecError(
            f"score is {type(parts.score).__name__}, measured on the weights as stored, but the reparam "
            "SignedPower stores their roots; choose the reparam Masked, or a score that needs no gradients."
        )


def _guided(parts: LineUp) -> None:
    """A score that sees the gradient of some losses only needs one of them."""
    given = [parts.task, parts.distillation, parts.penalty]
    if isinstance(parts.score, Taylor) and parts.score.separation:
        if not any(part is not None and part.weight for part in given):
            raise SpecError(
                "score is Taylor with separation, which sees the task and distillation losses only, but "
                "task.weight is 0 and no distillation has a weight: set task.weight=1 to score by the "
                "labels, or score.separation=false."
            )


def _ahead(parts: LineUp) -> None:
    """Look-aheads and optimizers that work with the gradient of the stored parameter."""
    if parts.lookahead is not None:
        parts.lookahead.check(parts.optimizer)
    raw = isinstance(parts.reparam, SignedPower) and parts.reparam.alpha != 1 and parts.reparam.raw_moments
    for name, part in (("lookahead", parts.lookahead), ("optimizer", parts.optimizer)):
        if raw and (name == "lookahead" or isinstance(part, LARS)) and part is not None:
            raise SpecError(
                f"{name} is {type(part).__name__}, which sets gradients against the stored weights, but the "
                "reparam SignedPower with raw_moments hands on the gradient of their power; choose "
                "raw_moments=false, or another part."
            )


def _embedded(parts: LineUp) -> None:
    """Teachers that share the student's weights have a whole table."""
    if parts.embedding is not None and parts.graft is not None:
        raise SpecError(
            "embedding is FactorisedEmbedding, but graft is Graft, which leaves the embeddings those of the "
            "teacher; choose embedding.type=none or graft.type=none."
        )
    if parts.embedding is not None and isinstance(parts.distillation, SelfDistillation):
        raise SpecError(
            "embedding is FactorisedEmbedding, but distillation is SelfDistillation, whose teacher is "
            "an earlier state of the student with a whole table; choose SoftTargets, or embedding.type=none."
        )


def _grafted(parts: LineUp) -> None:
    """A graft borrows the layers of a teacher that stands still."""
    if parts.graft is not None and isinstance(parts.distillation, SelfDistillation):
        raise SpecError(
            "graft is Graft, which borrows the layers of a fixed teacher, but distillation is "
            "SelfDistillation, whose teacher changes during the run; choose SoftTargets, or no graft."
        )


def _factored(parts: LineUp) -> None:
    """Factors have a rank and no masks; what ranks, masks or powers single weights has no place there."""
    if not isinstance(parts.reparam, LowRank):
        for slot, part in (("units", parts.units), ("score", parts.score), ("penalty", parts.penalty)):
            if isinstance(part, Component | SingularValue | Perturbation):
                raise SpecError(
                    f"{slot} is {type(part).__name__}, which belongs to weights stored as two factors, but "
                    f"the reparam is {type(parts.reparam).__name__}; choose the reparam LowRank, or another "
                    f"{slot}."
                )
        return
    wanted = {
        "units": (parts.units, Component),
        "score": (parts.score, SingularValue),
        "select": (parts.select, TopK),
        "schedule": (parts.schedule, Constant),
    }
    for slot, (chosen, kind) in wanted.items():
        if type(chosen) is not kind:
            raise SpecError(
                f"reparam is LowRank, whose factors hold the components with the largest singular values of "
                f"each matrix from the first step on and have no masks, but {slot} is "
                f"{type(chosen).__name__}; choose {slot}.type={kind.__name__}, or another reparam."
            )
    if isinstance(parts.select, TopK) and (parts.select.scope != "local" or parts.select.least):
        raise SpecError(
            f"reparam is LowRank, whose ranks are fixed matrix by matrix, but select is TopK with scope "
            f"{parts.select.scope!r} and least {parts.select.least}; choose scope=local and least=0."
        )


def _shared(parts: LineUp) -> None:
    """Learned shares and the penalty that moves them need each other; gates that draw need sites of one."""
    learns, pulls = isinstance(parts.select, LearnedKeep), isinstance(parts.penalty, BudgetHinge)
    if pulls and not learns:
        raise SpecError(
            "penalty is BudgetHinge, which pulls on learned shares, but select is "
            f"{type(parts.select).__name__}, which learns none; choose the select LearnedKeep, or another "
            "penalty."
        )
    if learns and not pulls:
        name = type(parts.penalty).__name__ if parts.penalty is not None else "empty"
        raise SpecError(
            "select is LearnedKeep, whose shares only a BudgetHinge brings to the keep asked for, but "
            f"penalty is {name}; choose the penalty BudgetHinge, or another select."
        )
    if isinstance(parts.units, MultiLevel) and isinstance(parts.reparam, HardConcrete):
        raise SpecError(
            "units is MultiLevel, where one weight can belong to two units, but reparam is HardConcrete, "
            "whose gates are drawn site by site; choose the reparam MaskedUnits, or other units."
        )
