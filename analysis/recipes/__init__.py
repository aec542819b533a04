"""The catalogue: one entry per published system, each a line-up of parts plus a card."""

from __future__ import annotations

from analysis.recipes import dense, extrapolation, l0, magnitude, movement, random, soft_movement
from analysis.recipes.base import Recipe
from analysis.recipes.build import build, card

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        *(dense.RECIPE, random.RECIPE, magnitude.RECIPE, movement.RECIPE, soft_movement.RECIPE, l0.RECIPE),
        *(extrapolation.RECIPE,),
    )
}

__all__ = ["RECIPES", "Recipe", "build", "card"]
