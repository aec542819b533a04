"""Runs in several stages: what is handed on, what stays pruned, who teaches, and resuming in any of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from analysis import spec as specs
from analysis.engine import stages, terms, train
from analysis.errors import SpecError
from analysis.recipes import build
from analysis.spec import RunSpec, Stage
from analysis.spec.stages import TEACH
from analysis.store.layout import write_json
from tests.engine.test_train import Control, events, masks

STEPS = 20
PRUNE = Stage(
    "prune", 0.4, start="teacher", teacher="fine-tuned", settings={"distillation.type": "SoftTargets"}
)
TUNE = Stage("tune", 0.3, depth=1.0, teacher="previous", settings={"hidden.type": "HiddenDistillation"})

L0 = {
    "score.type": "GateLogit",
    "select.type": "OpenGate",
    "schedule.type": "Constant",
    "reparam.type": "HardConcrete",
}


@pytest.fixture
def staged(tiny_bert: Path, sentences: list[dict[str, Any]], write: Callable[..., Path]) -> RunSpec:
    """Teach, prune against the teacher, then go on against the pruned model."""
    plan = {
        "training.batch": 8,
        "optimizer.lr": 0.01,
        "training.precision": "fp32",
        "training.evaluations": 4,
    }
    data = str(write("data.jsonl", sentences * 3))
    plain = build("magnitude", str(tiny_bert), data, keep=0.25, steps=STEPS, settings=plan)
    return dataclasses.replace(plain, stages=(TEACH, PRUNE, TUNE))


def folder(tmp_path: Path, name: str, spec: RunSpec) -> Path:
    path = tmp_path / "runs" / name
    path.mkdir(parents=True)
    write_json(path / "spec.json", specs.to_dict(spec))
    write_json(path / "state.json", {"state": "done", "pid": 1})
    return path


def test_a_staged_spec_survives_json_and_has_a_name_of_its_own(staged: RunSpec) -> None:
    again = specs.from_dict(json.loads(json.dumps(specs.to_dict(staged))))
    assert again == staged
    alone = dataclasses.replace(staged, stages=())
    assert "stages" not in specs.to_dict(alone)
    assert (
        len(
            {
                specs.fingerprint(s)
                for s in (staged, alone, dataclasses.replace(staged, stages=(TEACH, PRUNE)))
            }
        )
        == 3
    )


def test_the_steps_are_shared_out(staged: RunSpec) -> None:
    plan = specs.legs(staged)
    assert [(leg.first, leg.last) for leg in plan] == [(0, 6), (6, 14), (14, 20)]
    assert [leg.spec.keep for leg in plan] == [1.0, 0.25, 0.25]
    assert [leg.spec.training.steps for leg in plan] == [6, 8, 6]


def test_a_given_teacher_makes_the_teaching_stage_needless(staged: RunSpec) -> None:
    given = specs.legs(dataclasses.replace(staged, teacher="run:some"))
    assert [leg.stage.name for leg in given] == ["prune", "tune"]
    assert [(leg.first, leg.last) for leg in given] == [(0, 11), (11, 20)]
    assert given[0].spec.teacher == "run:some"


def test_stages_hand_on_weights_masks_and_teacher(tmp_path: Path, staged: RunSpec) -> None:
    path = folder(tmp_path, "straight", staged)
    train.execute(path, Control())
    assert [(e["name"], e["step"], e["number"], e["of"]) for e in events(path, "stage")] == [
        ("teach", 0, 0, 3),
        ("prune", 6, 1, 3),
        ("tune", 14, 2, 3),
    ]
    losses = events(path, "loss")
    assert [row["step"] for row in losses] == list(range(STEPS + 1))
    assert [set(losses[i]["terms"]) for i in (0, 6, 14)] == [
        {"task"},
        {"task", "distillation"},
        {"task", "hidden"},
    ]
    assert losses[5]["kept"] == 1 and losses[13]["kept"] == pytest.approx(0.25, abs=1e-3)
    assert all(row["kept"] <= losses[13]["kept"] for row in losses[14:])  # what is gone stays gone
    (compute,) = events(path, "compute")
    teacher = 8 * compute["macs_forward"]
    dense = 8 * 3 * compute["macs_forward"]
    assert compute["macs_run"] == 6 * dense + 14 * (dense + teacher)
    assert [e["keep_target"] for e in events(path, "eval")] == [0.25] * len(events(path, "eval"))


def test_a_stage_begins_with_its_teachers_weights_and_masks(tmp_path: Path, staged: RunSpec) -> None:
    path = folder(tmp_path, "stopped", staged)
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=15))
    carry = stages.load(path / "checkpoints", 2)
    setup = train.prepare(staged, path.parent, specs.legs(staged)[2], carry)
    setup.model.eval()
    values = terms.losses(setup, np.arange(8))
    assert values["hidden"] == 0 and values["task"] > 0
    assert all(torch.equal(now, was) for now, was in zip(setup.pruner.masks(), carry.masks, strict=True))
    assert carry.tuned is not None and carry.previous is not None
    same = [torch.equal(carry.tuned[name], carry.previous[name]) for name in carry.tuned]
    assert not all(same)


@pytest.mark.parametrize("stop", [6, 10, 14])
def test_a_resumed_run_ends_where_a_straight_one_does(tmp_path: Path, staged: RunSpec, stop: int) -> None:
    straight, cut = folder(tmp_path, "straight", staged), folder(tmp_path, "cut", staged)
    train.execute(straight, Control())
    with pytest.raises(train.Stopped):
        train.execute(cut, Control(stop_at=stop))
    train.execute(cut, Control())
    assert masks(straight) == masks(cut)
    one, two = (load_file(p / "model" / "model.safetensors") for p in (straight, cut))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_pre_trained_start_has_the_loaded_weights(tmp_path: Path, staged: RunSpec) -> None:
    fresh = dataclasses.replace(staged, stages=(TEACH, dataclasses.replace(PRUNE, start="pre-trained")))
    path = folder(tmp_path, "fresh", fresh)
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=12))
    carry = stages.load(path / "checkpoints", 1)
    setup = train.prepare(fresh, path.parent, specs.legs(fresh)[1], carry)
    assert carry.tuned is not None
    for site, loaded in zip(setup.pruner.sites, setup.start, strict=True):
        assert torch.equal(site.weight, loaded)
        assert not torch.equal(carry.tuned[f"{site.name}.weight"], loaded)


def test_a_stage_file_holds_shared_weights_once(tmp_path: Path, staged: RunSpec) -> None:
    path = folder(tmp_path, "stopped", staged)
    with pytest.raises(train.Stopped):
        train.execute(path, Control(stop_at=8))
    carry = stages.load(path / "checkpoints", 1)  # the teacher is what the first stage has left
    assert carry.previous and carry.tuned
    assert all(carry.previous[n].data_ptr() == v.data_ptr() for n, v in carry.tuned.items())


def test_a_teacher_of_another_size_is_refused_before_its_weights_are_taken(
    tmp_path: Path, staged: RunSpec, tiny_bert: Path
) -> None:
    config = hf.BertConfig.from_pretrained(tiny_bert, hidden_size=32)
    hf.BertModel(config).save_pretrained(tmp_path / "wide")
    shutil.copy(tiny_bert / "tokenizer.json", tmp_path / "wide")
    other = dataclasses.replace(staged, stages=(PRUNE,), teacher=str(tmp_path / "wide"))
    with pytest.raises(SpecError, match=r"in the teacher .*wide; choose a teacher of the same architecture"):
        train.prepare(other, tmp_path)


def test_faults_of_a_later_stage_show_before_the_first_step(tmp_path: Path, staged: RunSpec) -> None:
    blocks = Stage("blocks", settings={"units.type": "Block"})  # 32 x 32 do not divide 16 x 16
    path = folder(tmp_path, "late", dataclasses.replace(staged, stages=(TEACH, PRUNE, blocks)))
    with pytest.raises(SpecError, match="blocks of 32 x 32 do not divide"):
        train.execute(path, Control())
    assert events(path, "loss") == []


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((TUNE,), "is the first and cannot begin with a previous one"),
        ((PRUNE, TUNE), "needs a fine-tuned teacher"),
        ((Stage("a", start="pre-trained"),) * 11, "too few for 11 stages"),
        (
            (TEACH, PRUNE, Stage("brief", 1e-6)),
            "'brief' has a share of 1e-06 of .*, which is none of 20 steps",
        ),
        (
            (TEACH, PRUNE, Stage("odd", settings={"training.batch": 4})),
            "'odd' sets 'training.batch', which holds",
        ),
        ((TEACH, PRUNE, Stage("odd", settings={"score.speed": 4})), "stage 'odd': .*no field 'speed'"),
        ((TEACH, PRUNE, Stage("l0", settings=L0)), "stage 'l0' goes on .* HardConcrete has no mask"),
    ],
)
def test_stages_that_cannot_run_are_refused(staged: RunSpec, chosen: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(staged, stages=chosen)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": "middle"}, "Stage.start is 'middle'; allowed is one of previous"),
        ({"share": 0}, "Stage.share is 0"),
        ({"depth": -1}, "Stage.depth is -1"),
        ({"name": ""}, "Stage.name is ''"),
        ({"plain": "false"}, "Stage.plain is 'false'; allowed is true or false"),
        ({"teaches": 1}, "Stage.teaches is 1; allowed is true or false"),
    ],
)
def test_a_stage_checks_its_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Stage(**{"name": "a", **fields})
