"""Word embeddings as two factors: put in before training, folded back into one table after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from analysis.errors import SpecError
from analysis.parts.embedding import FactorisedEmbedding, stored


class LowRankEmbedding(nn.Module):
    """A table of embeddings as two factors: what is looked up in the first is projected by the second.

    Args:
        rows: words.
        cols: width.
        rank: r, width of what is looked up.
        padding: number of the word whose gradient stays zero, None for none.
    """

    def __init__(self, rows: int, cols: int, rank: int, padding: int | None = None) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(rows, rank))
        self.projection = nn.Parameter(torch.empty(rank, cols))
        self.num_embeddings, self.embedding_dim, self.padding_idx = rows, cols, padding

    @classmethod
    @torch.no_grad()
    def of(cls, dense: nn.Embedding, rank: int) -> LowRankEmbedding:
        """The two factors whose product is nearest to a table; empty ones for a table on the meta device."""
        weight = dense.weight
        with torch.device(weight.device):
            thin = cls(dense.num_embeddings, dense.embedding_dim, rank, dense.padding_idx)
        if not weight.is_meta:
            # The full decomposition would hold words x words numbers.
            u, s, vt = torch.linalg.svd(weight.float(), full_matrices=False)
            thin.table.copy_(u[:, :rank] * s[:rank])
            thin.projection.copy_(vt[:rank])
        return thin.to(weight.dtype)

    @property
    def weight(self) -> torch.Tensor:
        """E = T P, shape [words, width], for code that reads it; assigning to it is refused."""
        return self.table @ self.projection

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Returns the embeddings of word numbers of any shape, [..., width]."""
        found = nn.functional.embedding(words, self.table, self.padding_idx)
        return found @ self.projection


def check(part: FactorisedEmbedding | None, model: Any) -> nn.Embedding | None:
    """The table that two factors are to replace, None where no part asks for it.

    Raises:
        SpecError: the model has no such table, or factors of that rank would not be smaller.
    """
    if part is None:
        return None
    table = _table(model)
    if table is None:
        raise SpecError(
            f"embedding is FactorisedEmbedding, but a {type(model).__name__} has no table of word "
            "embeddings; set embedding.type=none or choose a model that reads text."
        )
    rows, cols = table.weight.shape
    if stored(rows, cols, part.rank) >= rows * cols:
        most = (rows * cols - 1) // (rows + cols)
        raise SpecError(
            f"embedding.rank is {part.rank}; two factors of a table of {rows} words and width {cols} are "
            f"smaller only up to {most}: take a lower rank, or embedding.type=none."
        )
    return table


def attach(part: FactorisedEmbedding | None, model: Any) -> None:
    """Puts two factors in place of a model's table of word embeddings, where a part asks for it.

    They are trained even where embeddings are not: what truncation broke could else never be mended.

    Raises:
        SpecError: the model has no such table, or factors of that rank would not be smaller.
    """
    table = check(part, model)
    if part is not None and table is not None:
        model.set_input_embeddings(LowRankEmbedding.of(table, part.rank))


def _table(model: Any) -> nn.Embedding | None:
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return table if isinstance(table, nn.Embedding) else None


@torch.no_grad()
def fold(model: Any) -> dict[str, int]:
    """Puts one table back where two factors stand, in place.

    Returns:
        name of the module to the rank its table has now; empty where nothing was to fold.
    """
    found = {n: m for n, m in model.named_modules() if isinstance(m, LowRankEmbedding)}
    for thin in found.values():
        dense = nn.Embedding(
            thin.num_embeddings, thin.embedding_dim, thin.padding_idx, _weight=thin.weight.clone()
        )
        dense.weight.requires_grad_(thin.table.requires_grad)
        model.set_input_embeddings(dense)
    return {name: thin.table.shape[1] for name, thin in found.items()}
