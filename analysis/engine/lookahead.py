"""Evaluates the gradient of a step at a look-ahead: moves the weights, computes, and puts them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis.parts.lookahead import Extrapolation, adam_direction, noise
from analysis.parts.optim import trust_ratio

Direction = Sequence[torch.Tensor | None]
Backward = Callable[[np.ndarray, int], dict[str, float]]


@contextmanager
def displaced(
    parameters: Sequence[torch.Tensor],
    direction: Direction,
    lengths: Sequence[float],
    saved: Sequence[torch.Tensor],
) -> Iterator[None]:
    """Holds the parameters at x - length * direction and copies x back at the end, after an error too.

    Copied and not added back: (x - d) + d is not x in floating point, and the difference would add up.

    Args:
        parameters: tensors that are moved in place.
        direction: one tensor of the same shape each, None where nothing moves.
        lengths: one number each.
        saved: copies of the parameters, or nothing when nothing moves.
    """
    try:
        with torch.no_grad():
            for p, d, length in zip(parameters, direction, lengths, strict=True):
                if d is not None:
                    p.add_(d, alpha=-length)
        yield
    finally:
        with torch.no_grad():
            for p, x in zip(parameters, saved, strict=False):
                p.copy_(x)


@contextmanager
def statistics_untouched(model: nn.Module) -> Iterator[None]:
    """Lets a training forward normalise by its own batch without entering it into running statistics."""
    keeping: list[Any] = [m for m in model.modules() if getattr(m, "track_running_stats", False)]
    try:
        for module in keeping:
            module.track_running_stats = False
        yield
    finally:
        for module in keeping:
            module.track_running_stats = True


class Lookahead:
    """The look-ahead of one run.

    Attributes:
        part: what was asked.
        past: the gradients that the next step looks along; belongs into a checkpoint.
    """

    def __init__(
        self,
        part: Extrapolation,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        clip: Callable[[], None],
        unheard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.unheard = unheard  # around passes whose gradient is not the step's
        self.part, self.optimizer, self.model, self.clip = part, optimizer, model, clip
        self.past: list[Direction] = []

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Everything that is trained, scores too."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def gradient(
        self, backward: Backward, rows: np.ndarray, fresh: Iterable[np.ndarray] = ()
    ) -> dict[str, float]:
        """Leaves the mean gradient of the workers at their look-aheads in ``.grad``, the parameters at x.

        Args:
            backward: adds the gradient of some examples to ``.grad``, divided by the number that is its
                second argument, times how many they are; returns their share of every loss term.
            rows: indices of the examples of this step, shape [batch].
            fresh: other batches; one is taken per step by the source "local".

        Returns:
            every loss term, at the look-aheads.
        """
        part = self.part
        shares = np.array_split(rows, min(part.workers, len(rows)))
        # Taken even when nothing moves, so that a batch of this stream belongs to every step.
        others = np.array_split(next(iter(fresh)), len(shares)) if part.source == "local" else []
        shared = self._shared(backward, shares) if part.ratio else None
        saved = [p.detach().clone() for p in self.parameters] if part.ratio else []
        total: list[torch.Tensor | None] = []
        kept: list[Direction] = []
        terms: dict[str, float] = {}
        for k, share in enumerate(shares):
            zeta = shared if shared is not None else self._own(backward, k, others)
            with displaced(self.parameters, zeta, self._lengths(zeta), saved):
                for name, value in backward(share, len(rows)).items():
                    terms[name] = terms.get(name, 0.0) + value
            own = self._take()
            if part.source == "past":
                kept.append(self._clipped([None if g is None else g * (len(rows) / len(share)) for g in own]))
            total = [_sum(a, b) for a, b in zip(total, own, strict=True)] if total else own
        if part.source == "past_avg":
            kept = [self._clipped([None if g is None else g.clone() for g in total])]
        self.past = kept
        self._put(total)
        return terms

    def load(self, past: Sequence[Direction]) -> None:
        """Takes the gradients of a checkpoint, in the order of ``parameters``."""
        self.past = [
            [None if g is None else g.to(p.device) for g, p in zip(one, self.parameters, strict=True)]
            for one in past
        ]

    def _shared(self, backward: Backward, shares: Sequence[np.ndarray]) -> Direction | None:
        """The direction of the sources that have one for all workers."""
        match self.part.source:
            case "global":
                return self._at_start(backward, shares, same=True)
            case "past_avg":
                return self.past[0] if self.past else self._nowhere()
            case "nesterov":
                return [(self.optimizer.state.get(p) or {}).get("momentum_buffer") for p in self.parameters]
            case "past_adam":
                return self._moments()
            case "preview_adam":
                return self._moments(self._at_start(backward, shares, same=True))
            case "extra_adam":
                self._commit(self._at_start(backward, shares, same=True))
                return self._moments()
        return None

    def _own(self, backward: Backward, k: int, others: Sequence[np.ndarray]) -> Direction:
        """The direction of worker k, of the sources in which each has its own."""
        source = self.part.source
        if self.part.ratio and source == "local":
            return self._at_start(backward, [others[k]], same=False)
        if self.part.ratio and source in ("gauss", "uniform"):
            return [noise(p, source, self.part.sigma) for p in self.parameters]
        return self.past[k] if self.part.ratio and k < len(self.past) else self._nowhere()

    def _lengths(self, direction: Direction) -> list[float]:
        """How far each tensor is moved along its direction."""
        lengths = []
        for (group, p), d in zip(self._pairs(), direction, strict=True):
            length = self.part.ratio * group["lr"]
            if self.part.source == "nesterov":  # the buffer of LARS holds the learning rate already
                length = group["momentum"] * (1.0 if "trust" in group else group["lr"])
            if self.part.extrap_scale == "lars" and group["matrices"] and d is not None:
                length *= float(trust_ratio(p.detach(), d, group["trust"], 0.0))
            lengths.append(length)
        return lengths

    def _moments(self, gradients: Direction | None = None) -> Direction:
        """Adam's direction from the moments it has, or would have with these gradients in them."""
        found: list[torch.Tensor | None] = []
        for i, (group, p) in enumerate(self._pairs()):
            state, g = self.optimizer.state.get(p) or {}, gradients[i] if gradients is not None else None
            if not state and g is None:
                found.append(None)  # the first step: nothing was committed yet
                continue
            zero = torch.zeros_like(p)
            m, v, step = (
                state.get("exp_avg", zero),
                state.get("exp_avg_sq", zero),
                float(state.get("step", 0)),
            )
            if g is not None:
                (b, c), step = group["betas"], step + 1
                m, v = b * m + (1 - b) * g, c * v + (1 - c) * g.square()
            found.append(adam_direction(m, v, step, group["betas"], group["eps"]))
        return found

    def _commit(self, gradients: Direction) -> None:
        """Enters gradients into the moments by the optimizer's own step, at a learning rate of 0."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self._put(gradients)
        try:
            for group in self.optimizer.param_groups:
                group["lr"] = 0.0
            self.optimizer.step()
        finally:
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            self._take()

    def _at_start(self, backward: Backward, shares: Sequence[np.ndarray], same: bool) -> Direction:
        """The gradient at x of some shares, bounded as the gradient of a step is."""
        # Where the look-ahead sees the same examples again it must draw the same dropout as here.
        device = self.parameters[0].device
        cuda = [device] if device.type == "cuda" else []
        with self.unheard(), statistics_untouched(self.model), torch.random.fork_rng(cuda, enabled=same):
            for share in shares:
                backward(share, sum(map(len, shares)))
        return self._clipped(self._take())

    def _clipped(self, gradients: Direction) -> Direction:
        self._put(gradients)
        self.clip()
        return self._take()

    def _take(self) -> list[torch.Tensor | None]:
        taken = [p.grad for p in self.parameters]
        self._put(self._nowhere())
        return taken

    def _put(self, gradients: Direction) -> None:
        for p, g in zip(self.parameters, gradients, strict=True):
            p.grad = g

    def _pairs(self) -> list[tuple[dict[str, Any], torch.Tensor]]:
        return [(group, p) for group in self.optimizer.param_groups for p in group["params"]]

    def _nowhere(self) -> Direction:
        return [None] * len(self.parameters)


def _sum(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
    return a + b if a is not None and b is not None else b if a is None else a
