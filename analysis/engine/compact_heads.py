"""Physical removal inside attention: whole heads, and dimensions of heads, which then differ in size.

A value dimension goes where its row of value is empty (its constant b O goes into the output bias) or its
column of the output is. A query-key dimension goes where query gives 0 or key gives one number for all
tokens, which the softmax does not see. What is left of a head keeps the scale of the whole head: another one
would be another function. A head without query-key dimensions averages over all tokens and stays.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from analysis.engine.compact_conv import living
from analysis.engine.ragged import RaggedAttention, order
from analysis.engine.sites import Site

HEAD_COUNTS = ("num_attention_heads", "n_heads", "num_heads")
ROLES = ("query", "key", "value", "attention output")
Dims = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Attention:
    """What is left of the attention of one layer.

    Attributes:
        heads: numbers of the heads that stay.
        before: heads there were, 0 where the layer has no attention of separate matrices.
        query_dims: per head that stays, which of its query-key dimensions do; empty where all are whole.
        value_dims: the same of its value dimensions.
    """

    heads: tuple[int, ...] = ()
    before: int = 0
    query_dims: Dims = ()
    value_dims: Dims = ()

    @property
    def ragged(self) -> bool:
        """Whether it needs an attention module of its own."""
        return len(self.query_dims) > 0 or (self.before > 0 and not self.heads)


def take(linear: nn.Linear, index: torch.Tensor, dim: int) -> None:
    """Keeps only some rows (dim 0) or columns (dim 1) of a linear layer, in place."""
    index = index.to(linear.weight.device)
    with torch.no_grad():
        linear.weight = nn.Parameter(linear.weight.index_select(dim, index).clone())
        if dim == 0:
            linear.out_features = len(index)
            if linear.bias is not None:
                linear.bias = nn.Parameter(linear.bias.index_select(0, index).clone())
        else:
            linear.in_features = len(index)


def add_to_bias(linear: nn.Linear, constant: torch.Tensor) -> None:
    """Adds a constant to the bias of a layer, giving it one where it has none and needs it."""
    with torch.no_grad():
        if linear.bias is not None:
            linear.bias.add_(constant)
        elif constant.any():
            linear.bias = nn.Parameter(constant.clone())


def linears(sites: list[Site], role: str) -> list[nn.Linear]:
    """The linear layers of a role."""
    return [s.module for s in sites if s.role == role and isinstance(s.module, nn.Linear)]


@torch.no_grad()
def dead_heads(value: nn.Linear, out: nn.Linear, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Finds heads that can be removed, and the constant they leave behind.

    Args:
        value: the value layer, rows [heads * size].
        out: the attention output, columns [heads * size].
        heads: number of heads.

    Returns:
        dead, bool of shape [heads], and the constant to be added to the bias of ``out``, shape [outputs].
    """
    size = value.out_features // heads
    empty_value = ~value.weight.view(heads, -1).any(1)
    empty_out = ~out.weight.view(-1, heads, size).transpose(0, 1).reshape(heads, -1).any(1)
    constant = torch.zeros(heads * size, dtype=out.weight.dtype, device=out.weight.device)
    if value.bias is not None:
        constant = torch.where(empty_value.repeat_interleave(size), value.bias, constant)
    return empty_value | empty_out, out.weight @ constant


