"""PELA: every layer as the product of two thin factors, taught by the original model before it is tuned."""

from __future__ import annotations

from analysis.parts.losses import Task
from analysis.parts.lowrank import Component, LowRank, Perturbation, SingularValue
from analysis.parts.matching import HiddenDistillation
from analysis.parts.optim import AdamW
from analysis.parts.schedules import Constant
from analysis.parts.select import TopK
from analysis.recipes.base import Recipe
from analysis.spec import LineUp, Stage

RECIPE = Recipe(
    name="pela",
    title="PELA",
    paper="Guo, Wang, Kankanhalli 2024, arXiv:2310.10700",
    summary=(
        "Replaces every matrix by two thin factors of its truncated SVD, makes their hidden states follow "
        "the original model, then fine-tunes them on the task."
    ),
    lineup=LineUp(
        score=SingularValue(),
        units=Component(),
        select=TopK(),
        schedule=Constant(),
        reparam=LowRank(),
        optimizer=AdamW(lr=5e-5),
        task=Task(weight=0.0),
        hidden=HiddenDistillation(layers="blocks", over="mean"),
        penalty=Perturbation(),
    ),
    keep=0.5,
    stages=(
        Stage("intermediate", 0.5, start="pre-trained", teacher="pre-trained"),
        Stage("fine-tune", 0.5, settings={"penalty.type": "none", "task.weight": 1.0}),
    ),
)
