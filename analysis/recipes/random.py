"""Weights drawn by lot: what pruning costs when nothing is known about them."""

from __future__ import annotations

from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Random
from analysis.parts.select import TopK
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="random",
    title="Random",
    paper="baseline: scores drawn once from a uniform distribution",
    summary="Keeps weights drawn by lot, on the same schedule as the others.",
    lineup=LineUp(
        score=Random(),
        units=Weight(),
        select=TopK(),
        schedule=Cubic(),
        reparam=Masked(),
        optimizer=AdamW(lr=5e-5),
    ),
)