@torch.no_grad()
def dead_dims(
    query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Linear
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finds dimensions of heads that can be removed, and the constant they leave behind.

    Returns:
        dead query-key dimensions and dead value dimensions, bool of shape [dimensions], and the constant to
        be added to the bias of ``out``, shape [outputs].
    """
    silent = ~query.weight.any(1)
    if query.bias is not None:
        silent &= query.bias == 0
    constant = ~value.weight.any(1)
    left = torch.zeros_like(constant, dtype=out.weight.dtype)
    if value.bias is not None:
        left = torch.where(constant, value.bias, left)
    return silent | ~key.weight.any(1), constant | ~out.weight.any(0), out.weight @ left


def compact_attention(model: nn.Module, own: list[Site]) -> Attention:
    """Removes the empty heads of one layer, and the empty dimensions of its heads where that can be computed.

    Args:
        model: the model, changed in place.
        own: the sites of the layer.

    Returns:
        what is left.
    """
    by_role = {role: linears(own, role) for role in ROLES}
    counts = {s.heads for s in own if s.role in by_role}
    heads = next(iter(counts), None)
    if any(len(found) != 1 for found in by_role.values()) or len(counts) != 1 or not heads:
        return Attention()
    (query,), (key,), (value,), (out,) = by_role.values()
    dims = _dims_left(query, key, value, out, heads)
    if dims.ragged and _replaceable(model, own):
        add_to_bias(out, dead_dims(query, key, value, out)[2])
        keep_dims(model, own, dims)
        return dims
    dead, constant = dead_heads(value, out, heads)
    left = living(dead)
    # A head that stays although it is empty keeps its constant itself.
    if dead[left].any():
        size = value.out_features // heads
        rows = slice(int(left[0]) * size, (int(left[0]) + 1) * size)
        if not value.weight[rows].any() and value.bias is not None:
            constant = constant - out.weight[:, rows] @ value.bias[rows]
    add_to_bias(out, constant.detach())
    keep_heads(model, own, left, heads)
    return Attention(tuple(left.tolist()), heads)


def _dims_left(query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Linear, heads: int) -> Attention:
    """What could stay; without dimensions where the heads that stay are whole, or where none is left to
    stay whose query and key are not empty too.
    """
    dead_inner, dead_outer, _ = dead_dims(query, key, value, out)
    inner, outer = (~dead.view(heads, -1) for dead in (dead_inner, dead_outer))
    left = outer.any(1).nonzero().flatten().tolist()
    if all(bool(inner[h].all() and outer[h].all()) for h in left) and (left or inner.any()):
        return Attention(tuple(left) or (0,), heads)
    found: list[Dims] = [
        tuple(tuple(t[h].nonzero().flatten().tolist()) for h in left) for t in (inner, outer)
    ]
    return Attention(tuple(left), heads, *found)


def keep_heads(model: nn.Module, own: list[Site], left: torch.Tensor, heads: int) -> None:
    """Keeps only some whole heads of one layer, in place."""
    size = linears(own, "value")[0].out_features // heads
    index = (left[:, None] * size + torch.arange(size, device=left.device)).flatten()
    for role in ROLES[:3]:
        take(linears(own, role)[0], index, 0)
    take(linears(own, ROLES[3])[0], index, 1)
    parent: Any = model.get_submodule(_parent(own))
    for attribute in HEAD_COUNTS:
        if hasattr(parent, attribute):
            setattr(parent, attribute, len(left))
    if hasattr(parent, "all_head_size"):
        parent.all_head_size = len(left) * size


def keep_dims(model: nn.Module, own: list[Site], left: Attention) -> None:
    """Keeps only some dimensions of some heads of one layer, in place, under an attention of its own."""
    site = {s.role: s for s in own if s.role in ROLES}
    layers = [linears(own, role)[0] for role in ROLES]
    size, name = layers[0].out_features // left.before, _parent(own)
    parent: Any = model.get_submodule(name)
    lengths = ([len(d) for d in left.query_dims], [len(d) for d in left.value_dims])
    rank = order(*lengths)
    inner, outer = (
        torch.tensor([left.heads[h] * size + d for h in rank for d in dims[h]], dtype=torch.long)
        for dims in (left.query_dims, left.value_dims)
    )
    for layer, index, dim in zip(layers, (inner, inner, outer, outer), (0, 0, 0, 1), strict=True):
        take(layer, index, dim)
    inside = [s for s in (site[role] for role in ROLES) if s.name.rpartition(".")[0] == name]
    drop = getattr(parent, "dropout", None)
    dropped = drop.p if isinstance(drop, nn.Dropout) else float(getattr(parent, "attention_dropout", 0.0))
    ragged = RaggedAttention(
        *lengths,
        float(parent.scaling),
        [s.name.rpartition(".")[2] for s in inside],
        [s.module for s in inside],
        dropped,
    )
    model.set_submodule(name, ragged.train(parent.training))


def _replaceable(model: nn.Module, own: list[Site]) -> bool:
    """Whether the attention of a layer is query, key, value, softmax and output, and nothing else.

    Rotated positions couple dimensions in pairs, and a decoder's cache and causal mask are not computed.
    """
    parent = model.get_submodule(_parent(own))
    known = {id(s.module) for s in own if s.role in ROLES}
    children = [m for m in parent.children() if not isinstance(m, nn.Dropout | nn.Identity)]
    taken = set(inspect.signature(parent.forward).parameters)
    return (
        all(id(m) in known for m in children)
        and not any(True for _ in parent.parameters(recurse=False))
        and {"hidden_states", "attention_mask"} <= taken
        and "position_embeddings" not in taken
        and isinstance(getattr(parent, "scaling", None), float)
        and not getattr(parent, "is_causal", False)
        and not getattr(parent, "is_decoder", False)
    )


def _parent(own: list[Site]) -> str:
    return next(s.name for s in own if s.role == "value").rpartition(".")[0]
