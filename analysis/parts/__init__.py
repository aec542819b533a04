"""The orthogonal pieces of a pruning method; a recipe lines up one piece per slot."""

from __future__ import annotations

from analysis.parts import lookahead, losses, optim, reparam, schedules, scores, select, units
from analysis.parts.base import Knob, Part, checked, knob, knobs

SLOTS: dict[str, dict[str, type[Part]]] = {
    "score": {
        c.__name__: c
        for c in (scores.Magnitude, scores.Norm, scores.Random, scores.Movement, scores.GateLogit)
    },
    "units": {c.__name__: c for c in (units.Weight, units.Block, units.Row, units.Column, units.Structure)},
    "select": {c.__name__: c for c in (select.TopK, select.SigmoidThreshold, select.OpenGate)},
    "schedule": {c.__name__: c for c in (schedules.Cubic, schedules.Constant, schedules.OneShot)},
    "reparam": {c.__name__: c for c in (reparam.Masked, reparam.MaskedRows, reparam.HardConcrete)},
    "optimizer": {c.__name__: c for c in (optim.AdamW, optim.SGD, optim.LARS)},
    "lookahead": {c.__name__: c for c in (lookahead.Extrapolation,)},
}
LOSSES: dict[str, dict[str, type[Part]]] = {
    "task": {c.__name__: c for c in (losses.Task,)},
    "distillation": {c.__name__: c for c in (losses.LogitDistillation,)},
    "penalty": {c.__name__: c for c in (losses.SigmoidPenalty, losses.BalancedPenalty, losses.GatePenalty)},
}

__all__ = ["LOSSES", "SLOTS", "Knob", "Part", "checked", "knob", "knobs"]
