"""The catalogue: one entry per published system, each a line-up of parts plus a card."""

from __future__ import annotations

from analysis.recipes import (
    block_movement,
    compute_optimal,
    dense,
    extrapolation,
    gradient_flow,
    grain,
    l0,
    magnitude,
    mlpruning,
    movement,
    pela,
    pins,
    powerprop,
    random,
    soft_movement,
    spd,
)
from analysis.recipes.base import OWN, Recipe
from analysis.recipes.build import VARIANT, build, card, configured, taught, teacher_for, variant_of

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
        mlpruning.RECIPE,
        pins.RECIPE,
        grain.RECIPE,
        spd.RECIPE,
        pela.RECIPE,
        compute_optimal.RECIPE,
        powerprop.RECIPE,
        gradient_flow.RECIPE,
        extrapolation.RECIPE,
    )
}

__all__ = [
    "OWN",
    "RECIPES",
    "VARIANT",
    "Recipe",
    "build",
    "card",
    "configured",
    "taught",
    "teacher_for",
    "variant_of",
]
