"""What buttons do: launch exactly once, stop, delete, undo, clone; and what the command line beside them
says.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import recipes, spec
from analysis.bundle import demo
from analysis.parts.lookahead import Extrapolation
from analysis.store import launch
from analysis.store.runs import list_runs, read_run
from analysis.ui import plans, preview
from tests.pages import made
from tests.pages.conftest import Opener, words


def button(page: AppTest, key: str) -> object:
    return next(b for b in page.button if b.key == key)


def test_one_press_starts_each_chosen_run_exactly_once(
    runs: Path, no_runner: None, open_page: Opener
) -> None:
    page = open_page(
        "launch", recipes=["movement", "dense"], keeps="0.1, 0.03", seeds="0, 1", name="tea & *milk*"
    )
    assert any("Runs" in m.label and m.value == "6" for m in page.metric)  # dense has one keep
    button(page, "launch").click().run()
    found = list_runs(runs, recorded=False)
    assert len(found) == 6 and {run.state for run in found} == {"queued"}
    assert {(run.recipe, run.keep, run.seed) for run in found} == {
        *(("movement", keep, seed) for keep in (0.1, 0.03) for seed in (0, 1)),
        *(("dense", 1.0, seed) for seed in (0, 1)),
    }
    assert all(run.name == "tea & *milk*" for run in found)
    page.run()
    assert len(list_runs(runs, recorded=False)) == 6, "drawing the page again starts nothing"


def test_the_start_button_starts_the_comparison(runs: Path, no_runner: None, open_page: Opener) -> None:
    page = open_page("start", further="False")
    next(b for b in page.button if "magnitude against movement" in b.label).click().run()
    assert not page.exception and not page.error
    found = list_runs(runs, recorded=False)
    assert {(run.recipe, run.keep) for run in found} == {(name, demo.KEEPS[0]) for name in demo.RECIPES}
    assert sorted(page.query_params["pair"]) == sorted(run.id for run in found)
    assert "queued" in " ".join(str(p.proto.text) for p in page.get("progress"))


def test_a_knob_in_the_form_reaches_the_spec(runs: Path, no_runner: None, open_page: Opener) -> None:
    page = open_page(
        "launch", recipes="movement", keeps="0.1", **{"movement:score.lr": "0.02", "training.steps": "50"}
    )
    page.text_input(key="data.text").set_value("text").run()
    page.selectbox(key="movement:schedule.type").set_value("OneShot").run()
    button(page, "launch").click().run()
    (run,) = list_runs(runs, recorded=False)
    made_spec = spec.from_dict(run.spec)
    assert made_spec.parts.score.lr == 0.02
    assert made_spec.training.steps == 50
    assert made_spec.task.text == "text"
    assert type(made_spec.parts.schedule).__name__ == "OneShot"


def test_a_look_ahead_is_chosen_in_the_form_and_survives_the_command_line(
    runs: Path, no_runner: None, open_page: Opener
) -> None:
    page = open_page("launch", recipes="movement", keeps="0.1")
    page.selectbox(key="movement:lookahead.type").set_value("Extrapolation").run()
    page.selectbox(key="movement:lookahead.source").set_value("local").run()
    button(page, "launch").click().run()
    (run,) = list_runs(runs, recorded=False)
    ahead = spec.from_dict(run.spec)
    assert ahead.parts.lookahead == Extrapolation(source="local")
    assert plans.changes(ahead)["lookahead.type"] == "Extrapolation"
    bare = recipes.build("extrapolation", "m", "t", settings={"lookahead.type": "none"})
    assert plans.changes(bare) == {"lookahead.type": "none"}
    assert recipes.build("extrapolation", "m", "t", settings=plans.changes(bare)).parts == bare.parts


def test_a_variant_of_the_stages_is_chosen_in_the_form(
    runs: Path, no_runner: None, open_page: Opener
) -> None:
    page = open_page("launch", recipes="block_movement", keeps="0.1")
    page.selectbox(key="block_movement:stages.variant").set_value("filled").run()
    page.number_input(key="block_movement:distillation.temperature").set_value(3.0).run()
    button(page, "launch").click().run()
    (run,) = list_runs(runs, recorded=False)
    filled = spec.from_dict(run.spec)
    assert [stage.name for stage in filled.stages] == ["teach", "prune", "fill"]
    assert filled.parts.distillation.temperature == 3.0
    assert plans.changes(filled)["stages.variant"] == "filled"


def test_stop_delete_and_undo(runs: Path, no_runner: None, open_page: Opener) -> None:
    made.make_condition(runs, "queued")
    page = open_page("monitor", own="queued-1")
    button(page, "stop-queued-1").click().run()
    assert read_run(runs / "queued-1").state == "stopped"
    button(page, "delete-queued-1").click().run()
    assert not (runs / "queued-1").exists()
    assert "was deleted" in words(page)
    button(page, "undo").click().run()
    assert read_run(runs / "queued-1").state == "stopped"
    assert not page.exception and not page.error


def test_a_button_that_comes_too_late_says_so(study: Path, no_runner: None, open_page: Opener) -> None:
    page = open_page("monitor", own="movement-03-10-0")
    stop = button(page, "delete-movement-03-10-0")
    (study / "movement-03-10-0").rename(study / "elsewhere")
    stop.click().run()
    assert not page.exception
    assert any("There is no run" in e.value.replace("\\", "") for e in page.error)


def test_the_number_of_runs_at_a_time_is_chosen_on_the_monitor(runs: Path, open_page: Opener) -> None:
    page = open_page("monitor")
    page.number_input(key="at-once").set_value(5).run()
    assert not page.exception and launch.queue_limit(runs) == 5
    assert open_page("monitor").number_input(key="at-once").value == 5


def test_one_press_stops_everything_that_works_or_waits(
    runs: Path, no_runner: None, open_page: Opener
) -> None:
    for number in range(3):
        made.make_run(runs, f"queued-{number}", state="queued")
    page = open_page("monitor")
    button(page, "stop-all").click().run()
    assert not page.exception
    assert {run.state for run in list_runs(runs, recorded=False)} == {"stopped"}
    assert open_page("monitor").button(key="stop-all").disabled


def test_resume_puts_a_failed_run_back_in_the_line(runs: Path, no_runner: None, open_page: Opener) -> None:
    made.make_condition(runs, "failed")
    page = open_page("monitor", own="failed-1")
    assert "There is no file <b>x</b>.csv." in words(page).replace("\\", "")
    button(page, "resume-failed-1").click().run()
    assert read_run(runs / "failed-1").state == "queued"


@pytest.mark.parametrize("recipe", list(recipes.RECIPES))
def test_the_command_line_and_the_address_make_the_same_spec(recipe: str) -> None:
    settings = {
        "optimizer.lr": 0.004,
        "training.batch": 8,
        "data.text": "a b",
        "optimizer.clip_scores": False,
    }
    keep = 1.0 if recipe == "dense" else 0.2
    wanted = recipes.build(
        recipe,
        "bundled:text",
        "bundled:opinions",
        keep=keep,
        seed=3,
        steps=77,
        settings=settings,
        name="it's",
    )
    words_ = shlex.split(plans.command(wanted))
    options = dict(zip(words_[4::2], words_[5::2], strict=True))
    pairs = [words_[i + 1].split("=", 1) for i, word in enumerate(words_) if word == "--set"]
    again = recipes.build(
        options["--recipe"],
        options["--model"],
        options["--task"],
        keep=float(options["--keep"]),
        seed=int(options["--seed"]),
        steps=int(options["--steps"]),
        name=options["--name"],
        settings=dict(pairs),
    )
    assert again == wanted
    params = plans.address(spec.to_dict(wanted))
    assert params["recipes"] == recipe and params["keeps"] == f"{keep:g}" and params["training.steps"] == "77"
    assert params[f"{recipe}:optimizer.lr"] == "0.004"


def test_clone_and_edit_opens_the_form_with_everything_filled_in(
    runs: Path, no_runner: None, open_page: Opener
) -> None:
    path = made.make_run(
        runs, "first-1", recipe="soft_movement", keep=0.2, seed=4, lr=0.0007, name="to be cloned"
    )
    before = spec.from_dict(read_run(path).spec)
    page = open_page("launch", **plans.address(spec.to_dict(before)))
    assert not page.exception and not page.error
    button(page, "launch").click().run()
    (copy,) = [run for run in list_runs(runs, recorded=False) if run.id != "first-1"]
    assert spec.fingerprint(spec.from_dict(copy.spec)) == spec.fingerprint(before)
    assert copy.name == "to be cloned"


def test_the_cost_is_taken_from_finished_runs_of_the_same_model(study: Path) -> None:
    wanted = plans.specs(plans.Choices("bundled:text", "bundled:opinions", ["movement"], [0.1], [0]))
    known = list_runs(study, recorded=False)
    cost = preview.estimate(wanted, known, study)
    work = wanted[0].training.steps * wanted[0].training.batch
    assert cost.minutes == pytest.approx(12.5 / (100 * 32) * work / 60)  # what every run of the study took
    assert cost.source == f"{len(known)} finished runs here"
    recorded = [dataclasses.replace(info, recorded=True, seconds=9.0 * info.seconds) for info in known]
    assert preview.estimate(wanted, [*recorded, *known], study).minutes == cost.minutes
    assert "of another machine" in preview.estimate(wanted, recorded, study).source
    assert "assumed" in preview.estimate(wanted, [], study).source


@pytest.mark.parametrize(
    ("recipe", "settings", "teacher", "plain"),
    [
        ("movement", {}, "", 400),
        ("movement", {"lookahead.type": "Extrapolation", "lookahead.source": "past"}, "", 400),
        ("movement", {"lookahead.type": "Extrapolation", "lookahead.source": "local"}, "", 800),
        ("movement", {}, "run:dense", 400 * 4 / 3),
        ("pins", {}, "", 400 * 4 / 3),  # taught by its own student
        ("block_movement", {"stages.variant": "filled"}, "", 75 + 325 * 4 / 3),
        ("block_movement", {"stages.variant": "filled"}, "run:dense", 400 * 4 / 3),
    ],
)
def test_second_gradients_teachers_and_stages_take_their_time(
    recipe: str, settings: dict[str, str], teacher: str, plain: float, study: Path
) -> None:
    task = "bundled:opinions"
    wanted = recipes.build(recipe, "bundled:text", task, settings=settings, teacher=teacher)
    assert preview.work(wanted) == pytest.approx(plain)
    known = list_runs(study, recorded=False)
    base = preview.estimate([recipes.build("movement", "bundled:text", task)], known, study)
    cost = preview.estimate([wanted], known, study)
    assert cost.minutes == pytest.approx(base.minutes * plain / 400)
    # a run that took twice as long because it did twice as much does not make the machine slower
    same = [dataclasses.replace(known[0], spec=spec.to_dict(wanted), seconds=3.0 * plain)]
    assert preview.estimate([wanted], same, study).minutes == pytest.approx(3.0 * plain / 60)


def test_a_schedule_is_drawn_from_its_parts() -> None:
    (wanted,) = plans.specs(plans.Choices("bundled:text", "bundled:opinions", ["movement"], [0.1], [0]))
    frame = preview.schedule(wanted)
    keep = frame[frame["curve"] == "keep"]["value"]
    assert keep.iloc[0] == 1.0 and keep.iloc[-1] == 0.1 and keep.is_monotonic_decreasing
