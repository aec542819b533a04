"""The page that measures an opened model: with nothing chosen, at work, done, failed, stopped."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from analysis.engine import latency, probe
from analysis.spec import ProbeSpec, TaskSpec
from analysis.spec.probe import probe_to_dict
from analysis.store import jobs, layout
from analysis.store.locks import RunLock
from analysis.store.runs import list_runs
from analysis.ui import probe as ui
from tests.pages import made
from tests.pages.conftest import Opener, figures, words

CUTS = {"eval.keeps": ["0.5", "0.1"], "eval.rows": "16"}


@pytest.fixture
def allowed(tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The tiny model and its task, below the folders that a visitor may have opened."""
    folder = str(Path(tiny["task"]).parent)
    monkeypatch.setenv("PRUNING_LAB_MODELS", folder)
    monkeypatch.setenv("PRUNING_LAB_DATA", folder)
    return tiny


def wish(tiny: dict[str, str]) -> ProbeSpec:
    """What the page asks for at the address used here."""
    return ProbeSpec(tiny["model"], TaskSpec(tiny["task"]), (0.5, 0.1), rows=16)


def asked(tiny: dict[str, str], runs: Path) -> Path:
    """The folder of that wish, as a press leaves it."""
    spec = wish(tiny)
    out = probe.folder_of(spec, runs)
    out.mkdir(parents=True)
    layout.write_json(out / probe.REQUEST, {**probe_to_dict(spec), "runs": str(runs)})
    return out


def opened(open_page: Opener, tiny: dict[str, str], **more: Any) -> AppTest:
    page = open_page("evaluate", **{"eval.model": tiny["model"], "eval.on": tiny["task"]} | CUTS | more)
    assert not page.exception
    return page


def said(page: AppTest) -> str:
    return words(page).replace("\\", "")


def noted(out: Path, state: str, reason: str = "", done: float = 30.0) -> None:
    note = jobs.Note(state, done, 100.0, "rows", 10.0, reason)
    layout.write_json(out / jobs.NOTE, note.__dict__)


def test_without_a_model_one_press_makes_one(runs: Path, no_runner: None, open_page: Opener) -> None:
    page = open_page("evaluate")
    assert not page.exception and not page.error and not figures(page)
    assert "A model is needed whose head was trained on a task" in said(page)
    page.button(key="eval-example").click().run()
    assert not page.exception
    (run,) = list_runs(runs, recorded=False)
    assert (run.recipe, run.model, run.state) == ("dense", "bundled:text", "queued")
    assert page.button(key="eval-example").disabled


def test_before_the_press_there_is_an_empty_figure_and_the_command(
    runs: Path, allowed: dict[str, str], open_page: Opener
) -> None:
    page = opened(open_page, allowed)
    (figure,) = figures(page)
    assert not figure["data"] and "press the button above" in figure["layout"]["annotations"][0]["text"]
    button = page.button(key="measure")
    assert button.label == "Measure" and not button.disabled and not page.error
    assert page.code[0].value == ui.command(wish(allowed))
    assert not (runs / probe.FOLDER).exists(), "looking writes nothing"


def test_a_run_is_offered_first_and_brings_its_own_task(
    runs: Path, allowed: dict[str, str], open_page: Opener
) -> None:
    path = made.make_run(runs, "dense-1", recipe="dense", keep=1.0)
    shutil.copytree(allowed["model"], path / "model")
    page = open_page("evaluate")
    assert not page.exception and not page.error
    assert page.selectbox(key="eval.model").value == "run:dense-1"
    assert page.query_params["eval.model"] in ("run:dense-1", ["run:dense-1"]), "a copied link names the run"
    assert page.selectbox(key="eval.on").value == "bundled:opinions"
    page.selectbox(key="eval.on").set_value("task.jsonl").run()
    assert page.query_params["eval.on"] in ("task.jsonl", ["task.jsonl"])
    page.selectbox(key="eval.model").set_value(allowed["model"]).run()
    page.selectbox(key="eval.on").set_value("bundled:digits").run()
    page.selectbox(key="eval.model").set_value("run:dense-1").run()
    assert page.selectbox(key="eval.on").value == "bundled:opinions", "the task follows the model"
    assert "eval.on" not in page.query_params and not page.exception


