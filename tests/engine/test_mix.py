"""Mix and match: any parts go together and train, or are refused in a sentence that says what to choose."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.engine import stepping, train
from analysis.errors import SpecError
from analysis.parts import SLOTS
from analysis.recipes import build
from analysis.spec import RunSpec

MIXED = ("score", "units", "select", "schedule", "reparam")
SMALL = {"Block": {"units.rows": 4, "units.cols": 4}, "Structure": {"units.rows": 4, "units.cols": 4}}
LOOKED_AT = 1200
PICKED = 24  # of the line-ups that are allowed, and more until every part was in two


def every() -> list[tuple[str, ...]]:
    """Some of all the line-ups over the mixed slots, always the same ones."""
    found = list(itertools.product(*(SLOTS[slot] for slot in MIXED)))
    random.Random(0).shuffle(found)
    return found[:LOOKED_AT]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mix")
    rows = [
        f'{{"sentence": "the film is {w} {"very " * (i % 3)}", "label": {i % 2}}}'
        for i, w in enumerate(["bad", "good"] * 24)
    ]
    (folder / "data.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder / "data.jsonl")


def mixed(types: tuple[str, ...], model: str, data: str) -> RunSpec:
    plan: dict[str, Any] = {f"{slot}.type": name for slot, name in zip(MIXED, types, strict=True)}
    plan |= SMALL.get(types[1], {})
    plan |= {
        "training.batch": 8,
        "training.accumulate": 3,
        "training.precision": "fp32",
        "optimizer.lr": 0.01,
    }
    return build("magnitude", model, data, keep=0.5, steps=8, settings=plan)


@pytest.fixture(scope="module")
def sorted_out(tiny_bert: Path, data: str) -> tuple[list[RunSpec], list[tuple[tuple[str, ...], str]]]:
    """The line-ups that are allowed, and those that are not with what was said."""
    specs, refused = [], []
    for types in every():
        try:
            specs.append(mixed(types, str(tiny_bert), data))
        except SpecError as error:
            refused.append((types, str(error)))
    return specs, refused


Sorted = tuple[list[RunSpec], list[tuple[tuple[str, ...], str]]]


def test_a_refusal_names_a_part_and_what_to_choose(sorted_out: Sorted) -> None:
    specs, refused = sorted_out
    assert len(specs) > 60 and refused
    for types, sentence in refused:
        assert any(name in sentence for name in types) and ("choose" in sentence or "allowed" in sentence)


def names(spec: RunSpec) -> list[str]:
    return [type(getattr(spec.parts, slot)).__name__ for slot in MIXED]


def chosen(specs: list[RunSpec]) -> list[RunSpec]:
    """Few enough to run, and every part that is allowed at all at least twice."""
    seen: dict[str, int] = {}
    found = []
    for spec in specs:
        if len(found) < PICKED or min(seen.get(part, 0) for part in names(spec)) < 2:
            found.append(spec)
            for part in names(spec):
                seen[part] = seen.get(part, 0) + 1
    return found


@pytest.mark.slow
def test_what_is_allowed_trains_and_reaches_an_end(sorted_out: Sorted, tmp_path: Path) -> None:
    picked = chosen(sorted_out[0])
    trained, failed = 0, []
    for spec in picked:
        try:
            _train(spec, tmp_path)
            trained += 1
        except SpecError as error:  # what only shows with the model: still a sentence, not a crash
            assert len(str(error)) > 30
        except Exception as error:
            failed.append(f"{' x '.join(names(spec))}: {type(error).__name__}: {error}")
    assert failed == []
    assert trained > 0.7 * len(picked)


def _train(spec: RunSpec, runs: Path) -> None:
    setup = train.prepare(spec, runs)
    setup.model.train()
    for step in range(8):
        if spec.parts.schedule.due(step / 8, step):
            setup.pruner.refresh(step / 8)
            stepping.settle(setup.pruner)
        seen = train.one_step(setup, np.arange(8), step / 8, step)
        assert all(math.isfinite(value) for value in seen.values()), seen
    setup.pruner.refresh(1.0)
    assert 0 < setup.pruner.kept <= setup.pruner.total
    setup.pruner.finalise()
