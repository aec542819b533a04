"""A probe: what it measures is what the engine would, it stops and goes on, and it refuses in sentences."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import frames
from analysis.engine import latency, models, probe, probing
from analysis.engine.data import load_task
from analysis.engine.evaluate import evaluate
from analysis.errors import DataError, LabError, ModelError, SpecError
from analysis.spec import ProbeSpec, TaskSpec
from analysis.spec.probe import numbers, probe_from_dict, probe_to_dict
from analysis.store import jobs, layout

ROWS = 16  # of a quick look; the tiny task has 40 rows of test


def asked(tiny: dict[str, str], **more: Any) -> ProbeSpec:
    """A wish on the tiny model and its task."""
    return ProbeSpec(**{"model": tiny["model"], "task": TaskSpec(tiny["task"]), "rows": ROWS} | more)


def at_work(spec: ProbeSpec, runs: Path) -> Path:
    """The folder of a wish, as ``begin`` leaves it before the process starts."""
    out = probe.folder_of(spec, runs)
    out.mkdir(parents=True, exist_ok=True)
    layout.write_json(out / probe.REQUEST, {**probe_to_dict(spec), "runs": str(runs)})
    return out


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times every form twice, which is enough to see that it is timed."""
    monkeypatch.setattr(latency, "ROUNDS", 2)


def test_every_number_is_what_the_engine_measures(
    tiny: dict[str, str], runs_dir: Path, few_rounds: None
) -> None:
    spec = asked(tiny, keeps=(0.5, 0.05))
    out = at_work(spec, runs_dir)
    assert probe.missing(out, spec) == 4
    probe.work(out)
    assert jobs.read(out).state == "done" and probe.missing(out, spec) == 0
    tokenizer = models.load_tokenizer(tiny["model"])
    data = load_task(spec.task, tokenizer)
    few = load_task(dataclasses.replace(spec.task, eval_rows=ROWS), tokenizer).test
    assert len(few) == ROWS < len(data.test) == 40 and set(few.rows) < set(data.test.rows)
    model = models.load_model(tiny["model"], data, 0)
    points = frames.probe_points(out).set_index(["keep", "state"])
    for state, split in (("estimated", few), ("verified", data.test)):
        row = points.loc[(1.0, state)]
        value = evaluate(model, split, data).value
        assert row["value"] == value and row["rows"] == len(split) and row["by"] == ""
        share = (len(split) * value + 1) / (len(split) + 2)
        assert row["error"] == pytest.approx(np.sqrt(share * (1 - share) / len(split)))
    masked = models.load_model(tiny["model"], data, 0)
    cut = probing.OneShot(masked)
    cut.cut(0.5, "global")
    assert points.loc[(0.5, "verified"), "value"] == evaluate(masked, data.test, data).value
    assert points.loc[(0.5, "verified"), "sparsity"] == cut.zeros / cut.counts.prunable == 0.5
    about = frames.probe_about(out)
    assert (about["metric"], about["floor"], about["rows"], about["few"]) == (
        "accuracy",
        data.floor,
        40,
        ROWS,
    )


def test_forms_are_timed_in_one_run_and_compute_the_same(
    tiny: dict[str, str], runs_dir: Path, few_rounds: None
) -> None:
    out = at_work(asked(tiny, keeps=(0.02,), scope="local"), runs_dir)
    probe.work(out)
    times = frames.probe_latency(out).set_index("variant")
    assert list(times.index) == ["dense", "masked", "CSR", "reduced"]
    assert (times["seconds"] > 0).all() and (times["low"] <= times["high"]).all()
    assert times.loc["dense", "ratio"] == 1 and set(times["rounds"]) == {2} and set(times["keep"]) == {0.02}
    assert (times.loc[["CSR", "reduced"], "difference"] < 1e-5).all()
    assert times.loc["CSR", "parameters"] < times.loc["dense", "parameters"]
    assert times.loc["reduced", "parameters"] < times.loc["masked", "parameters"]
    assert torch.__version__.partition("+")[0] in times.loc["dense", "kernel"]
    assert times.loc["CSR", "kernel"].startswith("CSR float32")


def test_a_form_that_does_not_exist_says_why(tiny: dict[str, str], runs_dir: Path, few_rounds: None) -> None:
    out = at_work(asked(tiny, keeps=(0.9,)), runs_dir)
    probe.work(out)
    reasons = frames.probe_latency(out).set_index("variant")["reason"]
    assert reasons["CSR"] == "10 % of the prunable weights are zero, and CSR is tried from 90 % on."
    assert reasons["reduced"].startswith("no whole head, neuron or filter is empty after the cut")
    assert any(s.startswith("CSR: not timed; 10 %") for s in frames.probe_speed(out))


