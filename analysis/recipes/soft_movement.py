"""Soft movement pruning: a threshold on the scores and a penalty that pulls all of them down."""

from __future__ import annotations

from analysis.parts.losses import SigmoidPenalty
from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Movement
from analysis.parts.select import SigmoidThreshold
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="soft_movement",
    title="Soft movement",
    paper="Sanh, Wolf, Rush 2020, arXiv:2005.07683 (SMvP)",
    summary="Movement scores kept above a threshold; a penalty decides how many stay, and where.",
    lineup=LineUp(
        score=Movement(lr=0.05),
        units=Weight(),
        select=SigmoidThreshold(),
        schedule=Cubic(),
        reparam=Masked(),
        optimizer=AdamW(lr=5e-5),
        penalty=SigmoidPenalty(weight=500.0),
    ),
)
