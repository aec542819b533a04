"""What a run computes, in multiply-adds: counted on a forward pass, not derived from a fraction of zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from analysis.engine.evaluate import TARGETS
from analysis.engine.order import epoch_batches
from analysis.engine.setup import Setup
from analysis.engine.splits import Split
from analysis.parts.schedules import settled

STEP = 3  # a forward pass, and a backward pass twice as dear: one product for inputs, one for weights


@torch.no_grad()
def forward_macs(model: nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """Counts the multiply-adds of one forward pass: matrix products, convolutions and attention products.

    Additions, activations and norms are not counted. A masked weight counts as any other: kernels multiply by
    its zero.

    Args:
        model: a model in the state whose cost is asked; its mode and its attention are as before afterwards.
        inputs: arguments of its forward; their first dimension is the batch. Model and inputs may live on the
            meta device, where nothing is computed.

    Returns:
        multiply-adds, half of what the counter calls FLOPs.
    """
    training = model.training
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    _attend(model, "eager" if attention else None)  # fused attention kernels are not counted everywhere
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            model(**inputs)
    finally:
        model.train(training)
        _attend(model, attention)
    return int(counter.get_total_flops()) // 2


def _attend(model: Any, how: str | None) -> None:
    if how and hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation(how)


def average_inputs(split: Split, batch: int, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """One example as long as the batches of a run are on average, padding included.

    Args:
        split: the training split.
        batch: examples per optimizer step.
        seed: seed of the run, which decides the batches.

    Returns:
        the model's inputs with a batch of one, and their size: {"tokens": n} or {"pixels": n}.
    """
    lengths = split.lengths
    widths = [int(lengths[b].max()) for b in epoch_batches(lengths, batch, seed, 0)]
    width, longest = round(float(np.mean(widths))), int(np.argmax(lengths))
    fields = {k: v for k, v in split.batch(np.array([longest])).items() if k not in TARGETS}
    if "pixel_values" in fields:
        return fields, {"pixels": fields["pixel_values"].shape[-2:].numel()}
    whole = int(lengths[longest])
    cut = {k: v[:, :width] if v.ndim > 1 and v.shape[1] == whole else v for k, v in fields.items()}
    return cut, {"tokens": width}


def example_macs(s: Setup, model: nn.Module) -> int:
    """Multiply-adds of a forward pass of a model over one average example of a run."""
    inputs, _ = average_inputs(s.data.train, s.spec.training.batch, s.spec.seed)
    return forward_macs(model, {k: v.to(s.device) for k, v in inputs.items()})


def of_run(s: Setup, dense: int, removed: int) -> dict[str, Any]:
    """What a run computed: C = steps * batch * (3 * forward + forward of the teacher).

    The forward pass is that of the shapes that were trained. Masks that never change after a cut could have
    been removed at that moment, so the steps after it count with the shapes left by removal, as long as
    something could be removed; all other masks leave every product in place. Evaluations and the search for
    settings are not counted.

    Args:
        s: the run.
        dense: multiply-adds of a forward pass over one average example, before removal.
        removed: the same after removal; ``dense`` where nothing was removed.

    Returns:
        an event: macs_forward, per example, at the end; macs_step, of the last optimizer step; macs_run, of
        the whole run with all its stages; tokens (padding included) or pixels of an average example.
    """
    plan = s.spec.training
    batch = min(plan.batch, len(s.data.train.lengths))
    size = average_inputs(s.data.train, plan.batch, s.spec.seed)[1]
    teacher = example_macs(s, s.teacher) if s.teacher is not None else 0
    # Factors stand from the first step on, and the layers compute through them.
    moment = 0 if any(g.rank for g in s.pruner.gates) else settled(s.spec.parts.schedule)
    found = total_macs(plan.steps, batch, dense, removed, moment, teacher)
    return {**found, "macs_run": s.carry.macs + found["macs_run"], **size}


def of_stage(s: Setup) -> int:
    """Multiply-adds of a stage that another one follows; nothing is removed before the last one ends."""
    forward = example_macs(s, s.model)
    return int(of_run(s, forward, forward)["macs_run"]) - s.carry.macs


def total_macs(
    steps: int, batch: int, dense: int, removed: int, moment: float, teacher: int = 0
) -> dict[str, int]:
    """Adds up a run.

    Args:
        steps: optimizer steps.
        batch: examples per step.
        dense: multiply-adds of a forward pass over one example of the whole model.
        removed: the same after removal.
        moment: progress from which on the masks stand; above 1 for never.
        teacher: multiply-adds of the teacher's forward pass over one example, 0 for none.

    Returns:
        macs_forward, macs_step and macs_run.
    """
    before = min(steps, int(np.ceil(min(moment, 1.0) * steps)))
    forward = dense if before == steps else removed
    per_step = {f: batch * (STEP * f + teacher) for f in (dense, removed)}
    run = before * per_step[dense] + (steps - before) * per_step[removed]
    return {"macs_forward": forward, "macs_step": per_step[forward], "macs_run": run}
