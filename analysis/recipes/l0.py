"""L0 regularisation: stochastic hard-concrete gates and a penalty on how many are expected to be open."""

from __future__ import annotations

from analysis.parts.losses import GatePenalty
from analysis.parts.optim import AdamW
from analysis.parts.reparam import HardConcrete
from analysis.parts.schedules import Constant
from analysis.parts.scores import GateLogit
from analysis.parts.select import OpenGate
from analysis.parts.units import Weight
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="l0",
    title="L0",
    paper="Louizos, Welling, Kingma 2018, arXiv:1712.01312, as used in Sanh, Wolf, Rush 2020",
    summary="Learns a stochastic gate per weight and pays for every gate expected to stay open.",
    lineup=LineUp(
        score=GateLogit(),
        units=Weight(),
        select=OpenGate(),
        schedule=Constant(),
        reparam=HardConcrete(),
        optimizer=AdamW(lr=5e-5),
        penalty=GatePenalty(weight=10.0),
    ),
)
