"""PINS: prune what costs least to lose against being updated, taught by the run's own earlier student."""

from __future__ import annotations

from analysis.parts.floor import GlobalCut
from analysis.parts.losses import Task
from analysis.parts.optim import AdamW
from analysis.parts.reparam import Zeroed
from analysis.parts.schedules import CubicEvery
from analysis.parts.selfteach import SelfDistillation
from analysis.parts.sensitivity import Sensitivity
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="pins",
    title="PINS",
    paper="Ren and Zhu 2023, arXiv:2305.12394",
    summary=(
        "Watches at every step what losing a weight would cost against updating it, cuts all layers at once, "
        "and lets an earlier student teach the later one."
    ),
    lineup=LineUp(
        score=Sensitivity(),
        units=Weight(),
        select=GlobalCut(),
        schedule=CubicEvery(),
        reparam=Zeroed(),
        optimizer=AdamW(lr=3e-5),
        task=Task(weight=0.0),
        distillation=SelfDistillation(),
    ),
    keep=0.2,
)
