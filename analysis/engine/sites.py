"""Sites: the prunable weights of any Hugging Face model, found by structure, each with a role.

A site is a linear or convolution weight inside a repeated block (a layer of an encoder or decoder, a stage of
a convolutional net). Embeddings, norms, poolers and heads are never sites.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from analysis.engine.blocks import block_of, inside
from analysis.engine.chains import find_links
from analysis.engine.roles import NEVER, role_of
from analysis.errors import SiteError
from analysis.parts.units import Shape


@dataclass(frozen=True)
class Site:
    """One prunable weight.

    Attributes:
        name: path of its module in the model.
        module: the module that owns the weight.
        role: one of ``roles.ROLES``.
        layer: number of its block, from 0.
        heads: attention heads its rows (columns for the attention output) divide into, None elsewhere.
        norm: whether a batch norm follows a convolution whose filters only one other convolution reads.
        reads: name of the convolution whose filters, and nothing else, this one reads; "" for none.
    """

    name: str
    module: nn.Module
    role: str
    layer: int
    heads: int | None
    norm: bool = False
    reads: str = ""

    @property
    def weight(self) -> torch.Tensor:
        """The stored parameter: the weight itself unless a gate takes it for something else."""
        if hasattr(self.module, "parametrizations"):
            raw: torch.Tensor = self.module.parametrizations["weight"].original  # type: ignore[index,union-attr]
            return raw
        plain: torch.Tensor = self.module.weight  # type: ignore[assignment]
        return plain

    @property
    def shape(self) -> Shape:
        """What units need to know of it."""
        rows, *rest = self.weight.shape
        area = math.prod(rest[1:])
        bias = getattr(self.module, "bias", None) is not None
        sizes = (rows, math.prod(rest), self.heads, area)
        return Shape(self.name, self.role, self.layer, *sizes, bias, self.norm, self.reads)


@dataclass(frozen=True)
class Counts:
    """Parameters under each denominator."""

    prunable: int
    encoder: int
    model: int

    def keeps(self, kept: int) -> dict[str, float]:
        """Fractions kept when ``kept`` prunable weights survive; what cannot be pruned counts as kept."""
        lost = self.prunable - kept
        return {
            "keep_prunable": kept / self.prunable,
            "keep_encoder": (self.encoder - lost) / self.encoder,
            "keep_model": (self.model - lost) / self.model,
        }


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    seen: set[int] = set()
    for name, module in model.named_modules():
        conv = isinstance(module, nn.Conv2d)
        if not isinstance(module, nn.Linear | nn.Conv2d | Conv1D) or NEVER.search(name):
            continue
        block = block_of(name, conv)
        if block is None or id(module.weight) in seen:
            continue
        seen.add(id(module.weight))
        yield name, module, block


def _heads(model: nn.Module, role: str) -> int | None:
    config = getattr(model, "config", None)
    text = getattr(config, "text_config", config)
    heads = next(
        (getattr(text, n) for n in ("num_attention_heads", "n_heads", "n_head") if hasattr(text, n)), None
    )
    if role in ("key", "value"):
        heads = getattr(text, "num_key_value_heads", None) or heads
    if not isinstance(heads, int):  # Swin has another number in every stage, and its config lists them
        return None
    return heads if heads and role in ("query", "key", "value", "attention output") else None


def find_sites(model: nn.Module) -> list[Site]:
    """Finds every prunable weight of a model.

    Args:
        model: any Hugging Face model, before masks are attached. A weight shared by several layers is listed
            once.

    Returns:
        sites in the order of the model's modules.

    Raises:
        SiteError: nothing prunable was found.
    """
    blocks: dict[str, int] = {}
    sites = []
    links = find_links(model)
    reads, normed = {k.reader: k.writer for k in links}, {k.writer for k in links if k.norm}
    for name, module, block in _candidates(model):
        role = "conv" if isinstance(module, nn.Conv2d) else role_of(name)
        layer = blocks.setdefault(block, len(blocks))
        # A Conv1D weight is [in, out], so its heads lie the other way round from what ``Site.heads`` says.
        heads = None if isinstance(module, Conv1D) else _heads(model, role)
        sites.append(Site(name, module, role, layer, heads, name in normed, reads.get(name, "")))
    if not sites:
        raise SiteError(
            f"no prunable weight was found in a {type(model).__name__}: searched were linear and convolution "
            "weights inside numbered blocks, outside embeddings, poolers and heads; choose a transformer or "
            "a residual network, or add the family's names to the table in analysis/engine/sites.py."
        )
    return sites


def count_parameters(model: nn.Module, sites: list[Site]) -> Counts:
    """Counts parameters under each denominator; shared tensors count once.

    The encoder is everything inside the repeated blocks that hold sites: their weights, biases and norms
    (85,054,464 for BERT-base, of which 84,934,656 are prunable).
    """
    own = {id(s.weight): s.weight.numel() for s in sites}
    blocks = {block for s in sites if (block := block_of(s.name, s.role == "conv"))}
    named = model.named_parameters(remove_duplicate=False)
    encoder = {id(p): p.numel() for name, p in named if inside(name, blocks)}
    return Counts(sum(own.values()), sum(encoder.values()), sum(p.numel() for p in model.parameters()))
