"""What a step of each recipe costs beside a dense step: time and memory, as ratios measured in one run.

The steps are those of the training loop itself, on an encoder of MiniLM-L6's shape with the bundled task's
sentences; a recipe with stages is measured in the longest that is no plain fine-tuning.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification

from analysis import recipes, spec
from analysis.engine import stepping
from analysis.engine.memory import reuse_memory
from analysis.engine.model_files import resolve
from analysis.engine.order import batches_from
from analysis.engine.setup import Setup, prepare
from analysis.engine.stages import Carry
from analysis.engine.train import OTHER, one_step
from analysis.spec import Leg, RunSpec

STEPS, KEEP = 1000, 0.3
FROM = 0.4  # of the stage: masks are being cut
TASK = "bundled:opinions"


def bench_recipes(
    names: tuple[str, ...] = tuple(recipes.RECIPES),
    rounds: int = 5,
    tell: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Times a step of each recipe in turn with a dense one, and compares the memory they need.

    Args:
        names: recipes of the catalogue.
        rounds: steps timed; the median of the ratios within a round is reported.
        tell: told what was measured.

    Returns:
        one entry a recipe: recipe, ratio_step, ratio_memory (peak beyond the imports, in a process of its
        own), and stage, the one measured.
    """
    reuse_memory()
    with tempfile.TemporaryDirectory() as place:
        folder = _model(Path(place) / "model")
        base = _peak("dense", folder)
        found = []
        for name in names:
            dense = _stepper("dense", folder)[0]
            step, stage = _stepper(name, folder)
            for warm in (dense, step, dense, step):
                warm()
            ratios = [_seconds(step) / _seconds(dense) for _ in range(rounds)]
            del dense, step
            gc.collect()
            memory = _peak(name, folder) / base
            row = {"recipe": name, "ratio_step": statistics.median(ratios), "ratio_memory": memory}
            found.append({**row, "stage": stage})
            tell(f"{name}: step {row['ratio_step']:.2f}, memory {memory:.2f} of a dense one")
    return found


def _seconds(work: Callable[[], object]) -> float:
    # Time of the processor: what else the machine does meanwhile does not count.
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _model(folder: Path) -> Path:
    """An untrained encoder with the bundled tokenizer; speed does not ask for trained weights."""
    reports = transformers.utils.logging
    reports.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    BertForSequenceClassification(config).save_pretrained(folder)
    reports.enable_progress_bar()
    for file in resolve("bundled:text").glob("tokenizer*.json"):
        shutil.copy(file, folder)
    return folder


def _leg(name: str, folder: Path) -> tuple[RunSpec, Leg]:
    keep = 1.0 if name == "dense" else KEEP
    settings = {"training.precision": "fp32", "optimizer.lr": 1e-5}
    teacher = recipes.teacher_for(name, str(folder)) if recipes.RECIPES[name].stages else ""
    asked = recipes.build(name, str(folder), TASK, keep=keep, steps=STEPS, settings=settings, teacher=teacher)
    legs = spec.legs(asked)
    return asked, max(legs, key=lambda leg: (not leg.stage.plain, leg.last - leg.first))


def _carry(asked: RunSpec, leg: Leg, folder: Path) -> Carry:
    """What earlier stages would have left: here the model as it is, with nothing pruned."""
    if not leg.number:
        return Carry()
    first = prepare(asked, folder.parent)
    first.pruner.finalise()
    state = {name: value.clone() for name, value in first.model.state_dict().items()}
    return Carry(state, [torch.ones_like(m) for m in first.pruner.masks()], state)


def _stepper(name: str, folder: Path) -> tuple[Callable[[], None], str]:
    asked, leg = _leg(name, folder)
    s = prepare(asked, folder.parent, leg, _carry(asked, leg, folder))
    s.model.train()
    if s.tutor is not None:
        s.tutor.ready = True  # from its first evaluation on every step asks the earlier student
    plan = leg.spec.training
    batches = batches_from(s.data.train.lengths, plan.batch, asked.seed, 0)
    fresh = batches_from(s.data.train.lengths, plan.batch, asked.seed + OTHER, 0)
    at = int(FROM * plan.steps)

    def step() -> None:
        nonlocal at
        _one(s, at, batches, fresh)
        at += 1

    return step, leg.stage.name


def _one(s: Setup, at: int, batches: Any, fresh: Any) -> None:
    progress = at / s.spec.training.steps
    if s.spec.parts.schedule.due(progress, at):
        s.pruner.refresh(progress)
        stepping.settle(s.pruner)
    one_step(s, next(batches), progress, at, fresh)


def _peak(name: str, folder: Path) -> float:
    """Bytes a recipe needs at most beyond the imports, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(name, str(folder), writer))
    child.start()
    writer.close()
    try:
        answer = json.loads(reader.recv())
    finally:
        child.join()
    return float(answer)


def _measure(name: str, folder: str, answer: Any) -> None:
    reuse_memory()
    before = _status("VmRSS")
    step, _ = _stepper(name, Path(folder))
    for _ in range(3):
        step()
    answer.send(json.dumps(_status("VmHWM") - before))


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")
