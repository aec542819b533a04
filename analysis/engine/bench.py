"""Speeds as ratios measured in one run: a dense step, our masked step, and a reference that sorts in every
forward.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import BertConfig, BertForSequenceClassification

from analysis.engine import stepping
from analysis.engine.memory import reuse_memory
from analysis.engine.pruner import Pruner
from analysis.engine.setup import freeze_embeddings
from analysis.engine.sites import find_sites
from analysis.errors import SpecError
from analysis.parts.gates import StraightThrough
from analysis.parts.optim import AdamW
from analysis.parts.select import keep_largest
from analysis.recipes import RECIPES

BATCH, LENGTH = 32, 32
KEEP = 0.1


class SortedMask(nn.Module):
    """The published way, as an oracle for speed: sort all scores of a matrix in every forward and write the
    mask through the sorted order.
    """

    def __init__(self, shape: torch.Size, keep: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(_scores(shape).reshape(-1))
        self.keep = keep

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Returns M * W with a mask from a full sort."""
        order = self.scores.detach().sort(descending=True).indices
        kept = int(self.keep * order.numel())
        mask = self.scores.detach().clone()
        mask[order[kept:]] = 0.0
        mask[order[:kept]] = 1.0
        result: torch.Tensor = StraightThrough.apply(
            weight, self.scores, mask.view_as(weight), tuple(weight.shape)
        )
        return result


def _scores(shape: torch.Size) -> torch.Tensor:
    """Scores spread as they are in the middle of a run; at its start they are heaps of equal values."""
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _model() -> nn.Module:
    """An encoder of MiniLM-L6's shape: 10,616,832 prunable weights in 36 matrices; speed does not ask for
    trained ones.
    """
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    model: nn.Module = BertForSequenceClassification(config)
    freeze_embeddings(model)
    return model.train()


def _stepper(model: nn.Module, scores: list[nn.Parameter], pruner: Pruner | None) -> Callable[[], None]:
    own = {id(p) for p in scores}
    weights = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    part = AdamW()
    optimizer = part.build(
        [p for p in weights if p.ndim > 1], [p for p in weights if p.ndim < 2], scores, 0.05
    )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 30522, (BATCH, LENGTH), generator=generator)
    labels = torch.randint(0, 2, (BATCH,), generator=generator)
    attention = torch.ones_like(ids)
    clipped = [p for g in optimizer.param_groups if part.clip_scores or not g["scores"] for p in g["params"]]

    def move() -> None:
        if pruner is None:
            optimizer.step()
            return
        stepping.before_step(pruner)
        optimizer.step()
        stepping.after_step(pruner, 0.0)

    def step() -> None:
        if pruner is not None:
            pruner.refresh(1.0)
        with parametrize.cached():
            loss = model(input_ids=ids, attention_mask=attention, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clipped, part.clip, foreach=True)
        move()
        optimizer.zero_grad(set_to_none=True)

    return step


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _masked(recipe: str) -> Callable[[], None]:
    model = _model()
    pruner = Pruner.attach(find_sites(model), RECIPES[recipe].lineup, KEEP, seed=0)
    for scores in pruner.learned_scores():
        scores.data.copy_(_scores(scores.shape))
    return _stepper(model, list(pruner.learned_scores()), pruner)


def _sorted() -> Callable[[], None]:
    model = _model()
    gates = []
    for site in find_sites(model):
        gate = SortedMask(site.weight.shape, KEEP)
        parametrize.register_parametrization(site.module, "weight", gate, unsafe=True)
        gates.append(gate.scores)
    return _stepper(model, gates, None)


def bench(rounds: int = 7, recipe: str = "movement") -> dict[str, Any]:
    """Times the steps in turns, so that a busy machine disturbs all of them alike.

    Args:
        rounds: repetitions; medians of times and of per-round ratios are reported.
        recipe: whose masked step is timed; a name in the catalogue.

    Returns:
        seconds, ratios, and the time of an exact selection on a 3072 x 768 matrix and over 85 M scores.

    Raises:
        SpecError: an unknown recipe.
    """
    if recipe not in RECIPES:
        raise SpecError(f"recipe is {recipe!r}; allowed is one of {', '.join(RECIPES)}.")
    reuse_memory()
    steps = {"dense": _stepper(_model(), [], None), "masked": _masked(recipe), "sort_reference": _sorted()}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(_seconds(step))
    ratio = [m / d for m, d in zip(times["masked"], times["dense"], strict=True)]
    reference = [r / m for r, m in zip(times["sort_reference"], times["masked"], strict=True)]
    return {
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model": "encoder of MiniLM-L6's shape, 10,616,832 prunable weights",
        "batch": [BATCH, LENGTH],
        "keep": KEEP,
        "recipe": recipe,
        "step": {f"{name}_s": statistics.median(values) for name, values in times.items()},
        "ratio_masked_to_dense": statistics.median(ratio),
        "ratio_sort_reference_to_masked": statistics.median(reference),
        **_selection(rounds),
    }


def _selection(rounds: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3072 * 768, generator=generator)
    encoder = [torch.randn(s, generator=generator) for s in [768 * 768] * 48 + [3072 * 768] * 24]
    total = sum(t.numel() for t in encoder)
    one = [_seconds(lambda: keep_largest([matrix], matrix.numel() // 10)) for _ in range(rounds)]
    whole = [_seconds(lambda: keep_largest(encoder, total // 10)) for _ in range(min(3, rounds))]
    return {"select_matrix_ms": statistics.median(one) * 1e3, "select_85m_s": statistics.median(whole)}
