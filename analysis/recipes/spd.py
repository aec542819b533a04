"""SPD: magnitude pruning of layers that learn among the layers of a dense teacher."""

from __future__ import annotations

from analysis.parts.graft import Graft, SoftClasses
from analysis.parts.losses import Task
from analysis.parts.matching import AttentionDistillation, HiddenDistillation
from analysis.parts.nested import NestedTopK
from analysis.parts.optim import AdamW
from analysis.parts.reparam import Masked
from analysis.parts.schedules import Events
from analysis.parts.scores import Magnitude
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp, Stage
from analysis.spec.stages import TEACH

RECIPE = Recipe(
    name="spd",
    title="SPD",
    paper="Huang et al. 2022, arXiv:2110.08190",
    summary=(
        "Prunes a copy of a fine-tuned model by size, while each of its layers stands by lot among the dense "
        "model's own and follows its attention, hidden states and answers."
    ),
    lineup=LineUp(
        score=Magnitude(),
        units=Weight(),
        select=NestedTopK(),
        schedule=Events(),
        reparam=Masked(),
        optimizer=AdamW(lr=1e-4),
        graft=Graft(),
        task=Task(weight=0.0),
        distillation=SoftClasses(),
        hidden=HiddenDistillation(layers="blocks"),
        attention=AttentionDistillation(),
    ),
    keep=0.1,
    stages=(TEACH, Stage("distil", start="teacher", teacher="fine-tuned")),
)
