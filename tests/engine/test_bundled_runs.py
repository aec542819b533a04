"""Whole runs on the bundled task: what the pages and cards claim of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import bundle
from analysis import spec as specs
from analysis.engine import train
from analysis.recipes import build
from analysis.store.layout import write_json

pytestmark = pytest.mark.slow


def final(
    quiet: Any, tmp_path: Path, recipe: str, keep: float | None = None, **settings: Any
) -> dict[str, Any]:
    """The test result of one run with the bundled settings."""
    spec = build(
        recipe, "bundled:text", "bundled:opinions", keep=keep, settings={"training.threads": 1, **settings}
    )
    run = tmp_path / f"{recipe}-{len(list(tmp_path.iterdir()))}"
    run.mkdir()
    write_json(run / "spec.json", specs.to_dict(spec))
    train.execute(run, quiet)
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()
    ]
    return [row for row in rows if row["kind"] == "eval" and row["split"] == "test"][-1]


def test_the_task_needs_the_encoder(quiet: Any, tmp_path: Path) -> None:
    dense = final(quiet, tmp_path, "dense")
    assert dense["value"] >= 0.97 and dense["floor"] == 0.5
    assert bundle.bag_of_words("opinions") <= 0.60


def test_movement_leads_at_three_percent(quiet: Any, tmp_path: Path) -> None:
    movement, magnitude = (final(quiet, tmp_path, r, 0.03)["value"] for r in ("movement", "magnitude"))
    assert movement > magnitude + 0.1


@pytest.mark.parametrize("recipe", ["soft_movement", "l0"])
def test_steering_comes_near_the_asked_keep(quiet: Any, tmp_path: Path, recipe: str) -> None:
    kept = final(quiet, tmp_path, recipe, 0.1)["keep_prunable"]
    assert 0.05 < kept < 0.2
