"""Filling: what was pruned inside structures that live comes back as noise, to be trained again.

Removal cuts whole heads, neurons and filters out of a model. A hole inside one that stays saves nothing on
ordinary kernels, so its weights may as well be used: the model is as fast as before, and better.
Source: Lagunas et al. 2021, arXiv:2109.04838 ("Hybrid Filled").
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from analysis.engine import compact
from analysis.engine.compact_conv import links_of
from analysis.engine.sites import Site
from analysis.errors import ModelError

SCALE = 0.01  # of the spread of the weights around the hole
ROWS, COLUMNS = ("query", "key", "value", "ffn in"), ("attention output", "ffn out")


def check(model: nn.Module, sites: list[Site]) -> None:
    """Refuses a model of which nothing can be removed, so that it cannot be said what lives.

    Raises:
        ModelError: the weights of the model lie transposed.
    """
    if any(isinstance(s.module, Conv1D) for s in sites):
        raise ModelError(
            "a stage fills the holes inside structures that live, but structures of a "
            f"{type(model).__name__} cannot be removed: its weights lie transposed; choose "
            "stages.variant=own or another model."
        )


@torch.no_grad()
def living(model: nn.Module, sites: list[Site]) -> list[torch.Tensor]:
    """Finds the weights of the structures that removal would leave.

    Args:
        model: a model without parametrizations, whose pruned weights are zeros.
        sites: its prunable weights.

    Returns:
        bool, one per site, shape of its weight: False in heads, neurons and filters that removal cuts out.
    """
    found = [torch.ones_like(s.weight, dtype=torch.bool) for s in sites]
    for la in compact.compact(copy.deepcopy(model)):  # what lives is what removal leaves, by no other rule
        own = [i for i, s in enumerate(sites) if s.layer == la.layer]
        for i in own:
            attention = sites[i].role in ("query", "key", "value", "attention output")
            before, left = (la.heads_before, la.heads) if attention else (la.neurons_before, la.neurons)
            if before and sites[i].role in (*ROWS, *COLUMNS):
                _only(found[i], 0 if sites[i].role in ROWS else 1, before, left)
        by_name = {sites[i].name: found[i] for i in own}
        links = links_of(model, [sites[i] for i in own])
        for link, left, before in zip(links, la.filters, la.filters_before, strict=True):
            _only(by_name[link.writer], 0, before, left)
            _only(by_name[link.reader], 1, before, left)
    return found


def _only(mask: torch.Tensor, dim: int, pieces: int, left: tuple[int, ...]) -> None:
    """Empties the pieces of rows (dim 0) or columns (dim 1) that are not left, in place."""
    kept = torch.zeros(pieces, dtype=torch.bool, device=mask.device)
    kept[list(left)] = True
    kept = kept.repeat_interleave(mask.shape[dim] // pieces)
    mask &= kept.view(-1, *[1] * (mask.ndim - 1)) if dim == 0 else kept.view(1, -1, *[1] * (mask.ndim - 2))


@torch.no_grad()
def fill(model: nn.Module, sites: list[Site], seed: int, around: str = "zero") -> list[torch.Tensor]:
    """Puts noise where a weight is exactly zero inside a structure that lives.

    w = 0.01 * std * e, e ~ N(0, 1), where std is that of the weights of the site that are not zero; or, as
    the reference does it, w = mean + 0.01 * std * e with mean and std of all living weights of the site,
    zeros included. That mean is small but not zero, so the holes of a site all come back shifted to one side.
    Nothing that is not zero changes. A site without any weight left stays empty: there is no scale to go by.

    Args:
        model: a model without parametrizations, whose pruned weights are zeros.
        sites: its prunable weights, changed in place.
        seed: seed of the noise; the same seed gives the same noise.
        around: "zero" or "mean", the centre of the noise.

    Returns:
        the weights that training may use from now on, bool, one per site: those of structures that live, and
        what is left of the others (removal folds what they still say into a bias). The rest stays zero.
    """
    generator = torch.Generator().manual_seed(seed)
    held = []
    for site, alive in zip(sites, living(model, sites), strict=True):
        weight = site.weight
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        known = weight[alive & (weight != 0)] if around == "zero" else weight[alive]
        centre = known.mean() if around == "mean" and len(known) else 0.0
        spread = known.std() if len(known) > 1 else 0.0
        holes = alive & (weight == 0)
        weight.copy_(torch.where(holes, centre + SCALE * spread * noise, weight))
        held.append(alive | (weight != 0))
    return held
