"""The loss terms of a step: what they look at, and how they are weighed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from analysis.engine import factors, matcher, shares
from analysis.engine.evaluate import TARGETS
from analysis.engine.setup import Setup
from analysis.engine.tasks_token import IGNORED
from analysis.parts import LOSSES
from analysis.parts.losses import LossContext

HEADS = ("logits", "start_logits", "end_logits")


def losses(s: Setup, indices: np.ndarray, step: int = 0) -> dict[str, torch.Tensor]:
    """The unweighted terms of a batch in a step, by slot; gradients flow through them."""
    batch = {k: v.to(s.device) for k, v in s.data.train.batch(indices).items()}
    show = matcher.wanted(s.spec.parts)
    answer: Any = {}
    # The teacher first: only then do its layers, which a graft borrows, give away their attention.
    if s.teacher is not None and (s.tutor is None or s.tutor.ready):
        with torch.no_grad():
            answer = s.teacher(**batch, **show)
    out = s.model(**batch, **show)
    hidden, attentions = matcher.inside(out)
    hidden_teacher, attentions_teacher = matcher.inside(answer)
    real = batch.get("attention_mask")
    context = LossContext(
        task=out["loss"],
        logits={h: out[h] for h in HEADS if h in out},
        teacher={h: answer[h] for h in HEADS if h in answer},
        scores=s.pruner.learned_scores(),
        parts=[g.part for g in s.pruner.groups],
        counted=_counted(batch.get("labels"), out),
        targets={h: batch[t] for h, t in zip(HEADS, TARGETS, strict=True) if t in batch},
        reach=s.pruner.reach,
        products=partial(factors.products, s.pruner, s.start),
        step=step,
        hidden=hidden,
        hidden_teacher=hidden_teacher,
        attentions=attentions,
        attentions_teacher=attentions_teacher,
        tokens=real.bool() if real is not None and real.ndim == 2 else None,
        budget=shares.budget(s.pruner),
        heads=lambda: matcher.heads_left(s.pruner),
        project=lambda k, state: s.maps[str(k)](state) if str(k) in s.maps else state,
    )
    parts = s.spec.parts
    chosen = {slot: getattr(parts, slot) for slot in LOSSES}
    return {name: part.value(context) for name, part in chosen.items() if part is not None}


def _counted(labels: torch.Tensor | None, out: Any) -> torch.Tensor | None:
    """Which rows of the logits have a label of their own; only where every token has one."""
    if labels is None or "logits" not in out or labels.shape != out["logits"].shape[:-1] or labels.ndim < 2:
        return None
    return labels != IGNORED


def ramp(s: Setup, progress: float) -> float:
    """How far the schedule has gone, in [0, 1]; a penalty follows it and is constant where it is."""
    return s.spec.parts.schedule.value(progress, 0.0, 1.0)


def weight(s: Setup, name: str, ramp: float) -> float:
    """The weight of a term; a penalty's follows the ramp and its controller."""
    if name != "penalty":
        return float(getattr(s.spec.parts, name).weight)
    penalty = s.spec.parts.penalty
    assert penalty is not None
    return ramp * (s.steer.weight() if s.steer is not None else penalty.weight)
