"""A teacher made of the run itself: an earlier state of the student, with its masks applied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from analysis.engine.pruner import Pruner
from analysis.parts.selfteach import SelfDistillation


@dataclass
class Tutor:
    """Decides at every evaluation whether the student becomes the teacher, and copies it.

    Attributes:
        model: the teacher, a plain model without gates.
        part: the policy.
        ready: whether it may teach already: from the start with a fine-tuned model, else from the first
            snapshot.
        best: best metric of a snapshot so far.
        seen: evaluations so far.
    """

    model: nn.Module
    part: SelfDistillation
    ready: bool = False
    best: float = -math.inf
    seen: int = 0

    def consider(self, value: float, progress: float, student: nn.Module, pruner: Pruner) -> None:
        """Looks at an evaluation of the student under its masks of now.

        Args:
            value: the metric; higher is better.
            progress: position in the run, in [0, 1].
            student: the model that was evaluated.
            pruner: its masks.
        """
        self.seen += 1
        if self.part.takes(value, self.best, self.seen, progress):
            self.best, self.ready = max(self.best, value), True
            self.model.load_state_dict(plain_state(student, pruner, self.model))

    def memory(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        own = {"ready": self.ready, "best": self.best, "seen": self.seen}
        return {**own, "model": self.model.state_dict()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restores what ``memory`` returned."""
        self.ready, self.best, self.seen = memory["ready"], memory["best"], memory["seen"]
        self.model.load_state_dict(memory["model"])


@torch.no_grad()
def plain_state(student: nn.Module, pruner: Pruner, plain: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a masked student as they would be exported, under the names of a plain model.

    Args:
        student: with gates attached.
        pruner: its gates.
        plain: a model of the same kind without gates.

    Returns:
        a state dict for the plain model.
    """
    raw = {
        name.replace(".parametrizations", "").removesuffix(".original"): value
        for name, value in student.state_dict().items()
    }
    for site, gate, bias in zip(pruner.sites, pruner.gates, pruner.biases, strict=True):
        raw[f"{site.name}.weight"] = gate.final(site.weight.detach())
        if bias is not None:
            raw[f"{site.name}.bias"] = bias(raw[f"{site.name}.bias"])
    return {name: raw[name] for name in plain.state_dict()}
