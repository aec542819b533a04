"""Gradual magnitude pruning: keep what is large now."""

from __future__ import annotations

from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Magnitude
from analysis.parts.select import TopK
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="magnitude",
    title="Magnitude",
    paper="Han, Pool, Tran, Dally 2015; schedule of Zhu and Gupta 2017; MaP in Sanh, Wolf, Rush 2020",
    summary="Keeps the weights with the largest absolute value, cutting gradually while fine-tuning.",
    lineup=LineUp(
        score=Magnitude(),
        units=Weight(),
        select=TopK(),
        schedule=Cubic(),
        reparam=Masked(),
        optimizer=AdamW(lr=5e-5),
    ),
)
