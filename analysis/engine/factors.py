"""Weights stored as two factors: what a loss sees of them, and the two layers they become in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from analysis.engine.embedding import LowRankEmbedding
from analysis.errors import ModelError, SpecError
from analysis.parts.losses import Product
from analysis.parts.lowrank import LowRank
from analysis.parts.lowrank_gate import LowRankGate, LowRankLinear

if TYPE_CHECKING:
    from analysis.engine.pruner import Pruner
    from analysis.engine.setup import Setup
    from analysis.engine.sites import Site


def ranks(pruner: Pruner) -> dict[str, int]:
    """Rank of every site that is stored as two factors, by name; empty where none is."""
    return {s.name: g.rank for s, g in zip(pruner.sites, pruner.gates, strict=True) if g.rank}


def take(site: Site, gate: nn.Module) -> None:
    """Lets a layer compute through the factors of its gate, where it has such a gate."""
    if isinstance(gate, LowRankGate):
        gate.take(site.module)


def leave(site: Site, gate: nn.Module) -> None:
    """Lets a layer compute with its weight again."""
    if isinstance(gate, LowRankGate):
        gate.leave(site.module)


def stored(pruner: Pruner) -> int:
    """Parameters that stand for the prunable weights: those of two factors, or the weights themselves.

    Raises:
        SpecError: factors are asked for, but no site of the model could be replaced.
    """
    if isinstance(pruner.lineup.reparam, LowRank) and pruner.keep < 1 and not ranks(pruner):
        raise SpecError(
            f"reparam is LowRank, but at a keep of {pruner.keep:g} none of the {len(pruner.sites)} prunable "
            "weights has smaller factors: convolutions, layers named in reparam.omit and those with fewer "
            "than reparam.least outputs stay dense; lower the keep, change these, or choose another model."
        )
    return sum(g.rank * sum(g.mask.shape) if g.rank else g.mask.numel() for g in pruner.gates)


def products(pruner: Pruner, start: Sequence[torch.Tensor]) -> list[Product]:
    """The products of all factors with gradients, each beside the pre-trained weight it replaces.

    Args:
        pruner: sites and gates.
        start: pre-trained weights of all sites.
    """
    found = []
    for site, gate, weight in zip(pruner.sites, pruner.gates, start, strict=True):
        if not isinstance(gate, LowRankGate):
            continue
        raw = site.weight
        if gate.start is None or gate.start.device != raw.device:
            gate.start = weight.to(raw.device)
        # In bfloat16 the product would be rounded by more than the changes that a loss looks at.
        with torch.autocast(raw.device.type, enabled=False):
            found.append(Product(gate.effective(raw), gate.start))
    return found


@torch.no_grad()
def residuals(s: Setup) -> dict[str, list[float]]:
    """The largest change of an entry of every product against its pre-trained weight: {"residuals": [...]},
    in the order of the sites that have factors; {} where none has.
    """
    found = [float((p.weight - p.start).abs().amax()) for p in products(s.pruner, s.start)]
    return {"residuals": found} if found else {}


def split(model: nn.Module, wanted: Mapping[str, int]) -> None:
    """Puts two factors in place of linear layers and of a table of embeddings; meta models may be given too.

    Args:
        model: a model without parametrizations.
        wanted: name of a layer to its rank.

    Raises:
        ModelError: a layer is not there or is not linear.
    """
    for name, rank in wanted.items():
        parent, _, last = name.rpartition(".")
        try:
            owner = model.get_submodule(parent)
            dense = model.get_submodule(name)
        except AttributeError as error:
            raise ModelError(
                f"a {type(model).__name__} has no layer {name} to put two in place of."
            ) from error
        if isinstance(dense, nn.Embedding):
            setattr(owner, last, LowRankEmbedding.of(dense, rank))
            continue
        if not isinstance(dense, nn.Linear):
            raise ModelError(
                f"{name} of a {type(model).__name__} is a {type(dense).__name__}, whose weight does not lie "
                "as that of a linear layer does, so no two layers are put in its place."
            )
        setattr(owner, last, LowRankLinear.of(dense, rank))


def describe(pruner: Pruner) -> list[dict[str, Any]]:
    """One entry per site that has factors: site, role, layer, rows, cols, rank."""
    return [
        {
            "site": site.name,
            "role": site.role,
            "layer": site.layer,
            "rows": gate.mask.shape[0],
            "cols": gate.mask.shape[1],
            "rank": gate.rank,
        }
        for site, gate in zip(pruner.sites, pruner.gates, strict=True)
        if gate.rank
    ]
