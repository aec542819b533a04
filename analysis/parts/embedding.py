"""The table of word embeddings, stored whole or as two factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from analysis.parts.base import Part, knob


def stored(rows: int, cols: int, rank: int) -> int:
    """Parameters of a table of ``rows`` words and width ``cols`` as two factors: (rows + cols) * rank."""
    return (rows + cols) * rank


@dataclass(frozen=True)
class FactorisedEmbedding(Part):
    """Stores the table of word embeddings as E = T P, from the truncated SVD; both are trained.

    E = U S V^T; T = U_r S_r of shape [words, r] is looked up, P = V_r^T of shape [r, width] projects what was
    found. The result is saved as an ordinary table, and as two factors in the compact folder.
    Source: Yang, Cui, Yao, Wang 2023, arXiv:2212.07634.
    """

    rank: int = knob(192, "rank r of the table", low=1, high=65536)

    title: ClassVar[str] = "word embeddings as two factors"
