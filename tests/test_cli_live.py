"""The command line with a real runner and real runs of a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from analysis.bundle import demo
from analysis.store import layout, runs


def say(*words: object, cwd: Path | None = None) -> tuple[int, Any, str]:
    """One command in a process of its own; gives exit status, the JSON document, and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "analysis", *map(str, words), "--json"],
        cwd=cwd or layout.ROOT,
        env={**os.environ, "PYTHONPATH": str(layout.ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def words(tiny: dict[str, str], lab: Path, recipe: str, steps: int = 12) -> list[str]:
    """A `run` command on the tiny model."""
    where = ["--model", tiny["model"], "--task", tiny["task"], "--runs-dir", str(lab)]
    small = ["--steps", str(steps), "--set", "training.batch=8", "--set", "training.evaluations=1"]
    return ["run", "--recipe", recipe, *where, *small]


@pytest.mark.slow
def test_a_run_that_is_waited_for_ends_in_results_and_a_model(
    tiny: dict[str, str], lab: Path, tmp_path: Path
) -> None:
    keep = ["--keep", "0.25", "--seed", "3", "--name", "first try"]
    status, found, err = say(*words(tiny, lab, "magnitude"), *keep, "--wait")
    assert (status, found["state"], found["reason"]) == (0, "done", "")
    assert f"{found['run']}: done" in err
    rows = [row for row in say("results", "--own", "--runs-dir", lab)[1] if row["run"] == found["run"]]
    assert {row["split"] for row in rows} == {"validation", "test"}
    for row in rows:
        assert (row["recipe"], row["seed"], row["steps"], row["keep_target"]) == ("magnitude", 3, 12, 0.25)
        assert row["keep_prunable"] == pytest.approx(0.25, abs=0.01)
        assert row["keep_prunable"] < row["keep_encoder"] <= row["keep_model"] < 1
        assert 0 <= row["value"] <= 1
    listed = {row["run"]: row for row in say("list", "--runs-dir", lab)[1]}
    assert listed[found["run"]]["name"] == "first try"
    assert listed[found["run"]]["progress"] == 1
    status, copied, _ = say("export", found["run"], tmp_path / "model", "--runs-dir", lab)
    assert status == 0
    assert (Path(copied["folder"]) / "model.safetensors").stat().st_size > 1000
    again = say("run", lab / found["run"] / "spec.json", "--wait", "--runs-dir", lab)[1]
    assert again["state"] == "done"
    overlap = say("overlap", found["run"], again["run"], "--runs-dir", lab)[1]
    assert overlap["overall"]["jaccard"] == 1.0
    assert overlap["overall"]["expected"] < 0.5


def test_a_run_that_fails_while_waited_for_is_exit_status_one(
    tiny: dict[str, str], lab: Path, tmp_path: Path
) -> None:
    one_class = tmp_path / "one.jsonl"
    one_class.write_text('{"sentence": "good film", "label": 0}\n' * 40)
    status, found, err = say(*words({**tiny, "task": str(one_class)}, lab, "movement"), "--wait")
    assert (status, found["state"]) == (1, "failed")
    assert "one.jsonl" in found["reason"]
    assert "Traceback" not in err


@pytest.mark.parametrize(("what", "name"), [("task", "nothing.csv"), ("model", "nomodel")])
def test_what_is_missing_is_bad_input_and_starts_no_run(
    tiny: dict[str, str], lab: Path, what: str, name: str
) -> None:
    before = len(runs.list_runs(lab, recorded=False))
    status, found, err = say(*words({**tiny, what: str(lab / name)}, lab, "movement"))
    assert (status, found) == (2, None)
    assert name in err and "Traceback" not in err
    assert len(runs.list_runs(lab, recorded=False)) == before


def test_a_relative_path_is_found_from_where_it_was_typed(
    tiny: dict[str, str], lab: Path, tmp_path: Path
) -> None:
    os.symlink(tiny["model"], tmp_path / "my-model")
    os.symlink(tiny["task"], tmp_path / "my.jsonl")
    here = {"model": "./my-model", "task": "my.jsonl"}
    status, found, _ = say(*words(here, lab, "random", 4), "--wait", cwd=tmp_path)
    assert (status, found["state"], found["reason"]) == (0, "done", "")


@pytest.mark.slow
def test_stop_resume_delete_and_restore(tiny: dict[str, str], lab: Path) -> None:
    status, found, _ = say(*words(tiny, lab, "movement", 4000))
    run_id = found["run"]
    assert (status, list(found)) == (0, ["run"])
    end = time.monotonic() + 60
    while runs.find_run(lab, run_id).step < 1:
        assert time.monotonic() < end
        time.sleep(0.05)
    status, _, err = say("delete", run_id, "--runs-dir", lab)
    assert status == 2
    assert "stop it first" in err
    status, found, _ = say("stop", run_id, "--runs-dir", lab)
    assert (status, found["state"]) == (0, "stopped")
    status, found, _ = say("resume", run_id, "--runs-dir", lab)
    assert (status, found["state"] in ("queued", "running")) == (0, True)
    assert say("stop", run_id, "--runs-dir", lab)[1]["state"] == "stopped"
    token = say("delete", run_id, "--runs-dir", lab)[1]["token"]
    assert say("stop", run_id, "--runs-dir", lab)[0] == 2
    assert say("restore", token, "--runs-dir", lab)[1] == {"run": run_id}
    assert runs.find_run(lab, run_id).state == "stopped"


def test_the_comparison_runs_the_first_pair_first() -> None:
    planned = [(one.recipe, one.keep, one.seed) for one in demo.comparison()]
    assert planned[:2] == [("magnitude", 0.03, 0), ("movement", 0.03, 0)]
    assert planned[-1] == ("dense", 1.0, 0)
    assert len(planned) == len(set(planned)) == 9
    pair = demo.comparison()[:2]
    assert pair[0].parts.optimizer == pair[1].parts.optimizer
    assert pair[0].training == pair[1].training


@pytest.mark.slow
def test_the_comparison_measures_what_it_ran(lab: Path) -> None:
    found = demo.demo(lab, keeps=(0.03,))
    assert found["failed"] == []
    assert [(row["recipe"], row["keep"], row["seed"]) for row in found["points"]] == [
        ("magnitude", 0.03, 0),
        ("movement", 0.03, 0),
    ]
    assert 0 < found["seconds_first_pair"] <= found["seconds"] <= found["seconds_with_dense"]
    assert found["task"] == "bundled:opinions"
    assert found["floor"] == pytest.approx(0.5, abs=0.05)
    assert found["floor"] < found["bag_of_words"] < found["dense"][0]["value"] - 0.1
    assert all(abs(row["keep_prunable"] - 0.03) < 0.001 for row in found["points"])
