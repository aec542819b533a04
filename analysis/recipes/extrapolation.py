"""Extrapolation: magnitude pruning whose optimizer takes its gradient a little ahead of the weights.

The look-ahead is no way of pruning and goes with every recipe (``--set lookahead.type=Extrapolation``); this
one is ``magnitude`` with nothing else changed, so that the pair shows what the look-ahead does. With a keep
of 1 it is dense fine-tuning with a look-ahead.
"""

from __future__ import annotations

from analysis.parts.lookahead import Extrapolation
from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Magnitude
from analysis.parts.select import TopK
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="extrapolation",
    title="Extrapolation",
    paper="Lin, Kong, Stich, Jaggi 2020, arXiv:2006.05720, around magnitude pruning",
    summary="Magnitude pruning whose optimizer evaluates its gradient a little ahead of the weights.",
    lineup=LineUp(
        score=Magnitude(),
        units=Weight(),
        select=TopK(),
        schedule=Cubic(),
        reparam=Masked(),
        optimizer=AdamW(lr=5e-5),
        lookahead=Extrapolation(source="past_adam", rho=0.5),
    ),
)
