"""Chains: convolutions in a row inside a residual block, whose inner filters nothing else sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class Link:
    """Two convolutions of a chain: every filter of the one is an input channel of the other and nothing else.

    Attributes:
        writer: path of the convolution that computes the filters.
        norm: path of the batch norm after it, "" for none.
        reader: path of the convolution that reads them.
    """

    writer: str
    norm: str
    reader: str


@dataclass(frozen=True)
class _Step:
    """One element of a chain: a convolution, then at most a batch norm and what has no weights."""

    conv: str
    norm: str
    inputs: int
    outputs: int


def find_links(model: nn.Module) -> list[Link]:
    """Finds the inner filters of residual blocks.

    A ``Sequential`` hands what one child computes to the next and to nobody else, so a row of convolutions in
    it is known to be a chain without running the model. The filters of its last convolution join the residual
    stream and are in no link; grouped convolutions, and anything with weights between two convolutions that
    is not a batch norm, break a chain.

    Args:
        model: any model, before masks are attached or after they were made permanent.

    Returns:
        links in the order of the model's modules; none for a transformer.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            found += [
                Link(one.conv, one.norm, two.conv)
                for one, two in pairwise(_steps(name, module))
                if one is not None and two is not None and one.outputs == two.inputs
            ]
    return found


def _steps(name: str, chain: nn.Sequential) -> Iterator[_Step | None]:
    for child, module in chain.named_children():
        path = f"{name}.{child}" if name else child
        leaves = [
            (f"{path}.{inner}".rstrip("."), leaf)
            for inner, leaf in module.named_modules()
            if next(leaf.parameters(recurse=False), None) is not None
        ]
        yield _step(leaves)


def _step(leaves: list[tuple[str, nn.Module]]) -> _Step | None:
    """The step that modules with weights make up, None where they are not one convolution and its norm."""
    if not leaves or len(leaves) > 2:
        return None
    (conv, first), norm = leaves[0], ""
    if not isinstance(first, nn.Conv2d) or first.groups != 1:
        return None
    if len(leaves) == 2:
        norm, second = leaves[1]
        if not isinstance(second, nn.BatchNorm2d) or second.num_features != first.out_channels:
            return None
    return _Step(conv, norm, first.in_channels, first.out_channels)
