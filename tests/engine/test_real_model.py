"""The real encoder: sites, counts, one short run (needs $PRUNING_LAB_MODELS and $PRUNING_LAB_DATA)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers as hf

from analysis import spec as specs
from analysis.engine import train
from analysis.engine.sites import count_parameters, find_sites
from analysis.recipes import build
from analysis.store.layout import write_json


def test_minilm_has_its_known_sites(models_dir: Path) -> None:
    model = hf.AutoModelForSequenceClassification.from_pretrained(models_dir / "all-MiniLM-L6-v2")
    sites = find_sites(model)
    counts = count_parameters(model, sites)
    assert (len(sites), counts.prunable) == (36, 10_616_832)
    assert counts.encoder == sum(p.numel() for p in model.bert.encoder.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mrpc", "squad", "wnut17", "stsb", "mnli"])
def test_a_short_run_on_every_kind_of_task(
    models_dir: Path, data_dir: Path, tmp_path: Path, quiet: Any, task: str
) -> None:
    settings = {
        "training.batch": 4,
        "task.train_rows": 40,
        "task.eval_rows": 12,
        "task.max_length": 64,
        "training.evaluations": 1,
    }
    spec = build(
        "movement",
        str(models_dir / "all-MiniLM-L6-v2"),
        str(data_dir / task),
        keep=0.5,
        steps=3,
        settings=settings,
    )
    run = tmp_path / "run"
    run.mkdir()
    write_json(run / "spec.json", specs.to_dict(spec))
    train.execute(run, quiet)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    final = [row for row in events if row["kind"] == "eval"][-1]
    assert final["split"] == "test" and final["keep_prunable"] == pytest.approx(0.5, abs=1e-6)
    assert final["metric"] in ("accuracy", "f1", "pearson")
    assert final["floor"] is not None
    assert (run / "model" / "model.safetensors").stat().st_size > 80_000_000
