"""Powerpropagation: every weight is a signed power of what is trained; large ones learn fast, small ones
hardly.
"""

from __future__ import annotations

from analysis.parts.optim import AdamW
from analysis.parts.reparam import SignedPower
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Magnitude
from analysis.parts.select import TopK
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="powerprop",
    title="Powerpropagation",
    paper="Schwarz, Jayakumar, Pascanu, Latham, Teh 2021, arXiv:2110.00296",
    summary="Trains a signed root of every weight, so that large weights learn fast, and keeps the largest.",
    lineup=LineUp(
        score=Magnitude(),
        units=Weight(),
        select=TopK(),
        schedule=Cubic(),
        # Moderate: from 3 upwards steps blow up where a stored parameter exceeds 1.
        reparam=SignedPower(alpha=2.0),
        optimizer=AdamW(lr=5e-5),
    ),
)