def test_the_command_line_makes_the_same_wish(allowed: dict[str, str], runs: Path) -> None:
    from analysis.cli.evaluate import _task

    task = TaskSpec(allowed["task"], text="a b", eval_rows=7)
    spec = ProbeSpec(allowed["model"], task, (0.5, 0.03), by="scores", scope="local", rows=99)
    words_ = shlex.split(ui.command(spec))
    options = dict(zip(words_[5::2], words_[6::2], strict=True))
    pairs = [words_[i + 1] for i, word in enumerate(words_) if word == "--set"]
    again = ProbeSpec(
        words_[4],
        _task(words_[4], options["--data"], pairs, runs),
        tuple(map(float, options["--keeps"].split(","))),
        options["--by"],
        options["--scope"],
        int(options["--rows"]),
    )
    assert again == spec


def test_at_work_there_is_a_bar_and_a_way_to_stop(
    runs: Path, allowed: dict[str, str], open_page: Opener
) -> None:
    out = asked(allowed, runs)
    noted(out, "working")
    lock = RunLock(out / jobs.LOCK)
    assert lock.acquire()
    page = opened(open_page, allowed)
    (bar,) = page.get("progress")
    assert "30 of 100 rows" in bar.proto.text and "23 s left" in bar.proto.text
    assert page.button(key="measure").disabled
    page.button(key="stop-measuring").click().run()
    assert (out / jobs.STOP).exists() and not page.exception
    lock.release()


def test_done_shows_points_times_and_sentences(
    runs: Path, allowed: dict[str, str], open_page: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    probe.work(asked(allowed, runs))
    page = opened(open_page, allowed)
    assert not page.error and not page.warning
    cost, times = figures(page)
    assert len(cost["data"]) == len(times["data"]) == 1
    assert cost["data"][0]["marker"]["symbol"] == ["circle"] * 3
    assert "As opened, accuracy is" in said(page) and "a forward pass over" in said(page)
    button = page.button(key="measure")
    assert button.label == "Measured" and button.disabled
    page.multiselect(key="eval.keeps").set_value([0.5, 0.1, 0.05]).run()
    button = page.button(key="measure")
    assert button.label == "Measure the rest" and not button.disabled and len(figures(page)) == 2
    assert page.query_params["eval.keeps"] == ["0.5", "0.1", "0.05"]


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        ("failed", "The file <b>x</b> *lacks* a head.", "The file <b>x</b> *lacks* a head."),
        ("cancelled", "", "Stopped. What was measured stays"),
        ("working", "", "was killed or ran out of memory"),  # a note of work under a free lock is a crash
    ],
)
def test_how_it_ended_is_said_once_and_only_of_this_wish(
    state: str, reason: str, shown: str, runs: Path, allowed: dict[str, str], open_page: Opener
) -> None:
    noted(asked(allowed, runs), state, reason)
    page = opened(open_page, allowed)
    assert len(page.error) + len(page.warning) == 1
    assert shown in said(page) and not page.button(key="measure").disabled
    assert all("<b>" not in e.value.replace("\\<b\\>", "") for e in page.error)
    page = opened(open_page, allowed, **{"eval.by": "scores"})
    assert not page.error and not page.warning


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"eval.model": "/etc"}, "outside the folders"),
        ({"eval.model": "run:nope"}, "There is no run"),
        ({"eval.model": "nosuch/model"}, "is not in the Hugging Face cache"),
        ({"eval.on": "/etc/passwd"}, "outside the folders"),
        ({"eval.data.max_length": "1"}, "max_length is 1"),
    ],
)
def test_a_wrong_choice_is_one_sentence_without_a_button(
    change: dict[str, str], sentence: str, runs: Path, allowed: dict[str, str], open_page: Opener
) -> None:
    page = opened(open_page, allowed, **change)
    assert len(page.error) == 1 and sentence in said(page)
    assert "measure" not in [button.key for button in page.button]


def test_what_does_not_fit_is_said_at_the_press(
    runs: Path, allowed: dict[str, str], open_page: Opener
) -> None:
    page = opened(open_page, allowed, **{"eval.on": "bundled:digits"})
    page.button(key="measure").click().run()
    assert not page.exception and len(page.error) == 1
    assert "holds pictures but the model reads text" in said(page)
    assert not (runs / probe.FOLDER).exists()
