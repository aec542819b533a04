"""Physical removal of filters inside residual blocks of convolutions.

An empty filter is not silent: batch norm makes of its zeros the constant b - g m / sqrt(v + eps), and zero
padding keeps this constant from being one number at every place of the picture, so that it cannot be folded
into a bias. A filter is therefore removed where the convolution that reads it gives it no weight; its own
weights do not matter then, in training as little as at evaluation.
"""

from __future__ import annotations

import torch
from torch import nn

from analysis.engine.chains import Link, find_links
from analysis.engine.sites import Site


def links_of(model: nn.Module, own: list[Site]) -> list[Link]:
    """The links between the sites of one layer, in order."""
    names = {s.name for s in own}
    return [k for k in find_links(model) if k.writer in names and k.reader in names]


def living(dead: torch.Tensor) -> torch.Tensor:
    """Indices that are not dead; the first one where all are, because a layer may not be without."""
    left = (~dead).nonzero().flatten()
    return left if len(left) else torch.zeros(1, dtype=torch.long, device=dead.device)


def compact_filters(model: nn.Module, own: list[Site]) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Removes the unread filters of one layer, in place.

    Returns:
        per link, the filters that stay, and how many there were.
    """
    kept, before = [], []
    for link in links_of(model, own):
        dead = unread(model, link)
        left = living(dead)
        keep_filters(model, link, left)
        kept.append(tuple(left.tolist()))
        before.append(len(dead))
    return tuple(kept), tuple(before)


@torch.no_grad()
def unread(model: nn.Module, link: Link) -> torch.Tensor:
    """Which filters of a link its reader gives no weight, bool of shape [filters]."""
    reader: torch.Tensor = model.get_submodule(link.reader).weight  # type: ignore[assignment]
    return ~reader.any(3).any(2).any(0)


@torch.no_grad()
def keep_filters(model: nn.Module, link: Link, left: torch.Tensor) -> None:
    """Keeps only some filters of a link, in place: rows of the writer with bias and batch norm, and the input
    channels of the reader.
    """
    writer, reader = model.get_submodule(link.writer), model.get_submodule(link.reader)
    assert isinstance(writer, nn.Conv2d) and isinstance(reader, nn.Conv2d)
    left = left.to(writer.weight.device)
    writer.weight = nn.Parameter(writer.weight.index_select(0, left))
    if writer.bias is not None:
        writer.bias = nn.Parameter(writer.bias.index_select(0, left))
    reader.weight = nn.Parameter(reader.weight.index_select(1, left))
    writer.out_channels = reader.in_channels = len(left)
    if not link.norm:
        return
    norm = model.get_submodule(link.norm)
    assert isinstance(norm, nn.BatchNorm2d)
    for name in ("weight", "bias"):
        if (old := getattr(norm, name)) is not None:
            setattr(norm, name, nn.Parameter(old.index_select(0, left)))
    for name in ("running_mean", "running_var"):
        if (old := getattr(norm, name)) is not None:
            setattr(norm, name, old.index_select(0, left))
    norm.num_features = len(left)
