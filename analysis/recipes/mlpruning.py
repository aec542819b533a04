"""MLPruning: heads and rows, then tiles inside what they left; how much each group keeps is learned."""

from __future__ import annotations

from analysis.parts.kept_heads import KeptHeadsDistillation
from analysis.parts.learned import BudgetHinge, LearnedKeep, MaskedUnits
from analysis.parts.levels import MultiLevel
from analysis.parts.losses import LogitDistillation, Task
from analysis.parts.matching import HiddenDistillation
from analysis.parts.optim import AdamW
from analysis.parts.schedules import Constant
from analysis.parts.scores import Movement
from analysis.recipes.base import Recipe
from analysis.spec import LineUp, Stage
from analysis.spec.stages import TEACH

RECIPE = Recipe(
    name="mlpruning",
    title="MLPruning",
    paper="Yao, Ma, Shen, Keutzer, Mahoney 2021, arXiv:2105.14636v1 (later rewritten as LEAP)",
    summary=(
        "Every group of heads, rows and then tiles learns what share of itself it keeps, within one budget "
        "of weights; each step is taught by the model before it, down to its attention maps."
    ),
    lineup=LineUp(
        score=Movement(lr=0.05),
        units=MultiLevel(tile=16),
        select=LearnedKeep(pace=2.0),
        schedule=Constant(),
        reparam=MaskedUnits(),
        optimizer=AdamW(lr=3e-5),
        task=Task(weight=0.1),
        distillation=LogitDistillation(weight=0.9, temperature=2.0),
        hidden=HiddenDistillation(weight=0.9),
        attention=KeptHeadsDistillation(weight=0.9),
        penalty=BudgetHinge(least=2000.0),  # in hundreds of steps Adam would stop short with the published 50
    ),
    keep=0.2,
    stages=(
        TEACH,
        # 0.2 in all is a half here and 0.4 of that half there, as published.
        Stage("heads and rows", 0.4, start="pre-trained", teacher="fine-tuned", depth=0.43),
        Stage("tiles", 0.3, teacher="previous", settings={"units.level": "tiles"}),
    ),
)
