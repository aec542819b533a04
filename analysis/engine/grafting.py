"""Grafting the layers of a student into a fixed teacher, in place: names and parameters stay the student's.

The forward of a block is replaced on the object, not the block by a wrapper: a wrapper would put a name of
its own into every path by which masks, checkpoints and exports are known. Hooks of the block run as before,
so that hidden states are captured once; those of the teacher's block are passed by, or they would be twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from analysis.engine.blocks import block_of, inside
from analysis.engine.matcher import same_shapes
from analysis.engine.sites import Site
from analysis.parts.graft import Graft


def drawn(p: float, positions: int, passes: int = 1) -> list[list[bool]]:
    """Draws which positions are the student's.

    Args:
        p: probability, in [0, 1].
        positions: layers.
        passes: times each is passed in one forward (more than once where layers share their weights).

    Returns:
        one list of ``passes`` draws per layer.
    """
    found: list[list[bool]] = (torch.rand(positions, passes) < p).tolist()
    return found


@dataclass
class Grafting:
    """The graft of one run.

    Attributes:
        part: what was asked.
        own: the student's blocks, in order.
        others: the teacher's, in the same order.
        passes: times a block is passed in one forward.
        rate: probability of the last draw.
        draws: which passes are the student's at this step, one list per block.
    """

    part: Graft
    own: list[nn.Module]
    others: list[nn.Module]
    passes: int = 1
    rate: float = 1.0
    draws: list[list[bool]] = field(default_factory=list)

    def draw(self, progress: float) -> None:
        """Draws anew, once per optimizer step: the pieces of a batch and a look-ahead see one network."""
        self.rate = self.part.at(progress)
        self.draws = drawn(self.rate, len(self.own), self.passes)

    def detach(self) -> None:
        """Gives the blocks their own forward back."""
        for block in self.own:
            del block.forward

    def _hook(self, number: int) -> Callable[..., Any]:
        own, mine, count = self.own[number], self.own[number].forward, 0
        other = self.others[number]

        def forward(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if not own.training or not self.draws:
                return mine(*args, **kwargs)
            student = self.draws[number][count % self.passes]
            count += 1
            return mine(*args, **kwargs) if student else other.forward(*args, **kwargs)

        return forward


def attach(
    part: Graft | None, student: nn.Module, teacher: nn.Module | None, sites: Sequence[Site], copy: bool
) -> Grafting | None:
    """Grafts a student into its teacher.

    Args:
        part: how; None for no graft.
        student: before masks are attached.
        teacher: of the same architecture, in evaluation mode.
        sites: prunable weights of the student; their blocks are the layers.
        copy: whether the student first becomes a copy of the teacher.

    Returns:
        the graft, None without one.

    Raises:
        SpecError: the teacher has other layers than the student.
    """
    if part is None or teacher is None:
        return None
    paths = list(dict.fromkeys(b for s in sites if (b := block_of(s.name, s.role == "conv"))))
    same_shapes("graft puts the teacher's layers in the student's places", student, teacher.state_dict())
    if copy:
        student.load_state_dict(teacher.state_dict())
    own, others = ([m.get_submodule(p) for p in paths] for m in (student, teacher))
    depth = getattr(student.config, "num_hidden_layers", None)
    graft = Grafting(part, own, others, max(1, math.ceil(depth / len(own))) if isinstance(depth, int) else 1)
    for number, block in enumerate(own):
        block.forward = graft._hook(number)
    if part.frozen:
        for name, parameter in student.named_parameters():
            if not inside(name, paths):
                parameter.requires_grad_(False)
    return graft
