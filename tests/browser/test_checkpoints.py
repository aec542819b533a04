"""Opening checkpoints as a visitor does: hostile names, a cut by slider, a zoom by mouse, a sent file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.browser.conftest import PATIENCE, Server, Tab
from tests.inspect import made

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Serve = Callable[[Path], Server]
Opener = Callable[..., Tab]

HOSTILE = (
    "<img src=x onerror=alert(1)>.weight",
    "h.0.mlp.fc1.\u202egnp.weight",
    "[a](javascript:alert(2)).weight",
)


def checkpoint(path: Path) -> Path:
    rng = np.random.default_rng(0)
    w = rng.normal(0, 0.1, (600, 800)) * (rng.random((600, 800)) > 0.8)
    tensors = {"h.0.mlp.fc1.weight": made.floats("F32", w), "h.0.mlp.fc2.weight": made.floats("F32", w.T)}
    tensors |= {name: made.floats("F32", rng.normal(size=(4, 4))) for name in HOSTILE}
    return made.write(path, tensors)


def test_names_are_shown_and_never_run(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    path = checkpoint(runs / "m.safetensors")
    server, here = serve(runs), tab()
    asked: list[str] = []
    here.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    here.page.on(
        "request",
        lambda r: asked.append(r.url) if not r.url.startswith((server.url, "data:", "blob:")) else 0,
    )
    for view in ("tensors", "units", "picture", "cut"):
        here.open(f"{server.url}/checkpoint?path={path}&view={view}")
        here.page.wait_for_timeout(300)
    here.open(f"{server.url}/checkpoint?path={path}&view=tensors&tensor={HOSTILE[0].replace('=', '%3D')}")
    assert asked == [] and here.page.locator("img[src=x]").count() == 0 and not here.trouble


def test_a_slider_says_at_once_what_a_cut_would_remove(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    path = checkpoint(runs / "m.safetensors")
    here = tab().open(f"{serve(runs).url}/checkpoint?path={path}&view=cut&cut=90")
    here.page.get_by_text("To 90 %:").wait_for(timeout=PATIENCE)
    here.page.get_by_role("slider").focus()
    for _ in range(4):
        here.page.keyboard.press("ArrowRight")
    here.page.get_by_text("To 92 %:").wait_for(timeout=PATIENCE)
    here.settle()
    assert "cut=92" in here.page.url and all(here.drawn()) and not here.trouble


def test_a_box_zooms_into_a_matrix_and_a_button_out_of_it(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    path = checkpoint(runs / "m.safetensors")
    matrix = "h.0.mlp.fc1.weight"
    here = tab().open(f"{serve(runs).url}/checkpoint?path={path}&view=picture&matrix={matrix}")
    here.page.get_by_text("a pixel is 5 × 5 weights").wait_for(timeout=PATIENCE)
    area = here.page.locator(".lab-chart .nsewdrag").bounding_box()
    here.page.mouse.move(area["x"] + 100, area["y"] + 100)
    here.page.mouse.down()
    here.page.mouse.move(area["x"] + 180, area["y"] + 150, steps=8)
    here.page.mouse.up()
    here.page.get_by_text("a pixel is one weight").wait_for(timeout=PATIENCE)
    here.settle()
    assert "zoom=" in here.page.url and all(here.drawn())
    here.page.get_by_role("button", name="Whole matrix").click()
    here.page.get_by_text("a pixel is 5 × 5 weights").wait_for(timeout=PATIENCE)
    here.settle()
    assert "zoom=" not in here.page.url and not here.trouble


def test_a_sent_file_is_opened_and_gone_with_its_session(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    server = serve(runs)
    sent = checkpoint(tmp_path / "mine.safetensors")
    start = checkpoint(runs / "m.safetensors")
    here = tab().open(f"{server.url}/checkpoint?path={start}")
    here.page.get_by_text("Send a small file").click()
    here.page.locator("input[type=file]").set_input_files(sent)
    shown = "() => [...document.querySelectorAll('input')].some(i => i.value === 'Sent · mine.safetensors')"
    here.page.wait_for_function(shown, timeout=PATIENCE)
    here.settle()
    assert len(list((runs / ".uploads").rglob("*.safetensors"))) == 1
    large = tmp_path / "large.safetensors"
    with open(large, "wb") as file:
        file.truncate(17 * 2**20)
    here.page.locator("input[type=file]").set_input_files(large)
    here.page.get_by_text("must be 16.0MB or smaller").wait_for(timeout=PATIENCE)
    assert len(list((runs / ".uploads").rglob("*.safetensors"))) == 1
