"""Physical removal: what the masks have emptied is cut out of the model, and nothing it computes changes.

Masking is not removing. Removing is exact in these cases, at evaluation:

========================  =======================  ======================================
what                      empty is                 before it is dropped
========================  =======================  ======================================
feed-forward neuron       its row in               its constant act(b) goes into the bias out
feed-forward neuron       its column out           nothing
attention head            its rows of value        its constant O b_v goes into the output bias
attention head            its columns of output    nothing
dimension of a head       see ``compact_heads``    what it leaves goes into the output bias
filter of a block         its channel out          nothing (see ``compact_conv``)
========================  =======================  ======================================

A head with empty query or key but a living value averages over all tokens: it is not removable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from analysis.engine import factors
from analysis.engine.compact_conv import compact_filters, keep_filters, links_of, living
from analysis.engine.compact_heads import (
    Attention,
    Dims,
    add_to_bias,
    compact_attention,
    keep_dims,
    keep_heads,
    linears,
    take,
)
from analysis.engine.sites import Site, find_sites
from analysis.errors import ModelError

MANIFEST, WEIGHTS = "manifest.json", "model.safetensors"


@dataclass(frozen=True)
class Layer:
    """What is left of one layer: indices of the heads, neurons and filters of the dense model that stay.

    Filters are those inside a residual block, one tuple per convolution that another one reads. Where heads
    are not whole, their dimensions that stay are listed head by head.
    """

    layer: int
    heads: tuple[int, ...] = ()
    heads_before: int = 0
    neurons: tuple[int, ...] = ()
    neurons_before: int = 0
    filters: tuple[tuple[int, ...], ...] = ()
    filters_before: tuple[int, ...] = ()
    query_dims: Dims = ()
    value_dims: Dims = ()

    @property
    def attention(self) -> Attention:
        """What is left of its attention."""
        return Attention(self.heads, self.heads_before, self.query_dims, self.value_dims)


@torch.no_grad()
def dead_neurons(into: list[nn.Linear], out: nn.Linear, act: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds neurons that can be removed, and the constant they leave behind.

    Args:
        into: the layers a neuron's value is computed from: one, or gate and value of a gated layer.
        out: the layer that reads it.
        act: the activation, of the gate where there is one.

    Returns:
        dead, bool of shape [neurons], and the constant to be added to the bias of ``out``, shape [outputs].
    """
    empty_out = ~out.weight.any(0)
    constant = torch.zeros_like(empty_out, dtype=out.weight.dtype)
    if len(into) == 1:
        empty_in = ~into[0].weight.any(1)
        bias = into[0].bias if into[0].bias is not None else torch.zeros_like(constant)
        constant = act(bias)
    else:  # one factor that is always 0 makes the product 0
        empty_in = torch.zeros_like(empty_out)
        if not act(torch.zeros((), dtype=out.weight.dtype)):
            for linear in into:
                empty_in |= ~linear.weight.any(1) if linear.bias is None else False
    return empty_in | empty_out, out.weight @ torch.where(empty_in, constant, torch.zeros_like(constant))


def _activation(model: nn.Module) -> nn.Module:
    config: Any = model.config
    names = ("hidden_act", "activation", "hidden_activation", "activation_function")
    found = next((getattr(config, n) for n in names if getattr(config, n, None)), None)
    if found is None:
        raise ModelError(
            f"the config of a {type(model).__name__} does not name its activation, so neurons cannot be "
            "removed from it."
        )
    act: nn.Module = ACT2FN[found]
    return act


def compact(model: nn.Module) -> list[Layer]:
    """Removes empty heads, neurons and filters from a model, in place.

    Args:
        model: a transformer or residual network without parametrizations, whose pruned weights are zeros.

    Returns:
        what is left, one entry per layer that has separate attention or feed-forward weights, or inner
        convolutions.

    Raises:
        ModelError: the model has no such layers.
    """
    sites = find_sites(model)
    if any(isinstance(s.module, Conv1D) for s in sites):
        raise ModelError(
            f"structures of a {type(model).__name__} cannot be removed: its weights lie transposed."
        )
    found = []
    for layer in dict.fromkeys(s.layer for s in sites):
        own = [s for s in sites if s.layer == layer]
        left = compact_attention(model, own)
        neurons, neurons_before = _compact_ffn(model, own)
        filters, filters_before = compact_filters(model, own)
        if left.before or neurons_before or filters_before:
            ffn, conv = (neurons, neurons_before), (filters, filters_before)
            dims = (left.query_dims, left.value_dims)
            found.append(Layer(layer, left.heads, left.before, *ffn, *conv, *dims))
    if not found:
        raise ModelError(
            f"a {type(model).__name__} has no attention, feed-forward or inner convolution layers to remove "
            "from."
        )
    return found


