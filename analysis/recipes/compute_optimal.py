"""Compute-optimal transfer: heads, neurons or filters cut before the first step, so that every step is
cheaper.
"""

from __future__ import annotations

from analysis.parts.optim import AdamW
from analysis.parts.reparam import MaskedRows
from analysis.parts.schedules import OneShot
from analysis.parts.scores import Norm
from analysis.parts.select import TopK
from analysis.parts.units import Structure
from analysis.recipes.base import Recipe
from analysis.spec import LineUp

RECIPE = Recipe(
    name="compute_optimal",
    title="Compute optimal",
    paper="Caccia et al. 2023, arXiv:2304.13164 (Towards Compute-Optimal Transfer Learning)",
    summary=(
        "Keeps the structures with the largest weights, chosen before any data is seen, and fine-tunes what "
        "is left: less accuracy in the end, more for little compute."
    ),
    lineup=LineUp(
        score=Norm(norm="l2"),
        units=Structure(),
        select=TopK(scope="local", least=1),
        schedule=OneShot(at=0.0, frozen=True),
        reparam=MaskedRows(),
        optimizer=AdamW(lr=5e-5),
    ),
    keep=0.5,
)
