"""Attention whose heads have sizes of their own, as removal of their dimensions leaves it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class RaggedAttention(nn.Module):
    """Attention whose heads have sizes of their own: softmax(Q_h K_h^T s + mask) V_h, head by head.

    Heads of equal size are computed together. The rows of query, key and value and the columns of the output
    lie in the order of ``order``.

    Args:
        inner: query-key dimensions of each head.
        outer: value dimensions of each head.
        scale: s, that of the whole heads before removal.
        names: names of the query, key and value layer, and of the output layer where it lies inside.
        layers: those layers, cut to size.
        dropout: probability with which attention is dropped in training.
    """

    def __init__(
        self,
        inner: list[int],
        outer: list[int],
        scale: float,
        names: list[str],
        layers: list[nn.Module],
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = [(inner[h], outer[h]) for h in order(inner, outer)]
        self.groups = [(sizes.count(size), *size) for size in dict.fromkeys(sizes)]
        self.scale, self.names, self.p = scale, names, dropout
        for name, layer in zip(names, layers, strict=True):
            self.add_module(name, layer)

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, None]:
        """Returns the output, shape [batch, tokens, width] (value dimensions where the output layer lies
        outside), and no attention maps: heads of unequal size are not one tensor in the old order.
        """
        del kwargs
        inner = [count * size for count, size, _ in self.groups]
        outer = [count * size for count, _, size in self.groups]
        query, key, value = (getattr(self, name)(hidden_states) for name in self.names[:3])
        pieces = zip(query.split(inner, -1), key.split(inner, -1), value.split(outer, -1), strict=True)
        found = [
            self._together(count, *piece, attention_mask)
            for (count, _, _), piece in zip(self.groups, pieces, strict=True)
        ]
        out = torch.cat(found, -1) if found else value
        return (getattr(self, self.names[3])(out) if len(self.names) > 3 else out), None

    def _together(
        self,
        count: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        batch, tokens, _ = query.shape
        query, key, value = (t.reshape(batch, tokens, count, -1).transpose(1, 2) for t in (query, key, value))
        seen = query @ key.transpose(2, 3) * self.scale  # all 0 for heads without query-key dimensions
        if mask is not None:
            mask = mask[:, None, None, :].bool() if mask.ndim == 2 else mask
            low = torch.finfo(seen.dtype).min
            seen = seen.masked_fill(~mask, low) if mask.dtype == torch.bool else seen + mask
        seen = nn.functional.dropout(torch.softmax(seen, -1), self.p, self.training)
        return (seen @ value).transpose(1, 2).reshape(batch, tokens, -1)


def order(inner: list[int], outer: list[int]) -> list[int]:
    """Heads by size, so that those of one size lie side by side."""
    return sorted(range(len(inner)), key=lambda h: (inner[h], outer[h], h))
