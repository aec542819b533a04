"""The page that compares two checkpoints, over everything that can be chosen on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from analysis.engine.inspect import cache
from analysis.store import jobs
from analysis.store.locks import RunLock
from analysis.ui import guard, pairs
from tests.pages.conftest import Opener, figures, sent_bytes, words

NAME = "encoder.layer.{}.attention.self.{}.weight"


@pytest.fixture
def files(runs: Path) -> dict[str, str]:
    """Paths of a model, of what became of it, and of a file that is none."""
    rng = np.random.default_rng(0)
    first = {NAME.format(i, role): rng.normal(size=(16, 16)) for i in (0, 1) for role in ("query", "key")}
    second = {name: w * (rng.random(w.shape) > 0.7) for name, w in first.items()}
    runs.mkdir(parents=True)
    for name, tensors in (("a", first), ("b", second)):
        save_file({k: v.astype("f4") for k, v in tensors.items()}, runs / f"{name}.safetensors")
    (runs / "bad.safetensors").write_bytes(b"GIF89a" + b"\0" * 100)
    return {name: str(runs / f"{name}.safetensors") for name in ("a", "b", "bad")}


def button(page: AppTest, key: str) -> Any:
    return next(b for b in page.button if key in (b.key, b.label))


def folder(runs: Path) -> Path:
    """The one comparison there is."""
    (found,) = (runs / cache.FOLDER).glob("pair-*")
    return found


def result(page: AppTest, runs: Path) -> AppTest:
    """The page once the comparison is over, however busy the machine is."""
    if not page.metric:
        jobs.wait(folder(runs))
        page.run()
    assert not page.exception and not page.error, words(page)
    return page


def test_with_nothing_chosen_the_page_says_what_to_do(files: dict[str, str], open_page: Opener) -> None:
    page = open_page("compare")
    assert not page.exception and not page.error and not figures(page)
    assert "Choose two checkpoints" in page.info[0].value
    page = open_page("compare", a=files["a"])
    assert "Choose two checkpoints" in page.info[0].value


def test_what_lies_beside_each_other_is_offered_as_an_example(
    files: dict[str, str], open_page: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNING_LAB_CHECKPOINTS", str(Path(files["a"]).parent))
    for side in "ab":
        (Path(files["a"]).parent / "[odd](x)").mkdir(exist_ok=True)
        odd = Path(files["a"]).parent / "[odd](x)" / f"**{side}**.safetensors"
        odd.write_bytes(Path(files[side]).read_bytes())
    page = open_page("compare")
    links = [link.proto.label for link in page.get("page_link")]
    for one, other in (("a", "b"), ("**a**", "**b**")):
        said = guard.escape(f"{one}.safetensors against {other}.safetensors")
        assert any(said in label for label in links), links


@pytest.mark.parametrize("view", ["distance", "values", "zeros", "overlap", "tensors"])
def test_every_view_of_two_that_differ(
    view: str, files: dict[str, str], runs: Path, open_page: Opener
) -> None:
    page = result(open_page("compare", a=files["a"], b=files["b"], view=view), runs)
    assert len(figures(page)) == {"values": 2, "tensors": 0}.get(view, 1)
    assert all(figure["data"] and figure["alt"] for figure in figures(page))
    assert sent_bytes(page) <= 1_000_000
    said = words(page).replace("\\", "")
    assert "zeros among its prunable weights where A has 0 %" in said and "chance would keep" in said
    assert page.metric[0].value == "4 of 4"
    if view == "tensors":
        assert len(page.dataframe[0].value) == 4


def test_a_view_is_narrowed_to_layers_and_roles(files: dict[str, str], runs: Path, open_page: Opener) -> None:
    chosen = {"a": files["a"], "b": files["b"], "view": "values", "layer": "1", "role": "key"}
    page = result(open_page("compare", **chosen), runs)
    drawn = page.get("bidi_component")[0].proto.json
    assert "256 weights by their value" in json.loads(drawn)["alt"]


def test_two_equal_files_are_said_to_be_equal(files: dict[str, str], runs: Path, open_page: Opener) -> None:
    page = result(open_page("compare", a=files["a"], b=files["a"], view="zeros"), runs)
    assert "They are equal in every weight that both have" in words(page).replace("\\", "")
    assert not figures(page)[0]["data"] and figures(page)[0]["layout"]["annotations"]


def test_a_file_that_is_no_checkpoint_is_one_sentence(
    files: dict[str, str], runs: Path, open_page: Opener
) -> None:
    page = open_page("compare", a=files["a"], b=files["bad"])
    jobs.wait(folder(runs))
    page.run()
    assert not page.exception and len(page.error) == 1 and "bad" in page.error[0].value
    assert guard.escape(guard.UNEXPECTED) not in words(page) and button(page, "Try again")


@pytest.mark.parametrize("path", ["/etc/passwd", "nothing-here", "../../etc", "x" * 300])
def test_a_path_that_is_absent_or_not_allowed_is_one_sentence(
    path: str, files: dict[str, str], runs: Path, open_page: Opener
) -> None:
    page = open_page("compare", a=files["a"], b=path)
    assert not page.exception and len(page.error) == 1
    assert guard.escape(guard.UNEXPECTED) not in words(page)
    assert not (runs / cache.FOLDER).exists()


def test_a_and_b_change_places(files: dict[str, str], runs: Path, open_page: Opener) -> None:
    page = result(open_page("compare", a=files["a"], b=files["b"]), runs)
    button(page, "swap").click().run()
    assert (page.selectbox(key="a").value, page.selectbox(key="b").value) == (files["b"], files["a"])
    assert files["b"] in page.query_params["a"] and not page.exception


def test_large_ones_wait_for_a_press(
    files: dict[str, str], runs: Path, open_page: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "AT_ONCE", 0)
    page = open_page("compare", a=files["a"], b=files["b"])
    assert not page.metric and "0.0 MB" in page.info[0].value
    assert not (runs / cache.FOLDER).exists(), "a link alone starts nothing large"
    button(page, "compare").click().run()
    result(page, runs)


def test_progress_is_told_and_what_was_cancelled_goes_on(
    files: dict[str, str], runs: Path, open_page: Opener
) -> None:
    page = result(open_page("compare", a=files["a"], b=files["b"]), runs)
    found = folder(runs)
    note = {"state": "working", "done": 1e9, "total": 4e9, "unit": "bytes", "seconds": 10.0, "reason": ""}
    worker = RunLock(found / jobs.LOCK)
    assert worker.acquire()  # as the process that compares holds it
    (found / jobs.NOTE).write_text(json.dumps(note))
    page.run()
    bar = page.get("progress")[0].proto
    assert bar.value == 25 and "1,000 of 4,000 MB, 30 s left" in bar.text and not page.metric
    button(page, "Cancel").click().run()
    assert (found / jobs.STOP).exists()
    worker.release()
    (found / jobs.NOTE).write_text(json.dumps({**note, "state": "cancelled"}))
    page.run()
    assert "was cancelled" in page.info[0].value
    button(page, "Go on").click().run()
    assert jobs.wait(found).state == "done"
    page.run()
    assert page.metric and not page.info


def test_what_a_process_that_died_left_is_gone_on_with(
    files: dict[str, str], runs: Path, open_page: Opener
) -> None:
    page = result(open_page("compare", a=files["a"], b=files["b"]), runs)
    note = json.loads((folder(runs) / jobs.NOTE).read_text())
    (folder(runs) / jobs.NOTE).write_text(json.dumps({**note, "state": "working"}))
    assert jobs.read(folder(runs)).state == "crashed"
    page.run()
    assert "ended early" in page.warning[0].value  # never by itself: it might die of the same file for ever
    button(page, "Go on").click().run()
    result(page.run(), runs)
