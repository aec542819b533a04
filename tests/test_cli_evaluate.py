"""The verb `evaluate`: one document, exit 2 and one sentence for bad input, nothing measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analysis import recipes, spec
from analysis.engine import latency, probe
from analysis.spec import ProbeSpec, TaskSpec
from analysis.spec.probe import probe_to_dict
from analysis.store import jobs, layout, runs
from tests.conftest import Say

BUNDLED = ("bundled:text", "--data", "bundled:opinions")


def test_what_is_measured_is_answered_at_once_as_one_document(
    say: Say, tiny: dict[str, str], runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    wanted = ProbeSpec(tiny["model"], TaskSpec(tiny["task"]), (0.5,), rows=16)
    out = probe.folder_of(wanted, runs_dir)
    out.mkdir(parents=True)
    layout.write_json(out / probe.REQUEST, {**probe_to_dict(wanted), "runs": str(runs_dir)})
    probe.work(out)
    words = ("evaluate", tiny["model"], "--data", tiny["task"], "--keeps", "0.5", "--rows", 16)
    status, text, err = say(*words, "--json", "--runs-dir", runs_dir)
    found: dict[str, Any] = json.loads(text)
    assert (status, err) == (0, "") and text.count("\n") == 1
    assert found["metric"] == "accuracy" and found["floor"] >= 0.5 and found["folder"] == str(out)
    assert [(p["keep"], p["state"]) for p in found["points"]] == [
        *((1, "estimated"), (1, "verified"), (0.5, "estimated"), (0.5, "verified"))
    ]
    assert [row["variant"] for row in found["latency"]] == ["dense", "masked", "CSR", "reduced"]
    assert found["latency"][2]["seconds"] is None and "CSR is tried from" in found["latency"][2]["reason"]
    status, text, _ = say(*words, "--runs-dir", runs_dir)
    assert status == 0 and found["sentences"][0] in text and "As opened, accuracy is" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/nowhere/at/all"], "What /nowhere/at/all is measured on is not said; give --data"),
        (["/nowhere/at/all", "--data", "bundled:opinions"], "does not exist on this machine"),
        (["run:none-000000"], "There is no run"),
        (["bundled:digits", "--data", "bundled:opinions"], "the model has no tokenizer"),
        ([*BUNDLED, "--keeps", "0"], "allowed are numbers in (0, 1]"),
        ([*BUNDLED, "--keeps", "a lot"], "numbers between commas"),
        ([*BUNDLED, "--by", "luck"], "one of 'magnitude', 'scores'"),
        ([*BUNDLED, "--set", "score.lr=1"], "only columns and limits"),
        (
            [*BUNDLED, "--set", "task.text=nope"],
            "Column 'nope' is not in",
        ),
        ([*BUNDLED, "--set", "task.size=1"], "has no field 'size'"),
    ],
)
def test_bad_input_is_one_sentence_and_two(words: list[str], sentence: str, say: Say, runs_dir: Path) -> None:
    status, out, err = say("evaluate", *words, "--runs-dir", runs_dir)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


def test_a_failure_found_in_the_process_is_told_too(
    say: Say, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(out: Path, module: str, *arguments: str) -> None:
        """Does the work in this process: that of its own would load torch once more."""
        assert (module, arguments) == ("analysis.engine.probe", (str(out),))
        assert probe.main(list(arguments)) == 2

    monkeypatch.setattr(jobs, "begin", here)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the process sets for itself; put back after the test
    status, out, err = say("evaluate", *BUNDLED, "--runs-dir", runs_dir)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("bundled:text has no trained head for classification")


def test_a_run_is_measured_on_its_own_task_unless_told_otherwise(
    runs_dir: Path, tiny: dict[str, str]
) -> None:
    from analysis.cli.evaluate import _task

    task = TaskSpec(tiny["task"], max_length=17)
    run_id = runs.create_run(runs_dir, spec.to_dict(recipes.build("dense", tiny["model"], task)))
    assert _task(f"run:{run_id}", "", [], runs_dir) == task
    assert _task(f"run:{run_id}", tiny["task"], ["task.eval_rows=9"], runs_dir) == task.replace(eval_rows=9)
    assert _task(f"run:{run_id}", "bundled:opinions", [], runs_dir) == TaskSpec("bundled:opinions")