class Hasty(jobs.Job):
    """Asks itself to stop after some rows, and looks at every call whether to."""

    after = 3 * ROWS + 40

    def tell(self, done: float, total: float) -> None:
        if done >= self.after:
            jobs.cancel(self.folder)
        self.told = 0.0
        super().tell(done, total)


def test_stopped_work_keeps_its_points_and_goes_on_from_there(
    tiny: dict[str, str], runs_dir: Path, few_rounds: None
) -> None:
    spec = asked(tiny, keeps=(0.5, 0.1), batch=8)
    out = at_work(spec, runs_dir)
    with Hasty(out, "rows") as job:
        probing.work(out, spec, runs_dir, job)
    assert jobs.read(out).state == "cancelled"
    before = frames.probe_points(out)
    assert sorted(before["state"]) == ["estimated"] * 3, "it stopped in the middle of the first verification"
    assert probe.missing(out, spec) == 4 and frames.probe_latency(out).empty
    probe.work(out)
    after = frames.probe_points(out)
    assert jobs.read(out).state == "done" and len(after) == 6
    again = after[after["state"] == "estimated"].reset_index(drop=True)
    assert again.equals(before[before["state"] == "estimated"].reset_index(drop=True)), "measured once"


def test_other_cuts_are_added_and_nothing_is_measured_twice(
    tiny: dict[str, str], runs_dir: Path, few_rounds: None
) -> None:
    first, more = asked(tiny, keeps=(0.5,)), asked(tiny, keeps=(0.5, 0.2), scope="local")
    out = at_work(first, runs_dir)
    probe.work(out)
    assert at_work(more, runs_dir) == out and probe.missing(out, more) == 3
    probe.work(out)
    points = frames.probe_points(out)
    assert list(points["scope"]) == ["", "", "global", "global", "local", "local", "local", "local"]
    assert not points.duplicated(["keep", "by", "scope", "state"]).any()
    assert probe.begin(more, runs_dir) == out and jobs.read(out).done == jobs.read(out).total


def test_another_file_is_another_folder(tiny: dict[str, str], runs_dir: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(tiny["model"], copied)
    spec = asked(tiny, model=str(copied))
    before = probe.folder_of(spec, runs_dir)
    assert before == probe.folder_of(dataclasses.replace(spec, keeps=(0.3,), by="scores"), runs_dir)
    (copied / "config.json").write_text((copied / "config.json").read_text() + " ")
    assert probe.folder_of(spec, runs_dir) != before


def test_stored_scores_rank_the_cut(
    tiny: dict[str, str], runs_dir: Path, tmp_path: Path, few_rounds: None
) -> None:
    copied = tmp_path / "model"
    shutil.copytree(tiny["model"], copied)
    tensors = load_file(copied / "model.safetensors")
    sites = [k for k in tensors if ".layer." in k and k.endswith("weight") and tensors[k].ndim == 2]
    scored = {k.replace("weight", "mask_scores"): tensors[k].abs() for k in sites}
    save_file(tensors | scored, copied / "model.safetensors", {"format": "pt"})
    values = {}
    for by in ("scores", "magnitude"):
        out = at_work(asked(tiny, model=str(copied), keeps=(0.4,), by=by), runs_dir)
        probe.work(out)
        found = frames.probe_points(out)
        values[by] = found[(found["by"] == by) & (found["state"] == "verified")]["value"].tolist()
    assert values["scores"] == values["magnitude"] and len(values["scores"]) == 1


def late(spec: ProbeSpec, runs: Path) -> str:
    """The sentence with which the process ends, which is also the reason in its note."""
    out = at_work(spec, runs)
    with pytest.raises(LabError) as error:
        probe.work(out)
    note = jobs.read(out)
    assert (note.state, note.reason) == ("failed", str(error.value)) and "\n" not in note.reason
    return note.reason


def test_what_has_no_worth_to_measure_is_refused(
    tiny: dict[str, str], runs_dir: Path, tmp_path: Path
) -> None:
    bundled = ProbeSpec("bundled:text", TaskSpec())
    assert "has no trained head for classification (it was saved as BertModel)" in late(bundled, runs_dir)
    assert "classifier.bias and classifier.weight" in late(bundled, runs_dir)
    three = tmp_path / "three.jsonl"
    rows = [{"text": "good film", "label": i % 3} for i in range(60)]
    three.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = late(asked(tiny, task=TaskSpec(str(three))), runs_dir)
    assert "trained for other labels: classifier" in said and "with 3 labels" in said
    assert "stores no scores" in late(asked(tiny, by="scores"), runs_dir)
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny["model"], damaged)
    (damaged / "model.safetensors").write_bytes(b"\0" * 64)
    assert "cannot be loaded" in late(asked(tiny, model=str(damaged)), runs_dir)


