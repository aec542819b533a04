"""Block pruning: movement scores for blocks of attention and whole neurons, then removal of what is empty."""

from __future__ import annotations

import dataclasses

from analysis.parts.losses import BalancedPenalty
from analysis.parts.optim import AdamW
from analysis.parts.reparam import MaskedRows
from analysis.parts.schedules import Cubic
from analysis.parts.scores import Movement
from analysis.parts.select import SigmoidThreshold
from analysis.parts.units import Structure
from analysis.recipes.base import Recipe
from analysis.spec import LineUp, Stage
from analysis.spec.stages import TEACH

PRUNE = Stage("prune", start="pre-trained", teacher="fine-tuned")
FILL = Stage(
    "fill",
    0.3,
    teacher="fine-tuned",
    begin="fill",
    depth=0,
    settings={
        "score.type": "Magnitude",
        "select.type": "TopK",
        "schedule.type": "Constant",
        "penalty.type": "none",
    },
)

RECIPE = Recipe(
    name="block_movement",
    title="Block movement",
    paper="Lagunas, Charlaix, Sanh, Rush 2021, arXiv:2109.04838 (Block Pruning for Faster Transformers)",
    summary=(
        "Soft movement pruning of blocks in attention and of whole feed-forward neurons; heads and neurons "
        "left empty are cut out of the model."
    ),
    lineup=LineUp(
        score=Movement(lr=0.05),
        units=Structure(attention="blocks", ffn="neurons", rows=32, cols=32),
        select=SigmoidThreshold(),
        schedule=Cubic(),
        reparam=MaskedRows(),
        optimizer=AdamW(lr=5e-5),
        penalty=BalancedPenalty(weight=20.0),
    ),
    variants={
        "filled": (TEACH, PRUNE, FILL),
        "filled-around-mean": (TEACH, PRUNE, dataclasses.replace(FILL, begin="fill around mean")),
    },
)
