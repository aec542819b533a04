"""The model fine-tuned with all its weights: the line every other recipe is measured against."""

from __future__ import annotations

from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Constant
from analysis.parts.scores import Magnitude
from analysis.parts.select import TopK
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="dense",
    title="Dense",
    paper="baseline: ordinary fine-tuning",
    summary="Fine-tunes the model and prunes nothing.",
    lineup=LineUp(
        score=Magnitude(),
        units=Weight(),
        select=TopK(),
        schedule=Constant(),
        reparam=Masked(),
        optimizer=AdamW(lr=5e-5),
    ),
    keep=1.0,
)
