"""Structured pruning in rounds, with scores measured on training examples at each cut."""

from __future__ import annotations

from analysis.parts.floor import GlobalWithFloor
from analysis.parts.flow import Flow
from analysis.parts.optim import AdamW
from analysis.parts.reparam import MaskedRows
from analysis.parts.schedules import Rounds
from analysis.parts.units import Structure
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="gradient_flow",
    title="Gradient flow",
    paper="Lubana and Dick 2021, arXiv:2009.11839",
    summary=(
        "Cuts heads and neurons in a few rounds, all layers at once, by what their removal would do to the "
        "size, the loss or the gradient."
    ),
    lineup=LineUp(
        score=Flow(order=1, absolute="before", bias="size"),
        units=Structure(attention="heads", ffn="neurons"),
        select=GlobalWithFloor(floor=0.05),
        schedule=Rounds(rounds=5),
        reparam=MaskedRows(),
        optimizer=AdamW(lr=5e-5),
    ),
    keep=0.5,
)
