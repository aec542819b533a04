"""Whatever is typed, linked or lies on disk: one sentence on the page, never a traceback, never a
lost run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import DataError, LabError, ModelError, SpecError
from analysis.store.runs import list_runs
from analysis.ui import boxes, checkpoints, guard, plans, roots
from tests.pages import made
from tests.pages.conftest import Opener, figures, words

LONG = "x" * 300


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ({"keeps": "0"}, ["keep is 0", "(0, 1]"]),
        ({"keeps": "1.5"}, ["keep is 1.5", "(0, 1]"]),
        ({"keeps": "nan"}, ["keep is nan", "(0, 1]"]),
        ({"keeps": "a lot"}, ["Keeps is 'a lot'", "0.3, 0.1, 0.03"]),
        ({"keeps": ""}, ["Keeps is ''", "numbers between commas"]),
        ({"seeds": "-1"}, ["seed is -1", "whole number"]),
        ({"seeds": "1.5"}, ["Seeds is '1.5'", "whole numbers"]),
        ({"seeds": ",".join(map(str, range(150)))}, ["600 runs", "allowed are 200"]),
        ({"name": "<b>bold</b>"}, ["holds '<', '>'", "printable characters"]),
        ({"name": LONG}, ["300 characters", "up to 80"]),
        ({"model": " "}, ["model is ' '", "bundled:text"]),
        ({"data.kind": "poetry", "data.max_length": "1"}, ["max_length is 1", "[4, 8192]"]),
        ({"training.steps": "0"}, ["steps is 0", "[1, 1e+07]"]),
        ({"movement:score.lr": "-1"}, ["lr is -1", "(0, 10]"]),
        ({"movement:schedule.warmup": "0.9"}, ["warmup", "stay below 1"]),
        ({"magnitude:select.type": "SigmoidThreshold"}, ["SigmoidThreshold", "learned score"]),
        ({"magnitude:units.type": "Block", "magnitude:units.rows": "7"}, ["blocks of 7 x 32", "128 x 128"]),
    ],
)
def test_launch_explains_a_value_that_is_not_allowed(
    params: dict[str, str], parts: list[str], runs: Path, no_runner: None, open_page: Opener
) -> None:
    page = open_page("launch", **params)
    assert not page.exception
    assert len(page.error) == 1
    said = page.error[0].value.replace("\\", "")
    for part in parts:
        assert part in said
    assert "launch" not in {button.key for button in page.button}, "nothing can be started that cannot run"
    assert not list_runs(runs, recorded=False)


@pytest.mark.parametrize(
    "params",
    [
        {"run": "../../etc"},
        {"run": "<script>alert(1)</script>"},
        {"run": "gone-000000"},
        {"box.score": "nonsense"},
        {"box.score": "1,2,3"},
        {"box.score": "nan,nan,inf,1"},
        {"box.score": "1e300,-1e300,5,5"},
        {"step": "-4", "layer": "ninety", "role": "", "site": LONG, "plane": "x", "show": ""},
        {"threshold": "perhaps", "quarters": "1"},
    ],
)
def test_an_odd_address_still_shows_the_page(params: dict[str, str], study: Path, open_page: Opener) -> None:
    page = open_page("weights", **params)
    assert not page.exception and not page.error
    assert figures(page)[0]["data"]
    assert "<script>" not in words(page)


@pytest.mark.parametrize(
    "value", ["9" * 400, "-" + "9" * 400, "1e999", "inf", "nan", "", "0x10", "1_0", "🙂"]
)
def test_no_number_in_the_address_breaks_the_launch_page(value: str, runs: Path, open_page: Opener) -> None:
    page = open_page(
        "launch", **{"training.steps": value, "movement:score.lr": value, "data.max_length": value}
    )
    assert not page.exception
    assert guard.escape(guard.UNEXPECTED) not in words(page)


@pytest.mark.parametrize(
    "name", ["<b>bold</b>", "**stars** [x](http://y)", "$x$ :red[a] `b`", "a\nb | c", "\u202eevil"]
)
def test_names_from_files_are_shown_as_they_are_written(name: str, runs: Path, open_page: Opener) -> None:
    made.make_run(runs, "named-1", name=name)
    for address in ("start", "monitor", "weights"):
        page = open_page(address)
        assert not page.exception
        for text in (m.value for m in page.markdown):
            assert "<b>" not in text and "**stars**" not in text


def test_a_run_from_a_newer_version_is_listed_and_cannot_be_cloned(runs: Path, open_page: Opener) -> None:
    path = made.make_run(runs, "newer-1")
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps({**spec, "schema_version": 99}))
    page = open_page("monitor", own="newer-1")
    assert not page.exception and not page.error
    assert "newer version" in words(page).replace("\\", "")
    assert next(b for b in page.button if b.key == "clone-newer-1").disabled
    with pytest.raises(SpecError, match="newer version"):
        plans.address({**spec, "schema_version": 99})


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"kind":"loss"'])
def test_damaged_files_of_a_run_leave_the_pages_standing(damage: str, runs: Path, open_page: Opener) -> None:
    path = made.make_run(runs, "hurt-1")
    for file in (
        "sites.json",
        "events.jsonl",
        "masks/000100.npz",
        "points/000100.parquet",
        "histograms/000100.npz",
    ):
        (path / file).write_text(damage)
    for address in ("start", "monitor", "weights", "layers", "overlap", "curves"):
        page = open_page(address, run="hurt-1", own="hurt-1")
        assert not page.exception, address
        assert guard.escape(guard.UNEXPECTED) not in words(page), address


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "~/.ssh", "../../../etc", "", "\0", "/nowhere/at/all"),
        *("x" * 300, "~nobody-of-that-name/x", "x" * 5000),
    ],
)
def test_a_checkpoint_outside_the_allowed_folders_is_refused(path: str, runs: Path) -> None:
    with pytest.raises(ModelError) as error:
        checkpoints.allowed(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 6000


def test_a_link_out_of_the_allowed_folders_is_refused(runs: Path) -> None:
    runs.mkdir(parents=True)
    (runs / "way-out").symlink_to("/etc")
    with pytest.raises(ModelError, match="outside the folders"):
        checkpoints.allowed("way-out/passwd")


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        ({"model": "/etc"}, "PRUNING_LAB_MODELS"),
        ({"teacher": "../../../../etc"}, "PRUNING_LAB_MODELS"),
        ({"task": "/etc/passwd"}, "PRUNING_LAB_DATA"),
        ({"task": "/nowhere/at/all.tsv"}, "PRUNING_LAB_DATA"),
    ],
)
def test_a_run_launched_from_a_page_reads_only_the_allowed_folders(
    setting: dict[str, str], variable: str, runs: Path
) -> None:
    asked = {"model": "bundled:text", "task": "bundled:opinions", **setting}
    wanted = plans.specs(plans.Choices(recipes=["magnitude"], keeps=[0.1], seeds=[0], **asked))
    with pytest.raises(LabError, match=f"outside the folders.*{variable}"):
        plans.launch(runs, wanted)
    assert not list(runs.glob("magnitude-*"))


@pytest.mark.parametrize(
    ("model", "task", "sentence"),
    [
        ("bundled:text", "bundled:digits", "holds pictures but the model reads text; choose an image model"),
        ("bundled:digits", "bundled:opinions", "is text but the model has no tokenizer; choose a text model"),
    ],
)
def test_a_model_that_reads_something_else_is_refused_at_the_press(
    model: str, task: str, sentence: str, runs: Path
) -> None:
    wanted = plans.specs(plans.Choices(model, task, recipes=["magnitude"], keeps=[0.1], seeds=[0]))
    with pytest.raises(ModelError, match=sentence):
        plans.launch(runs, wanted)
    assert not list(runs.glob("magnitude-*"))


@pytest.mark.parametrize(
    ("field", "name"), [("model", "nosuch/model"), ("model", "run:nope"), ("task", "/etc/passwd")]
)
def test_a_wrong_name_is_explained_before_anything_can_be_pressed(
    field: str, name: str, runs: Path, open_page: Opener
) -> None:
    page = open_page("launch", **{field: name})
    assert not page.exception and len(page.error) == 1
    assert "launch" not in [button.key for button in page.button]


def test_a_data_file_in_a_folder_that_the_variable_names_may_be_used(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.tsv").write_text("sentence\tlabel\ngood\t1\n")
    monkeypatch.setenv("PRUNING_LAB_DATA", str(tmp_path))
    roots.require_name("mine.tsv", "PRUNING_LAB_DATA", DataError)
    roots.require_name(str(tmp_path / "mine.tsv"), "PRUNING_LAB_DATA", DataError)
    monkeypatch.delenv("PRUNING_LAB_DATA")
    with pytest.raises(DataError, match="outside the folders"):
        roots.require_name(str(tmp_path / "mine.tsv"), "PRUNING_LAB_DATA", DataError)


def test_a_file_that_is_no_checkpoint_is_explained_on_the_page(runs: Path, open_page: Opener) -> None:
    runs.mkdir(parents=True)
    (runs / "fake.safetensors").write_bytes(b"GIF89a" + b"\0" * 100)
    page = open_page("checkpoint", path=str(runs / "fake.safetensors"))
    assert not page.exception
    assert len(page.error) == 1 and "fake" in page.error[0].value
    assert guard.escape(guard.UNEXPECTED) not in words(page)


@given(st.text(max_size=200))
def test_escaped_text_keeps_its_letters_and_stays_on_one_line(text: str) -> None:
    shown = guard.escape(text)
    assert "\n" not in shown
    assert shown.replace("\\", "").split() == " ".join(text.split()).replace("\\", "").split()
    for place, letter in enumerate(shown):
        if letter in "<*_`[$#|~" and place:
            assert shown[place - 1] == "\\"


@given(st.text(max_size=60))
def test_a_box_in_the_address_is_four_numbers_or_nothing(text: str) -> None:
    box = boxes.parse([text])
    assert box is None or list(box) == ["x0", "x1", "y0", "y1"]


def test_too_much_at_once_is_refused() -> None:
    choices = plans.Choices("bundled:text", "bundled:opinions", ["movement"], [0.1], range(1000))
    with pytest.raises(SpecError, match="1000 runs"):
        plans.specs(choices)
