"""GRAIN: dimensions inside heads and neurons, ranked by what scaling them does to the distilled answer."""

from __future__ import annotations

from analysis.parts.budget import ParameterBudget
from analysis.parts.losses import Task
from analysis.parts.matching import HiddenDistillation, SoftTargets
from analysis.parts.optim import AdamW
from analysis.parts.reparam import MaskedRows
from analysis.parts.schedules import Cubic
from analysis.parts.taylor import Taylor
from analysis.parts.units import Structure
from analysis.recipes.base import Recipe
from analysis.spec import LineUp, Stage
from analysis.spec.stages import TEACH

RECIPE = Recipe(
    name="grain",
    title="GRAIN",
    paper="Yang, Cui, Yao, Wang 2023, arXiv:2212.07634 (Gradient-based Intra-attention Pruning)",
    summary=(
        "Prunes dimensions inside heads and neurons together, taught by a fine-tuned teacher whose hidden "
        "states have no say in what goes; heads end with sizes of their own."
    ),
    lineup=LineUp(
        score=Taylor(),
        units=Structure(attention="dims", ffn="neurons"),
        select=ParameterBudget(),
        schedule=Cubic(warmup=0.2, cooldown=0.6),
        reparam=MaskedRows(),
        optimizer=AdamW(lr=3e-5, warmup=0.1, weight_decay=0.01, freeze_embeddings=False),
        task=Task(weight=0.0),
        distillation=SoftTargets(temperature=8.0),
        hidden=HiddenDistillation(layers="even", over="sum", projected=True),
    ),
    stages=(TEACH, Stage("prune", 0.7, start="pre-trained", teacher="fine-tuned")),
)
