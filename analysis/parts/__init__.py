"""The orthogonal pieces of a pruning method; a recipe lines up one piece per slot."""

from __future__ import annotations

from analysis.parts import (
    budget,
    embedding,
    floor,
    flow,
    graft,
    kept_heads,
    learned,
    levels,
    lookahead,
    losses,
    lowrank,
    matching,
    nested,
    optim,
    reparam,
    schedules,
    scores,
    select,
    selfteach,
    sensitivity,
    taylor,
    topkast,
    units,
)
from analysis.parts.base import Knob, Part, checked, knob, knobs

SLOTS: dict[str, dict[str, type[Part]]] = {
    "score": {
        c.__name__: c
        for c in (
            scores.Magnitude,
            scores.Norm,
            scores.Random,
            scores.Movement,
            scores.GateLogit,
            flow.Flow,
            sensitivity.Sensitivity,
            taylor.Taylor,
            lowrank.SingularValue,
        )
    },
    "units": {
        c.__name__: c
        for c in (
            units.Weight,
            units.Block,
            units.Row,
            units.Column,
            units.Structure,
            levels.MultiLevel,
            lowrank.Component,
        )
    },
    "select": {
        c.__name__: c
        for c in (
            select.TopK,
            topkast.TopKast,
            nested.NestedTopK,
            select.SigmoidThreshold,
            select.OpenGate,
            floor.GlobalWithFloor,
            floor.GlobalCut,
            budget.ParameterBudget,
            learned.LearnedKeep,
        )
    },
    "schedule": {
        c.__name__: c
        for c in (
            schedules.Cubic,
            schedules.CubicEvery,
            schedules.Rounds,
            schedules.Constant,
            schedules.OneShot,
            schedules.Events,
        )
    },
    "reparam": {
        c.__name__: c
        for c in (
            reparam.Masked,
            reparam.MaskedRows,
            learned.MaskedUnits,
            reparam.Zeroed,
            reparam.SignedPower,
            reparam.HardConcrete,
            lowrank.LowRank,
        )
    },
    "optimizer": {c.__name__: c for c in (optim.AdamW, optim.SGD, optim.LARS)},
    "lookahead": {c.__name__: c for c in (lookahead.Extrapolation,)},
    "graft": {c.__name__: c for c in (graft.Graft,)},
    "embedding": {c.__name__: c for c in (embedding.FactorisedEmbedding,)},
}
LOSSES: dict[str, dict[str, type[Part]]] = {
    "task": {c.__name__: c for c in (losses.Task,)},
    "distillation": {
        c.__name__: c
        for c in (
            losses.LogitDistillation,
            matching.SoftTargets,
            graft.SoftClasses,
            selfteach.SelfDistillation,
        )
    },
    "hidden": {c.__name__: c for c in (matching.HiddenDistillation,)},
    "attention": {c.__name__: c for c in (matching.AttentionDistillation, kept_heads.KeptHeadsDistillation)},
    "penalty": {
        c.__name__: c
        for c in (
            losses.SigmoidPenalty,
            losses.BalancedPenalty,
            losses.GatePenalty,
            topkast.TopKastPenalty,
            lowrank.Perturbation,
            learned.BudgetHinge,
        )
    },
}

__all__ = ["LOSSES", "SLOTS", "Knob", "Part", "checked", "knob", "knobs"]
