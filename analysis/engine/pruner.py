"""The life of a mask: attach after loading, select once per optimizer step, make permanent at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from analysis.engine.sites import Site
from analysis.parts.gates import HardConcreteGate, MaskGate
from analysis.spec import LineUp


@dataclass
class Pruner:
    """Masks of all sites under one line-up.

    Attributes:
        sites: the prunable weights.
        lineup: the parts that decide.
        keep: fraction of units to keep at the end, in (0, 1].
        gates: the parametrization of each site.
        states: what a score that is not learned drew at the start, None per site otherwise.
    """

    sites: list[Site]
    lineup: LineUp
    keep: float
    gates: list[MaskGate | HardConcreteGate] = field(default_factory=list)
    states: list[torch.Tensor | None] = field(default_factory=list)
    kept: int = 0
    total: int = 0

    @classmethod
    def attach(cls, sites: list[Site], lineup: LineUp, keep: float, seed: int) -> Pruner:
        """Puts a gate on every site of a loaded model.

        With binary masks the model's outputs do not change until the first cut; hard-concrete gates begin at
        0.98 of the weight and are random in training.

        Scores are created here and never inside a model class: transformers would re-create them,
        uninitialised.
        """
        pruner = cls(sites, lineup, keep)
        generator = torch.Generator().manual_seed(seed)
        for site in sites:
            weight = site.weight.detach()
            state = lineup.score.init(weight.cpu(), generator)
            state = state.to(weight.device) if state is not None else None
            gate = lineup.reparam.gate(state if lineup.score.learned else None, weight.shape).to(
                weight.device
            )
            parametrize.register_parametrization(site.module, "weight", gate, unsafe=True)
            pruner.gates.append(gate)
            pruner.states.append(None if lineup.score.learned else state)
        pruner.kept = pruner.total = sum(s.weight.numel() for s in sites)
        return pruner

    def learned_scores(self) -> list[nn.Parameter]:
        """Score tensors the optimizer trains, one per site; none for scores that are not learned."""
        return [g.scores for g in self.gates if g.scores is not None]

    def scores(self, i: int) -> torch.Tensor:
        """The current score of site i, shape of its weight."""
        gate = self.gates[i]
        state = gate.scores if gate.scores is not None else self.states[i]
        return self.lineup.score.of(
            self.sites[i].weight.detach(), state.detach() if state is not None else None
        )

    def scheduled(self, progress: float) -> float:
        """What the schedule asks of the selection at this moment (a keep, or a threshold)."""
        return self.lineup.schedule.value(progress, *self.lineup.select.span(self.keep))

    @torch.no_grad()
    def refresh(self, progress: float) -> None:
        """Selects anew: scores to masks, written into the gates."""
        value = self.scheduled(progress)
        if self.kept == self.total and self.lineup.select.keeps_all(value):
            return  # before the first cut everything is kept, whatever the scores
        units = self.lineup.units
        chosen = self.lineup.select.choose(
            [units.pool(self.scores(i)) for i in range(len(self.sites))], value
        )
        kept = 0
        for gate, choice in zip(self.gates, chosen, strict=True):
            mask = units.spread(choice, gate.mask.shape)
            gate.mask.copy_(mask.view(torch.uint8))  # converting from bool is three times slower
            kept += int(np.count_nonzero(choice.cpu().numpy()))  # ten times as fast as torch's count
        self.kept = kept

    def masks(self) -> list[torch.Tensor]:
        """Copies of the current masks, bool, one per site."""
        return [g.mask.bool() for g in self.gates]

    def hold(self) -> tuple[list[torch.Tensor], int]:
        """The current masks and count, to be put back after a look at other ones."""
        return [g.mask.clone() for g in self.gates], self.kept

    def put_back(self, held: tuple[list[torch.Tensor], int]) -> None:
        """Restores what ``hold`` returned; selecting anew instead would see scores that have moved since."""
        for gate, mask in zip(self.gates, held[0], strict=True):
            gate.mask.copy_(mask)
        self.kept = held[1]

    def thresholds(self) -> list[float]:
        """The lowest score that is kept, per site; NaN where nothing is cut or nothing kept."""
        found = []
        for i, gate in enumerate(self.gates):
            mask = gate.mask.bool()
            whole = bool(mask.all()) or not bool(mask.any())
            found.append(math.nan if whole else float(self.scores(i)[mask].min()))
        return found

    @torch.no_grad()
    def finalise(self) -> None:
        """Makes the masks permanent: every weight becomes its exported value and the gates disappear."""
        for site, gate in zip(self.sites, self.gates, strict=True):
            final = gate.final(site.weight.detach())
            parametrize.remove_parametrizations(site.module, "weight", leave_parametrized=False)
            site.weight.copy_(final)
