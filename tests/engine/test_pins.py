"""PINS inside a run: real zeros, a teacher that is an earlier student, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.engine import stepping, terms, train
from analysis.engine.diary import Diary
from analysis.engine.setup import Setup, prepare
from analysis.errors import SpecError
from analysis.recipes import build
from tests.engine.conftest import Quiet

Prepare = Callable[..., Setup]
FAST = {"score.window": 2, "schedule.every": 2, "optimizer.lr": 0.01, "optimizer.warmup": 0}


@pytest.fixture
def setup(
    tmp_path: Path, tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]
) -> Prepare:
    """Prepares a run of pins of twenty steps on a tiny BERT and forty sentences."""

    def make(
        rows: list[dict[str, Any]] = sentences, teacher: str = "", keep: float = 0.25, **settings: Any
    ) -> Setup:
        data = write("data.jsonl", rows * 3)
        plan = {"training.precision": "fp32", "training.batch": 8, "training.evaluations": 5, **FAST}
        plan |= {k.replace("__", "."): v for k, v in settings.items()}
        spec = build("pins", str(tiny_bert), str(data), keep=keep, steps=20, settings=plan, teacher=teacher)
        return prepare(spec, tmp_path)

    return make


def run(s: Setup, path: Path) -> None:
    path.mkdir()
    diary = Diary(path / "events.jsonl", 20, Quiet())
    train._train(s, 0, path, diary, Quiet())


def zeros(tensors: list[torch.Tensor]) -> int:
    return sum(int((t == 0).sum()) for t in tensors)


def test_the_zeros_that_are_reported_are_there(setup: Prepare, tmp_path: Path) -> None:
    made = setup()
    run(made, tmp_path / "one")
    pruner = made.pruner
    assert pruner.kept == 1024
    assert zeros([s.weight for s in pruner.sites]) == 4096 - 1024
    assert all(
        int(s.weight[~m].count_nonzero()) == 0 for s, m in zip(pruner.sites, pruner.masks(), strict=True)
    )
    pruner.finalise()
    assert zeros([s.weight for s in pruner.sites]) == 4096 - 1024


def test_the_rule_of_the_reference_keeps_one_more(setup: Prepare, tmp_path: Path) -> None:
    made = setup(select__rule="faithful")
    run(made, tmp_path / "one")
    assert made.pruner.kept == 1025


def test_nothing_is_zeroed_when_everything_stays(setup: Prepare, tmp_path: Path) -> None:
    made = setup(keep=1.0)
    run(made, tmp_path / "one")
    assert made.pruner.kept == 4096 and zeros([s.weight for s in made.pruner.sites]) == 0


def test_weights_move_between_two_cuts_and_an_evaluation_sees_the_mask(setup: Prepare) -> None:
    made = setup()
    pruner = made.pruner
    for step in range(7):
        if step % 2 == 0:
            pruner.refresh(step / 20)
            stepping.settle(pruner)
        train.one_step(made, np.arange(8), step / 20, step)
    held = [s.weight.detach().clone() for s in pruner.sites]
    pruner.refresh(1.0)  # what a look at the final cut does
    assert all(torch.equal(s.weight, w) for s, w in zip(pruner.sites, held, strict=True))
    stepping.settle(pruner)
    before = zeros([s.weight for s in pruner.sites])
    train.one_step(made, np.arange(8), 0.35, 7)
    assert before == 4096 - 1024 > zeros([s.weight for s in pruner.sites])
    batch = made.data.train.batch(np.arange(8))
    with torch.no_grad():
        masked = made.model.eval()(**batch).logits
        stepping.settle(pruner)
        assert torch.equal(made.model(**batch).logits, masked)


def test_the_teacher_is_the_masked_student_of_an_evaluation(
    setup: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = setup(distillation__policy="latest")
    tutor = made.tutor
    assert tutor is not None and tutor.model is made.teacher and not tutor.ready
    names = [s.name for s in made.pruner.sites]
    seen, logits = [], []
    consider = type(tutor).consider

    def watched(self: Any, *given: Any) -> None:
        consider(self, *given)
        plain = dict(self.model.named_modules())
        seen.append(zeros([plain[n].weight for n in names]))  # type: ignore[misc]
        batch = made.data.train.batch(np.arange(8))
        with torch.no_grad():
            logits.append((made.model.eval()(**batch).logits, self.model(**batch).logits))

    monkeypatch.setattr(type(tutor), "consider", watched)
    run(made, tmp_path / "one")
    assert len(seen) == tutor.seen == 4 and tutor.ready
    assert all(a <= b for a, b in pairwise(seen)) and seen[-1] == 4096 - 1024
    assert all(torch.equal(student, teacher) for student, teacher in logits)
    assert not any(p.requires_grad for p in tutor.model.parameters())


def test_a_teacher_that_is_given_teaches_from_the_first_step(setup: Prepare, tiny_bert: Path) -> None:
    made = setup(teacher=str(tiny_bert))
    assert made.tutor is not None and made.tutor.ready
    assert made.spec.parts.task.weight == 0  # a teacher does not bring another distillation
    losses = terms.losses(made, np.arange(8))
    assert set(losses) == {"task", "distillation"} and losses["task"] != losses["distillation"]
    alone = setup()
    losses = terms.losses(alone, np.arange(8))
    assert torch.equal(losses["task"], losses["distillation"])


def test_what_makes_no_sense_is_refused(setup: Prepare, sentences: list[dict[str, Any]]) -> None:
    with pytest.raises(SpecError, match="weighs classes by how sure the student is, but the task predicts a"):
        setup([{**row, "label": i / 7} for i, row in enumerate(sentences)])
    with pytest.raises(SpecError, match="reparam is Zeroed, whose forward pass has no mask"):
        build("movement", "m", "t", settings={"reparam.type": "Zeroed"})
