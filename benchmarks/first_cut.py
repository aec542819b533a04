"""What a first cut costs, by the score that chooses it: a model is fine-tuned densely while movement scores
gather, and is then cut once, without training, by several rankings.

    python benchmarks/first_cut.py --model all-MiniLM-L6-v2 --task sst2    # two minutes on one core

Prints accuracy on part of the development split for each ranking and keep.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn.utils import parametrize

from analysis import recipes
from analysis.engine.evaluate import evaluate
from analysis.engine.order import batches_from
from analysis.engine.setup import Setup, prepare
from analysis.engine.train import one_step
from analysis.parts.select import TopK
from analysis.store.layout import default_runs_dir

KEEPS = (0.95, 0.9, 0.8, 0.7, 0.5)


def train(setup: Setup, steps: int) -> None:
    """Fine-tunes with every weight kept; the scores gather their gradients."""
    torch.manual_seed(setup.spec.seed)
    setup.model.train()
    plan = setup.spec.training
    batches = batches_from(setup.data.train.lengths, plan.batch, setup.spec.seed, 0)
    for step in range(steps):
        rate = min(1.0, step / max(1.0, setup.spec.parts.optimizer.warmup * steps))
        for group in setup.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        one_step(setup, next(batches), 0.0, step)


def accuracy(setup: Setup) -> float:
    """The main metric on part of the development split, with the masks of now."""
    with parametrize.cached():
        return evaluate(setup.model, setup.glance, setup.data, precision=setup.precision).value


def main() -> None:
    """Trains, cuts and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    settings = {"optimizer.lr": 1e-4, "training.batch": 16, "task.max_length": 48}
    spec = recipes.build("movement", given.model, given.task, steps=given.steps, settings=settings)
    setup = prepare(spec, default_runs_dir())
    train(setup, given.steps)
    generator = torch.Generator().manual_seed(0)
    scores = [setup.pruner.scores(i).reshape(-1) for i in range(len(setup.pruner.sites))]
    weights = [site.weight.detach().reshape(-1) for site in setup.pruner.sites]
    rankings = {
        "lowest scores cut": scores,
        "highest scores cut": [-s for s in scores],
        "smallest |score| cut": [s.abs() for s in scores],
        "smallest |weight| cut": [w.abs() for w in weights],
        "drawn by lot": [torch.rand(len(w), generator=generator) for w in weights],
    }
    rows = {"dense": accuracy(setup)}
    for keep in KEEPS:
        for name, ranking in rankings.items():
            for gate, chosen in zip(setup.pruner.gates, TopK().choose(ranking, keep), strict=True):
                gate.mask.copy_(chosen.view_as(gate.mask))
            rows[f"{name}, {keep:.0%} kept"] = accuracy(setup)
    sys.stdout.write(
        json.dumps({"metric": setup.data.metric, "floor": setup.data.floor, "values": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