def _compact_ffn(model: nn.Module, own: list[Site]) -> tuple[tuple[int, ...], int]:
    into, out = linears(own, "ffn in"), linears(own, "ffn out")
    if not into or len(out) != 1:
        return (), 0
    before = out[0].in_features
    act = _activation(model)
    dead, constant = dead_neurons(into, out[0], act)
    left = living(dead)
    if dead[left].any() and not into[0].weight[left[0]].any() and into[0].bias is not None:
        constant = constant - out[0].weight[:, left[0]] * act(into[0].bias[left[0]])
    add_to_bias(out[0], constant.detach())
    _keep_neurons(own, left)
    return tuple(left.tolist()), before


def _keep_neurons(own: list[Site], left: torch.Tensor) -> None:
    for linear in linears(own, "ffn in"):
        take(linear, left, 0)
    take(linears(own, "ffn out")[0], left, 1)


def save(folder: Path, model: nn.Module, layers: list[Layer], ranks: Mapping[str, int] = {}) -> None:
    """Writes a compacted model: its weights, and the manifest from which its shapes are rebuilt."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    left = {"layers": [asdict(la) for la in layers], **({"ranks": dict(ranks)} if ranks else {})}
    (folder / MANIFEST).write_text(json.dumps(left), encoding="utf-8")


def load(folder: Path, dense: nn.Module) -> nn.Module:
    """Rebuilds a compacted model from a freshly loaded dense one of the same family, in place.

    ``from_pretrained`` cannot do this: its config knows one width for all layers.

    Args:
        folder: where ``save`` wrote.
        dense: the dense model; its weights do not matter.

    Raises:
        ModelError: the folder holds no compacted model, or one of another shape.
    """
    try:
        written = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        layers, ranks = [_layer(la) for la in written["layers"]], written.get("ranks", {})
        state = load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{folder} holds no compacted model ({type(error).__name__}: {error}).") from error
    try:
        for site in shrink(dense, layers):  # folding may have given a layer a bias it did not have
            bias = state.get(f"{site.name}.bias")
            if bias is not None and site.module.bias is None:
                site.module.bias = nn.Parameter(torch.zeros_like(bias))
        factors.split(dense, ranks)
        dense.load_state_dict(state)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{folder} was compacted from another model: {reason}") from error
    return dense


def _layer(la: dict[str, Any]) -> Layer:
    filters = tuple(tuple(kept) for kept in la.get("filters", ()))  # manifests of transformers may lack them
    before = tuple(la.get("filters_before", ()))
    heads, neurons = tuple(la["heads"]), tuple(la["neurons"])
    dims = (tuple(map(tuple, la.get(name, ()))) for name in ("query_dims", "value_dims"))
    return Layer(
        la["layer"], heads, la["heads_before"], neurons, la["neurons_before"], filters, before, *dims
    )


def shrink(model: nn.Module, layers: list[Layer]) -> list[Site]:
    """Gives a dense model the widths of a compacted one, in place; it may live on the meta device.

    Args:
        model: the dense model.
        layers: what stays of its layers.

    Returns:
        the model's sites.
    """
    sites = find_sites(model)
    for la in layers:
        own = [s for s in sites if s.layer == la.layer]
        if la.attention.ragged:
            keep_dims(model, own, la.attention)
        elif la.heads_before:
            keep_heads(model, own, torch.tensor(la.heads), la.heads_before)
        if la.neurons_before:
            _keep_neurons(own, torch.tensor(la.neurons))
        for link, kept in zip(links_of(model, own), la.filters, strict=True):
            keep_filters(model, link, torch.tensor(kept))
    return sites
