"""The checkpoint page: every view, files as they stream in, files that are refused, files that are sent."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.engine.inspect import cache
from analysis.errors import ModelError
from analysis.store import jobs
from analysis.store.locks import RunLock
from analysis.ui import charts, checkpoint_views, guard, uploads
from tests.inspect import made
from tests.inspect.test_layouts import reference
from tests.pages.conftest import Opener, figures, sent_bytes, words


@pytest.fixture
def model(runs: Path) -> Path:
    """A pruned model of two layers with a config, in the runs folder."""
    folder = runs / "some-model"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in range(2):
        base = f"encoder.layer.{layer}"
        for name, shape in (("attention.self.value", (16, 16)), ("attention.output.dense", (16, 16)),
                            ("intermediate.dense", (64, 16)), ("output.dense", (16, 64))):  # fmt: skip
            w = rng.normal(0, 0.05, shape) * (rng.random(shape) > 0.6)
            w[:4] = 0 if name == "attention.self.value" else w[:4]
            tensors[f"{base}.{name}.weight"] = made.floats("F32", w)
    tensors["<img src=x onerror=alert(1)>"] = made.floats("F32", np.array([1.0, np.nan]))
    made.write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    return folder


@pytest.mark.parametrize("view", [v for v in checkpoint_views.VIEWS if v != "plane"])
def test_every_view_has_a_figure_and_the_numbers_above_it(view: str, model: Path, open_page: Opener) -> None:
    page = open_page("checkpoint", path=str(model), view=view)
    assert not page.exception and not page.error
    drawn = figures(page)
    assert drawn and all(figure["data"] and figure["alt"] for figure in drawn)
    assert sent_bytes(page) <= 1_000_000
    assert len(page.metric) == 4 and page.metric[0].value != "?"
    said = words(page)
    assert "2 of 8 heads already empty" in said and "1 values are not finite" in said
    assert guard.escape("<img src=x onerror=alert(1)>") in said and "<img" not in said.replace("\\<", "")


def test_a_cut_is_asked_for_in_the_address(model: Path, open_page: Opener) -> None:
    page = open_page("checkpoint", path=str(model), view="cut", cut="80.0", scope="matrix")
    assert "To 80" in words(page) and page.slider[0].value == 80.0
    shown = figures(page)[0]["data"][0]
    assert shown["type"] == "heatmap" and len(figures(page)) == 1


def test_a_picture_can_be_zoomed_to_single_weights(model: Path, open_page: Opener) -> None:
    matrix = "encoder.layer.0.intermediate.dense.weight"
    page = open_page(
        "checkpoint", path=str(model), view="picture", matrix=matrix, zoom="2,9,10,20", show="size"
    )
    assert "Rows 10 to 20 of 64, columns 2 to 9 of 16" in words(page).replace("\\", "")
    assert "a pixel is one weight" in words(page)
    assert [b for b in page.button if b.label == "Whole matrix"]


def test_stored_scores_have_a_plane_and_a_cut_of_their_own(runs: Path, open_page: Opener) -> None:
    runs.mkdir(parents=True)
    path, _, _ = reference(runs / "scored.safetensors")
    page = open_page("checkpoint", path=str(path), view="plane")
    assert not page.exception and not page.error and figures(page)[0]["data"]
    page = open_page("checkpoint", path=str(path), view="cut", by="scores")
    assert "scores would go" in words(page) and "the score lies between" in words(page)


def test_a_refused_file_is_its_sentence_and_can_be_tried_again(runs: Path, open_page: Opener) -> None:
    runs.mkdir(parents=True)
    (runs / "bad.safetensors").write_bytes((10**9).to_bytes(8, "little") + b"{}")
    page = open_page("checkpoint", path=str(runs / "bad.safetensors"))
    assert not page.exception and "cut short" in page.error[0].value
    made.write(runs / "good.safetensors", {"a.weight": made.floats("F32", np.ones((2, 2)))})
    assert [b for b in page.button if b.label == "Try again"]


def test_while_it_is_read_the_tensors_are_there_with_a_bar_and_a_way_out(
    model: Path, runs: Path, open_page: Opener
) -> None:
    out = cache.begin(model, runs)
    assert jobs.wait(out).state == "done"
    for part in (out / "parts").iterdir():
        part.unlink()
    lock = RunLock(out / jobs.LOCK)
    assert lock.acquire()  # as the process that reads holds it
    (out / jobs.NOTE).write_text(json.dumps(
        {"state": "working", "done": 2e6, "total": 8e6, "unit": "bytes", "seconds": 4, "reason": ""}
    ))  # fmt: skip
    page = open_page("checkpoint", path=str(model))
    assert not page.exception and not page.error
    assert "9 tensors, the values of 0 read so far" in words(page)
    assert len(page.dataframe) == 1 and len(page.dataframe[0].value) == 9
    bar = page.get("progress")[0].proto
    assert "2 of 8 MB" in bar.text and "12 s left" in bar.text and bar.value == 25
    next(b for b in page.button if b.label == "Cancel").click().run()
    assert (out / jobs.STOP).exists()
    lock.release()


def test_work_that_died_or_was_cancelled_can_go_on(model: Path, runs: Path, open_page: Opener) -> None:
    out = cache.begin(model, runs)
    assert jobs.wait(out).state == "done"
    note = json.loads((out / jobs.NOTE).read_text())
    (out / jobs.NOTE).write_text(json.dumps(note | {"state": "cancelled"}))
    page = open_page("checkpoint", path=str(model))
    assert "was cancelled" in page.info[0].value
    next(b for b in page.button if b.label == "Go on").click().run()
    assert not page.exception and len(page.metric) == 4


def test_what_is_sent_gets_a_name_of_ours_and_only_known_endings(tmp_path: Path) -> None:
    data = made.write(tmp_path / "m.safetensors", {"a": made.floats("F32", np.ones(3))}).read_bytes()
    folder = tmp_path / "private"
    folder.mkdir()
    for name in ("../../x.safetensors", "x" * 300 + ".safetensors", "a\0b.safetensors"):
        path = uploads.keep(name, memoryview(data), folder)
        assert path.parent == folder and path.read_bytes() == data and len(path.name) < 60
    assert len(list(folder.iterdir())) == 1  # the same bytes are one file
    for name, sent in (("x.zip", data), ("x.safetensors.exe", data), ("x.safetensors", b"")):
        with pytest.raises(ModelError, match=r"no file of weights|is empty"):
            uploads.keep(name, memoryview(sent), folder)
    for i in range(uploads.MOST - 1):
        uploads.keep("x.pt", memoryview(data + bytes([i])), folder)
    with pytest.raises(ModelError, match="sent already"):
        uploads.keep("x.pt", memoryview(b"one more"), folder)


def test_all_that_is_sent_together_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST", 100)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    uploads.keep("x.pt", memoryview(b"x" * 60), tmp_path / "a")
    with pytest.raises(ModelError, match="MB of files were sent already"):
        uploads.keep("x.pt", memoryview(b"y" * 60), tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())


def test_names_that_begin_like_formulas_are_text_in_a_spreadsheet() -> None:
    frame = pd.DataFrame({"tensor": ["=cmd()", "@x", "plain", "-1+1"], "zeros": [-1, 2, 3, 4]})
    back = pd.read_csv(io.BytesIO(charts.csv(frame)))
    assert back["tensor"].tolist() == ["'=cmd()", "'@x", "plain", "'-1+1"] and back["zeros"].tolist()[0] == -1
