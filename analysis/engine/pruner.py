"""The life of a mask: attach after loading, select once per optimizer step, make permanent at the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from analysis.engine import factors, scoring, shares
from analysis.engine.measure import Measurer
from analysis.engine.sites import Site
from analysis.errors import SpecError
from analysis.parts.concrete_gate import HardConcreteGate
from analysis.parts.gates import BiasGate, MaskGate
from analysis.parts.losses import Reach
from analysis.parts.reparam import HardConcrete
from analysis.parts.schedules import settled
from analysis.parts.shares import Share
from analysis.parts.units import Group, Member, Window, expand
from analysis.spec import LineUp


@dataclass
class Pruner:
    """Masks of all sites under one line-up.

    Attributes:
        sites: the prunable weights.
        lineup: the parts that decide.
        keep: fraction of units to keep at the end, in (0, 1].
        groups: the units, in groups that are ranked together; a site that is in none is never cut.
        states: per group, the learned scores, or what a score that is not learned drew at the start, or None.
        shares: per group, what it learns of how much it keeps; None where that is given.
        gates: the parametrization of each site's weight.
        biases: the parametrization of each site's bias where biases are masked, None per site otherwise.
        kept: prunable weights kept by the current masks.
        total: prunable weights.
        start: pre-trained weights of the sites, on the CPU, for scores computed on demand.
        measure: gives such scores the gradient and H g of the loss with respect to some weights.
        cut: value of the schedule at the last selection, None before the first.
        held: what an earlier stage left, bool, one per site; the rest stays pruned. Empty for all weights.
        open: prunable weights that may be kept: all, or those held.
    """

    sites: list[Site]
    lineup: LineUp
    keep: float
    groups: list[Group] = field(default_factory=list)
    states: list[torch.Tensor | None] = field(default_factory=list)
    shares: list[Share | None] = field(default_factory=list)
    gates: list[MaskGate | HardConcreteGate] = field(default_factory=list)
    biases: list[BiasGate | None] = field(default_factory=list)
    kept: int = 0
    total: int = 0
    start: list[torch.Tensor] = field(default_factory=list)
    measure: Measurer | None = None
    cut: float | None = None
    held: list[torch.Tensor] = field(default_factory=list)
    open: int = 0

    @classmethod
    def attach(
        cls,
        sites: list[Site],
        lineup: LineUp,
        keep: float,
        seed: int,
        held: Sequence[torch.Tensor] = (),
    ) -> Pruner:
        """Puts a gate on every site of a loaded model.

        With binary masks the model's outputs do not change until the first cut; hard-concrete gates begin at
        0.98 of the weight and are random in training.

        Scores are created here and never inside a model class: transformers would re-create them,
        uninitialised.

        Raises:
            SpecError: the model has no such units, or the gates cannot reach all of a unit.
        """
        pruner = cls(sites, lineup, keep, lineup.units.groups(shares.shapes_left(sites, held)))
        follows = {g.kind for g in pruner.groups for m in g.members if not m.ranks}
        if follows and isinstance(lineup.reparam, HardConcrete):
            raise SpecError(
                f"reparam is HardConcrete, whose gates are drawn site by site, but a unit of the kind "
                f"{', '.join(sorted(follows))} must be open or shut in two sites at once; choose the reparam "
                "Masked, or units.conv=none."
            )
        generator = torch.Generator().manual_seed(seed)
        device = sites[0].weight.device
        for group in pruner.groups:
            state = lineup.score.init(group.units, generator)
            state = state.to(device) if state is not None else None
            learned = state is not None and lineup.score.learned
            pruner.states.append(nn.Parameter(state) if learned else state)  # type: ignore[arg-type]
            pruner.shares.append(shares.share_of(lineup.select, group, device))
        for i, site in enumerate(sites):
            pruner._attach_site(i, site)
        pruner.total = sum(g.mask.numel() for g in pruner.gates)
        pruner.kept = pruner.open = factors.stored(pruner)
        if held and not all(bool(m.all()) for m in held):
            pruner.held = [m.to(device) for m in held]
            for i in range(len(sites)):
                pruner._write_site(i, torch.ones_like(pruner.held[i]))
            pruner.kept = pruner.open = sum(int(m.count_nonzero()) for m in pruner.held)
        return pruner

    def _attach_site(self, i: int, site: Site) -> None:
        weight = site.weight
        own = self._group_of(i)
        grid = own[1].grid if own else (1, 1)
        state = self.states[own[0]] if own and own[1].ranks else None
        scores = state if isinstance(state, nn.Parameter) else None
        gate: MaskGate | HardConcreteGate
        gate = (
            self.lineup.reparam.gate(scores, weight.shape, grid)
            if own
            else self.lineup.reparam.bare(site.shape, weight.shape, self.keep)
        )
        if own and self.lineup.select.explores and isinstance(gate, MaskGate):
            gate.widen()
        if own and own[1].ranks and isinstance(gate, MaskGate):
            gate.share = self.shares[own[0]]
        self.gates.append(gate.to(weight.device))
        parametrize.register_parametrization(site.module, "weight", gate, unsafe=True)
        factors.take(site, gate)
        bias = getattr(site.module, "bias", None)
        own_bias: BiasGate | None = None
        if bias is not None and own is not None and own[1].biased and self.lineup.reparam.masks_biases:
            own_bias = shares.bias_gate(bias, gate, self.lineup.reparam)
            parametrize.register_parametrization(site.module, "bias", own_bias, unsafe=True)
        self.biases.append(own_bias)

    def _group_of(self, site: int) -> tuple[int, Member] | None:
        """The group whose units a site ranks; where it ranks none, one whose units reach into it."""
        found = self._groups_of(site)
        return next((own for own in found if own[1].ranks), found[0] if found else None)

    def _groups_of(self, site: int) -> list[tuple[int, Member]]:
        return [(g, m) for g, group in enumerate(self.groups) for m in group.members if m.site == site]

    def learned_scores(self) -> list[nn.Parameter]:
        """Score tensors the optimizer trains, one per group; none for scores that are not learned."""
        return [s for s in self.states if isinstance(s, nn.Parameter)]

    def weight(self, i: int) -> torch.Tensor:
        """The dense weight of site i as the model means it, before the mask, detached; what scores see."""
        return self.gates[i].effective(self.sites[i].weight.detach())

    def reach(self) -> list[Reach]:
        """The sites whose gradients reach further than the forward pass, with gradients flowing to them."""
        return [
            Reach(gate.effective(site.weight), gate.mask, gate.reach)
            for site, gate in zip(self.sites, self.gates, strict=True)
            if gate.reach is not None
        ]

    def decaying(self) -> list[torch.Tensor]:
        """Stored parameters whose gates apply the weight decay themselves."""
        return [site.weight for site, gate in zip(self.sites, self.gates, strict=True) if gate.decays]

    def scores(self, i: int) -> torch.Tensor:
        """The current score of every weight of site i, shape of its weight; NaN where nothing is ranked, the
        lowest of the site where a weight lies outside the window of its units.
        """
        own = self._group_of(i)
        if own is None:
            return torch.full_like(self.gates[i].mask, math.nan)
        units = scoring.current(self, own[0])
        low = units.min() if isinstance(own[1].grid, Window) else 0
        return (self._spread(units - low, own[1]) + low).to(torch.float32)

    def _spread(self, units: torch.Tensor, member: Member) -> torch.Tensor:
        shape = self.gates[member.site].mask.shape
        return expand(units, member.grid, shape[0], shape.numel() // shape[0]).reshape(shape)

    def scheduled(self, progress: float) -> float:
        """What the schedule asks of the selection at this moment (a keep, or a threshold)."""
        return self.lineup.schedule.value(progress, *self.lineup.select.span(self.keep))

    @torch.no_grad()
    def refresh(self, progress: float) -> None:
        """Selects anew: scores to masks, written into the gates.

        Scores that are computed on demand are so only when the schedule has moved, and rank what is left; a
        nested selection does the same.
        """
        made = self.kept < self.open and progress >= settled(self.lineup.schedule)
        if made or not self.groups:
            return  # the cut is made; ranking again would exchange units as their weights move
        value = self.scheduled(progress)
        if self.kept == self.open and self.lineup.select.keeps_all(value):
            return  # before the first cut everything is kept, whatever the scores
        waits = self.lineup.score.on_demand or self.lineup.select.nested
        if waits and value == self.cut:
            return
        if self.lineup.score.on_demand:
            scores = scoring.measured(self)
        else:
            scores = [scoring.living(self, g) for g in range(len(self.groups))]
        self.cut = value
        self.write(shares.choose(self, scores, value))
        self._write_reach(self.lineup.select.reach(scores, value))

    def _write_reach(self, chosen: Sequence[torch.Tensor] | None) -> None:
        for group, choice in zip(self.groups, chosen or (), strict=chosen is not None):
            for member in group.members:
                reach = self.gates[member.site].reach
                assert reach is not None
                reach.copy_(self._spread(choice, member).view(torch.uint8))

    @torch.no_grad()
    def write(self, chosen: Sequence[torch.Tensor]) -> None:
        """Writes a choice into the gates.

        Args:
            chosen: one bool per unit, one tensor of shape [units] per group.
        """
        cut = 0
        reach = Counter(m.site for group in self.groups for m in group.members)
        crossed: dict[int, torch.Tensor] = {}  # sites that lose rows to one group and columns to another
        for group, choice, share in zip(self.groups, chosen, self.shares, strict=True):
            if share is not None:
                share.chosen.copy_(choice)
            kept = int(np.count_nonzero(choice.cpu().numpy()))  # ten times as fast as torch's count
            for member in group.members:
                mask, site = self._spread(choice, member), member.site
                if reach[site] > 1:
                    crossed[site] = crossed[site] & mask if site in crossed else mask
                    continue
                self._write_site(site, mask)
                cut += (group.units - kept) * (mask.numel() // group.units)
        for site, mask in crossed.items():
            self._write_site(site, mask)
            cut += mask.numel() - int(mask.count_nonzero())
        self.kept = self.total - cut
        if self.held:
            self.kept = sum(int(g.mask.count_nonzero()) for g in self.gates)

    def _write_site(self, site: int, mask: torch.Tensor) -> None:
        gate, bias = self.gates[site], self.biases[site]
        mask = mask & self.held[site] if self.held else mask
        gate.mask.copy_(mask.view(torch.uint8))  # converting from bool is three times slower
        if bias is not None:
            bias.mask.copy_(mask.flatten(1).any(1))

    def masks(self) -> list[torch.Tensor]:
        """Copies of the current masks, bool, one per site."""
        return [g.mask.bool() for g in self.gates]

    @torch.no_grad()
    def finalise(self) -> None:
        """Makes the masks permanent: every weight becomes its exported value and the gates disappear."""
        for site, gate, bias in zip(self.sites, self.gates, self.biases, strict=True):
            final = gate.final(site.weight.detach())
            if bias is not None:
                parametrize.remove_parametrizations(site.module, "bias", leave_parametrized=True)
            factors.leave(site, gate)
            parametrize.remove_parametrizations(site.module, "weight", leave_parametrized=False)
            site.weight.data = final if gate.rank else site.weight.data.copy_(final)
