"""Movement pruning, hard: keep the weights that move away from zero while fine-tuning."""

from __future__ import annotations

from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Movement
from analysis.parts.select import TopK
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="movement",
    title="Movement",
    paper="Sanh, Wolf, Rush 2020, arXiv:2005.07683 (MvP)",
    summary=(
        "Learns a score per weight that rises when the weight moves away from zero, and keeps the highest."
    ),
    lineup=LineUp(
        score=Movement(lr=0.05),
        units=Weight(),
        select=TopK(),
        schedule=Cubic(),
        reparam=Masked(),
        optimizer=AdamW(lr=5e-5),
    ),
)
