"""The contract of the command line: one JSON document, one sentence for bad input, exit codes 0, 2 and 1."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import recipes, spec
from analysis.store import arrays, events, layout, runs, trash
from tests.conftest import Say

ON_RUNS = "run list limit stop resume delete restore export results overlap demo doctor record runner".split()
ON_RUNS += ["evaluate", "inspect"]
VERBS = [*ON_RUNS, "recipes", "bench", "bundle", "bundle build", "worker"]


def finished(folder: Path, recipe: str, keep: float, mask: np.ndarray) -> str:
    """A finished run of one site, as an engine leaves it."""
    planned = recipes.build(recipe, "bundled:text", "bundled:opinions", keep=keep, name="(b)ä(/b)")
    run_id = runs.create_run(folder, spec.to_dict(planned))
    path = folder / run_id
    sites = [{"site": "a.query", "role": "query", "layer": 0, "rows": 4, "cols": 6, "heads": 2}]
    counts = {"prunable": 24, "encoder": 48, "model": 96}
    about = {"sites": sites, "counts": counts, "metric": "accuracy", "floor": 0.5, "better": "higher"}
    layout.write_json(path / "sites.json", about)
    (path / "masks").mkdir()
    arrays.save_masks(path / "masks" / "000010.npz", {"a.query": mask})
    with events.EventWriter(path / "events.jsonl") as diary:
        for split, value in (("validation", 0.75), ("test", float("nan"))):
            where = {"kind": "eval", "step": 10, "progress": 1.0, "time": 1.0, "split": split, "cut": "final"}
            kept = {"keep_target": keep, "keep_prunable": keep, "keep_encoder": 0.5, "keep_model": 0.75}
            diary.append({**where, **kept, "metric": "accuracy", "value": value, "examples": 8, "floor": 0.5})
    runs.set_state(path, state="done", progress=1.0)
    return run_id


@pytest.fixture
def pair(runs_dir: Path) -> tuple[str, str]:
    """Two finished runs whose masks share 6 of 18 kept weights."""
    one, two = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    one[:2], two[1:3] = True, True
    return finished(runs_dir, "magnitude", 0.5, one), finished(runs_dir, "movement", 0.5, two)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(say: Say, verb: str) -> None:
    status, out, err = say(*verb.split(), "--help")
    assert (status, err) == (0, "")
    assert out.startswith("Usage: python -m analysis")
    if verb not in ("bundle", "runner", "worker"):
        assert "--json" in out
    assert ("--runs-dir" in out) is (verb in ON_RUNS)


def test_no_words_at_all_is_the_help(say: Say) -> None:
    status, out, _ = say("--help")
    assert status == 0
    for verb in {*VERBS} - {"runner", "worker", "bundle build"}:
        assert f"  {verb}" in out
    assert "runner" not in out
    process = subprocess.run(
        [sys.executable, "-m", "analysis"], cwd=layout.ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0
    assert "demo" in process.stdout


def test_list_prints_one_document_with_the_promised_fields(
    say: Say, runs_dir: Path, pair: tuple[str, str]
) -> None:
    status, out, err = say("list", "--json", "--runs-dir", runs_dir)
    rows = json.loads(out)
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    assert [row["run"] for row in rows] == [pair[1], pair[0]]
    assert list(rows[0]) == "run name state reason recipe model task keep seed progress".split()
    last = {
        "name": "(b)ä(/b)",
        "state": "done",
        "recipe": "movement",
        "keep": 0.5,
        "seed": 0,
        "progress": 1.0,
    }
    assert last.items() <= rows[0].items()
    assert (rows[0]["model"], rows[0]["task"]) == ("bundled:text", "bundled:opinions")
    status, out, _ = say("list", "--runs-dir", runs_dir)
    assert status == 0
    assert pair[0] in out
    assert json.loads(say("list", "--json", "--runs-dir", runs_dir / "none")[1]) == []


def test_an_unreadable_run_is_listed_with_null(say: Say, runs_dir: Path, pair: tuple[str, str]) -> None:
    (runs_dir / pair[0] / "spec.json").write_text("{")
    rows = {row["run"]: row for row in json.loads(say("list", "--json", "--runs-dir", runs_dir)[1])}
    assert rows[pair[0]]["state"] == "unreadable"
    assert rows[pair[0]]["keep"] is None
    assert "spec.json" in rows[pair[0]]["reason"]


def test_results_has_one_object_per_evaluated_point(say: Say, runs_dir: Path, pair: tuple[str, str]) -> None:
    status, out, err = say("results", "--own", "--json", "--runs-dir", runs_dir)
    rows = json.loads(out)
    assert (status, err) == (0, "")
    assert len(rows) == 4
    promised = "run recorded recipe model task split metric value seed steps teacher".split()
    promised += ["keep_target", "keep_prunable", "keep_encoder", "keep_model"]
    assert set(promised) <= set(rows[0])
    by = {(row["run"], row["split"]): row for row in rows}
    assert by[pair[0], "validation"]["value"] == 0.75
    assert by[pair[0], "test"]["value"] is None
    assert by[pair[1], "test"]["recorded"] is False
    assert say("results", "--runs-dir", runs_dir)[0] == 0


def test_overlap_counts_what_both_keep(say: Say, runs_dir: Path, pair: tuple[str, str]) -> None:
    status, out, err = say("overlap", *pair, "--json", "--runs-dir", runs_dir)
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert (found["run_a"], found["run_b"]) == pair
    site, overall = found["sites"][0], found["overall"]
    assert site["site"] == "a.query"
    for row in (site, overall):
        assert (row["kept_a"], row["kept_b"]) == (12, 12)
        assert row["jaccard"] == pytest.approx(6 / 18)
        assert row["expected"] == pytest.approx(6 / 18)
    assert say("overlap", *pair, "--runs-dir", runs_dir)[0] == 0


def test_recipes_lists_the_catalogue_with_the_fields_of_every_part(say: Say) -> None:
    status, out, err = say("recipes", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (status, err) == (0, "")
    assert list(rows) == list(recipes.RECIPES)
    assert {"name", "title", "paper", "parts"} <= set(rows["movement"])
    assert rows["movement"]["parts"]["score"]["type"] == "Movement"
    assert "lr" in rows["movement"]["parts"]["score"]
    assert rows["dense"]["parts"]["penalty"] is None
    assert "movement" in say("recipes")[1]


def test_doctor_says_what_is_missing_and_what_that_greys_out(
    say: Say, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PRUNING_LAB_MODELS", "PRUNING_LAB_ONLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PRUNING_LAB_DATA", str(runs_dir))
    monkeypatch.setenv("PATH", str(runs_dir))
    status, out, err = say("doctor", "--json", "--runs-dir", runs_dir)
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["packages"]["torch"]
    assert found["runs"]["writable"] is True
    assert found["runs"]["runs"] == 0
    assert found["online"] is False
    assert found["chromium"] is None
    assert found["folders"]["PRUNING_LAB_DATA"] == str(runs_dir)
    missing = {thing["what"]: thing for thing in found["missing"]}
    assert {"Chromium", "hub access", "$PRUNING_LAB_MODELS"} <= set(missing)
    assert "$PRUNING_LAB_DATA" not in missing
    assert all(
        set(thing) == {"what", "greys_out", "how"} and all(thing.values()) for thing in found["missing"]
    )
    assert "greys out" in say("doctor", "--runs-dir", runs_dir)[1]


def test_the_limit_of_runs_at_a_time_is_chosen_and_said(say: Say, runs_dir: Path) -> None:
    assert say("limit", "3", "--json", "--runs-dir", runs_dir)[1] == '{"limit": 3}\n'
    assert say("limit", "--runs-dir", runs_dir)[1] == "3\n"
    status, _, err = say("limit", "0", "--runs-dir", runs_dir)
    assert (status, err.count("\n")) == (2, 1) and "from 1 to 64" in err


def test_a_teacher_is_added_to_a_spec_file_and_taken_away(
    say: Say, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.store.launch.ensure_runner", lambda folder: None)
    plain, taught = tmp_path / "plain.json", tmp_path / "taught.json"
    made = recipes.build("movement", "bundled:text", "bundled:opinions")
    layout.write_json(plain, spec.to_dict(made))

    def launched(*words: object) -> spec.RunSpec:
        run_id = json.loads(say("run", *words, "--json", "--runs-dir", runs_dir)[1])["run"]
        return spec.from_dict(layout.read_json(runs_dir / run_id / "spec.json"))

    found = launched(plain, "--teacher", "bundled:text", "--set", "distillation.temperature=4")
    assert found.teacher == "bundled:text" and found.parts.distillation.temperature == 4
    assert found.parts.task.weight == 0.1
    layout.write_json(taught, spec.to_dict(found))
    again = launched(taught, "--teacher", "none")
    assert (again.teacher, again.parts) == ("", made.parts)


def test_several_recipes_start_one_run_each(
    say: Say, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.store.launch.ensure_runner", lambda folder: None)

    def started(recipe: str) -> list[spec.RunSpec]:
        words = ("run", "--recipe", recipe, "--keep", "0.3", "--json", "--runs-dir", runs_dir)
        rows = json.loads(say(*words)[1])
        return [spec.from_dict(layout.read_json(runs_dir / row["run"] / "spec.json")) for row in rows]

    assert [(s.recipe, s.keep) for s in started("dense, movement")] == [("dense", 1.0), ("movement", 0.3)]
    assert [s.recipe for s in started("all")] == list(recipes.RECIPES)
    status, _, err = say("run", "--recipe", "movement,mowement", "--runs-dir", runs_dir)
    assert status == 2 and "'mowement'" in err


def test_delete_and_restore_undo_each_other(say: Say, runs_dir: Path, pair: tuple[str, str]) -> None:
    status, out, _ = say("delete", pair[0], "--json", "--runs-dir", runs_dir)
    token = json.loads(out)["token"]
    assert status == 0
    assert [row["run"] for row in json.loads(say("list", "--json", "--runs-dir", runs_dir)[1])] == [pair[1]]
    status, out, _ = say("restore", token, "--json", "--runs-dir", runs_dir)
    assert (status, json.loads(out)) == (0, {"run": pair[0]})
    assert trash.sweep_trash(runs_dir) == 0


BAD: list[tuple[list[str], str]] = [
    (["frobnicate"], "frobnicate"),
    (["run"], "--recipe"),
    (["run", "--recipe", "mowement"], "mowement"),
    (["run", "--recipe", "movement", "--keep", "0"], "keep is 0"),
    (["run", "--recipe", "movement", "--keep", "1.5"], "keep is 1.5"),
    (["run", "--recipe", "movement", "--keep", "nan"], "keep is nan"),
    (["run", "--recipe", "movement", "--keep", "many"], "--keep"),
    (["run", "--recipe", "movement", "--seed", "-1"], "seed is -1"),
    (["run", "--recipe", "movement", "--steps", "0"], "steps"),
    (["run", "--recipe", "movement", "--set", "score.lr"], "PART.FIELD=VALUE"),
    (["run", "--recipe", "movement", "--set", "score.speed=1"], "speed"),
    (["run", "--recipe", "movement", "--set", "score.lr=fast"], "fast"),
    (["run", "--recipe", "movement", "--name", "x" * 300], "300"),
    (["run", "--recipe", "movement", "--name", "<script>"], "name"),
    (["run", "--recipe", "movement", "--wat"], "--wat"),
    (["run", "none.json"], "none.json"),
    (["run", "broken.json"], "no valid JSON"),
    (["run", "newer.json"], "newer version"),
    (["run", "list.json"], "JSON object"),
    (["run", "good.json", "--recipe", "movement"], "a spec file or a recipe"),
    (["stop", "../../etc"], "no run id"),
    (["stop", "movement-000000"], "There is no run"),
    (["resume", "Movement"], "no run id"),
    (["delete", ".."], "no run id"),
    (["restore", "zzz"], "names no deleted run"),
    (["export", "movement-000000", "x"], "There is no run"),
    (["overlap", "a", "b"], "There is no run"),
    (["overlap", "a"], "RUN_B"),
    (["record", "movement-000000"], "There is no run"),
    (["bundle", "build", "nothing"], "nothing"),
]


@pytest.mark.parametrize(("words", "about"), BAD, ids=[" ".join(words)[:50] for words, _ in BAD])
@pytest.mark.parametrize("json_too", [False, True])
def test_bad_input_is_one_sentence_on_stderr_and_exit_status_two(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], about: str, json_too: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    good = spec.to_dict(recipes.build("movement", "bundled:text", "bundled:opinions"))
    files: dict[str, Any] = {"good.json": good, "newer.json": {**good, "schema_version": 99}, "list.json": []}
    for name, value in files.items():
        Path(name).write_text(json.dumps(value))
    Path("broken.json").write_text('{"recipe": ')
    extra = ["--json"] if json_too and words[0] != "frobnicate" else []
    status, out, err = say(*words, *extra)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert about in err
    assert "Traceback" not in err
    assert runs.list_runs(layout.default_runs_dir(), recorded=False) == []


def test_a_run_without_masks_has_no_overlap(say: Say, runs_dir: Path, pair: tuple[str, str]) -> None:
    (runs_dir / pair[0] / "masks" / "000010.npz").unlink()
    status, _, err = say("overlap", *pair, "--runs-dir", runs_dir)
    assert status == 2
    assert "no masks yet" in err


def test_a_run_without_a_model_is_not_exported(
    say: Say, runs_dir: Path, pair: tuple[str, str], tmp_path: Path
) -> None:
    assert say("export", pair[0], tmp_path / "out", "--runs-dir", runs_dir)[0] == 2
    (runs_dir / pair[0] / "model").mkdir()
    (runs_dir / pair[0] / "model" / "config.json").write_text("{}")
    status, out, _ = say("export", pair[0], tmp_path / "out", "--json", "--runs-dir", runs_dir)
    assert (status, json.loads(out)["folder"]) == (0, str(tmp_path / "out"))
    assert (tmp_path / "out" / "config.json").read_text() == "{}"
    status, _, err = say("export", pair[0], tmp_path / "out", "--runs-dir", runs_dir)
    assert status == 2
    assert "exists" in err


def test_reading_verbs_leave_torch_alone(runs_dir: Path, pair: tuple[str, str]) -> None:
    program = f"""
import sys
from analysis.cli import main
where = ["--json", "--runs-dir", {str(runs_dir)!r}]
for words in (["list"], ["results"], ["overlap", *{list(pair)!r}]):
    assert main([*words, *where]) == 0
assert main(["recipes", "--json"]) == 0
print([m for m in ("torch", "transformers", "streamlit", "plotly") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=layout.ROOT, capture_output=True, text=True, check=True
    )
    *documents, heavy = done.stdout.splitlines()
    assert [bool(json.loads(document)) for document in documents] == [True] * 4
    assert heavy == "[]"


def test_a_reader_that_has_seen_enough_is_no_error(runs_dir: Path, pair: tuple[str, str]) -> None:
    words = f"{sys.executable} -m analysis results --runs-dir {runs_dir} | true"
    done = subprocess.run(["bash", "-c", words], cwd=layout.ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_terminal_that_knows_no_unicode_still_gets_an_answer(runs_dir: Path, pair: tuple[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "list", "--json", "--runs-dir", str(runs_dir)], cwd=layout.ROOT,
        capture_output=True, env={"PYTHONIOENCODING": "ascii", "PATH": ""}, check=True,
    )  # fmt: skip
    assert len(json.loads(done.stdout)) == 2