def test_labels_under_other_numbers_are_refused(tiny: dict[str, str], runs_dir: Path, tmp_path: Path) -> None:
    copied, named = tmp_path / "model", tmp_path / "named.jsonl"
    shutil.copytree(tiny["model"], copied)
    rows = [{"text": "good film", "label": ("bad", "good")[i % 2]} for i in range(60)]
    named.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = json.loads((copied / "config.json").read_text())
    for names, fits in ((["Bad", "Good"], True), (["good", "bad"], False)):
        config["id2label"] = dict(enumerate(names))
        (copied / "config.json").write_text(json.dumps(config))
        spec = asked(tiny, model=str(copied), task=TaskSpec(str(named)))
        if fits:
            assert probing.prepare(spec, runs_dir).data.label_names == ["bad", "good"]
        else:
            assert "its label 0 is 'good', the data's is 'bad'" in late(spec, runs_dir)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"model": "/nowhere/at/all"}, ModelError, "does not exist on this machine"),
        ({"model": "bundled:digits"}, ModelError, "is text but the model has no tokenizer"),
        ({"task": TaskSpec("bundled:digits")}, ModelError, "holds pictures but the model reads text"),
        ({"task": TaskSpec("/nowhere/at/all.tsv")}, DataError, "does not exist on this machine"),
    ],
)
def test_what_does_not_go_together_is_refused_at_the_press(
    change: dict[str, Any], kind: type[LabError], sentence: str, tiny: dict[str, str], runs_dir: Path
) -> None:
    with pytest.raises(kind, match=sentence):
        probe.begin(asked(tiny, **change), runs_dir)
    assert not (runs_dir / probe.FOLDER).exists()


def test_data_without_labels_is_refused_at_the_press(
    tiny: dict[str, str], runs_dir: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"text": "good film"}\n' * 60)
    with pytest.raises(DataError, match="has no column named label"):
        probe.begin(asked(tiny, task=TaskSpec(str(bare))), runs_dir)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"keeps": (0.5, 0.0)}, r"keeps is 0.0; allowed are numbers in \(0, 1\]"),
        ({"keeps": (True,)}, "keeps is True"),
        ({"by": "luck"}, "by is 'luck'; allowed is one of 'magnitude', 'scores'"),
        ({"rows": 0}, r"rows is 0; allowed is a whole number in \[1"),
        ({"model": " "}, "The model is ' '"),
    ],
)
def test_a_wish_says_which_value_is_not_allowed(
    change: dict[str, Any], sentence: str, tiny: dict[str, str]
) -> None:
    with pytest.raises(SpecError, match=sentence):
        asked(tiny, **change)


def test_a_wish_survives_json_and_always_has_dense(tiny: dict[str, str], tmp_path: Path) -> None:
    spec = asked(tiny, keeps=(0.1, 0.5, 0.5))
    assert spec.keeps == (1.0, 0.5, 0.1)
    assert probe_from_dict(json.loads(json.dumps(probe_to_dict(spec)))) == spec
    assert numbers("1, .5 0.3") == (1, 0.5, 0.3)
    for text in ("a lot", "nan", "0.5;0.1"):
        with pytest.raises(SpecError, match="The keeps are"):
            numbers(text)
    for broken in ("{", "[]", '{"model": "x"}', '{"model": "x", "runs": "y"}'):
        (tmp_path / probe.REQUEST).write_text(broken)
        with pytest.raises(LabError, match="start the measurement again"):
            probe.request(tmp_path)


@pytest.mark.slow
def test_a_real_model_without_a_head_is_refused(models_dir: Path, data_dir: Path, runs_dir: Path) -> None:
    spec = ProbeSpec(str(models_dir / "all-MiniLM-L6-v2"), TaskSpec(str(data_dir / "sst2")))
    said = late(spec, runs_dir)
    assert "no trained head for classification (it was saved as BertModel)" in said
    assert "run the recipe dense" in said


@pytest.mark.slow
def test_a_language_model_has_no_head_for_a_task(
    checkpoints_dir: Path, data_dir: Path, runs_dir: Path
) -> None:
    spec = ProbeSpec(str(checkpoints_dir / "stories260K"), TaskSpec(str(data_dir / "sst2")))
    assert "(it was saved as LlamaForCausalLM): its file lacks score.weight" in late(spec, runs_dir)


@pytest.mark.slow
def test_the_process_does_the_same_and_can_be_waited_for(tiny: dict[str, str], runs_dir: Path) -> None:
    spec = asked(tiny, keeps=(0.5,))
    out = probe.begin(spec, runs_dir)
    assert jobs.wait(out).state == "done", (out / jobs.LOG).read_text()[-2000:]
    assert len(frames.probe_points(out)) == 4 and len(frames.probe_latency(out)) == 4
