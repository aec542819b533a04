"""The orthogonal pieces of a pruning method; a recipe lines up one piece per slot."""

from __future__ import annotations

from analysis.parts import (
    floor,
    flow,
    kept_heads,
    learned,
    levels,
    lookahead,
    losses,
    matching,
    optim,
    reparam,
    schedules,
    scores,
    select,
    selfteach,
    sensitivity,
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
        )
    },
    "units": {
        c.__name__: c
        for c in (units.Weight, units.Block, units.Row, units.Column, units.Structure, levels.MultiLevel)
    },
    "select": {
        c.__name__: c
        for c in (
            select.TopK,
            topkast.TopKast,
            select.SigmoidThreshold,
            select.OpenGate,
            floor.GlobalWithFloor,
            floor.GlobalCut,
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
        )
    },
    "optimizer": {c.__name__: c for c in (optim.AdamW, optim.SGD, optim.LARS)},
    "lookahead": {c.__name__: c for c in (lookahead.Extrapolation,)},
}
LOSSES: dict[str, dict[str, type[Part]]] = {
    "task": {c.__name__: c for c in (losses.Task,)},
    "distillation": {
        c.__name__: c for c in (losses.LogitDistillation, matching.SoftTargets, selfteach.SelfDistillation)
    },
    "hidden": {c.__name__: c for c in (matching.HiddenDistillation,)},
    "attention": {c.__name__: c for c in (matching.AttentionDistillation, kept_heads.KeptHeadsDistillation)},
    "penalty": {
        c.__name__: c
        for c in (
            losses.SigmoidPenalty,
            losses.BalancedPenalty,
            losses.GatePenalty,
            losses.TopKastPenalty,
            learned.BudgetHinge,
        )
    },
}

__all__ = ["LOSSES", "SLOTS", "Knob", "Part", "checked", "knob", "knobs"]
