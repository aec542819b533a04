"""The catalogue: one entry per published system, each a line-up of parts plus a card."""

from __future__ import annotations

from analysis.recipes import (
    block_movement,
    compute_optimal,
    dense,
    extrapolation,
    gradient_flow,
    l0,
    magnitude,
    mlpruning,
    movement,
    pins,
    powerprop,
    random,
    soft_movement,
)
from analysis.recipes.base import Recipe
from analysis.recipes.build import build, card, taught

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        dense.RECIPE,
        random.RECIPE,
        magnitude.RECIPE,
        movement.RECIPE,
        soft_movement.RECIPE,
        l0.RECIPE,
        block_movement.RECIPE,
        gradient_flow.RECIPE,
        pins.RECIPE,
        powerprop.RECIPE,
        compute_optimal.RECIPE,
        extrapolation.RECIPE,
        mlpruning.RECIPE,
    )
}

__all__ = ["RECIPES", "Recipe", "build", "card", "taught"]
