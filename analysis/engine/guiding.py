"""Gradients for a score that watches every step before clipping, of the losses that may guide it alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from analysis.engine.scoring import alive
from analysis.parts import LOSSES
from analysis.parts.scores import Piece, Standing
from analysis.spec import LineUp

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner
    from analysis.engine.sites import Site

Slopes = Sequence[torch.Tensor | None]


def guides(parts: LineUp, name: str) -> bool:
    """Whether the loss in a slot has a say in the scores."""
    return bool(getattr(getattr(parts, name), "guides", True))


class Guide:
    """Adds up the gradient of the guiding losses over the shares of a batch, beside ``.grad``.

    Reading ``.grad`` between two backward passes would do for one share only: from the second share on it
    holds what the other losses have left there.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.parameters = [p for site in pruner.sites for p in _own(site)]
        self.found: list[torch.Tensor | None] = [None] * len(self.parameters)
        self.deaf = False

    def hear(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a loss, whose graph is left for the backward pass of the whole."""
        if self.deaf:
            return
        new = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
        for i, slope in enumerate(new):
            old = self.found[i]
            self.found[i] = slope if old is None else old if slope is None else old + slope

    def take(self) -> list[torch.Tensor | None]:
        """Returns the sums in the order of ``parameters`` and begins anew."""
        found, self.found = self.found, [None] * len(self.parameters)
        return found

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Lets passes go by that only look where to look ahead."""
        self.deaf = True
        try:
            yield
        finally:
            self.deaf = False


def guide_of(parts: LineUp, pruner: Pruner) -> Guide | None:
    """What listens during a run; None where all losses guide, so that ``.grad`` before clipping says it."""
    score = parts.score
    if not score.watches or not getattr(score, "separation", True):
        return None
    silent = any(getattr(parts, name) is not None and not guides(parts, name) for name in LOSSES)
    return Guide(pruner) if silent else None


@torch.no_grad()
def watch(pruner: Pruner, guide: Guide | None, steps: int) -> None:
    """Shows a score that watches the weights and their gradients, before these are clipped.

    A gradient that is infinite or NaN anywhere is not shown.

    Args:
        pruner: sites, gates and the score's states.
        guide: has the gradients; None for those in ``.grad``.
        steps: optimizer steps of the run.
    """
    listed = [p for site in pruner.sites for p in _own(site)]
    slopes: Slopes = guide.take() if guide is not None else [p.grad for p in listed]
    if not all(bool(torch.isfinite(s).all()) for s in slopes if s is not None):
        return
    found = {id(p): s if s is not None else torch.zeros_like(p) for p, s in zip(listed, slopes, strict=True)}
    for group, state in zip(pruner.groups, pruner.states, strict=True):
        pieces = []
        for m in group.members:
            weight, *rest = _own(pruner.sites[m.site])
            bias = rest[0].detach() if rest and m.biased else None
            pieces.append(
                Piece(
                    weight.detach().flatten(1),
                    m.grid,
                    pruner.sites[m.site].role,
                    gradient=found[id(weight)].flatten(1),
                    bias=bias,
                    bias_gradient=found[id(rest[0])] if bias is not None else None,
                )
            )
        assert state is not None
        standing = Standing(group.kind, group.heads, alive(pruner, group), steps)
        pruner.lineup.score.watch(state, pieces, standing)


def _own(site: Site) -> list[torch.Tensor]:
    """The stored weight of a site and, where there is one that is trained, its stored bias."""
    biased = getattr(site.module, "parametrizations", {})
    bias = biased["bias"].original if "bias" in biased else getattr(site.module, "bias", None)
    return [site.weight] if bias is None or not bias.requires_grad else [site.weight, bias]
