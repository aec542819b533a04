"""The app as a visitor has it: a real server, a real browser, real runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.store.locks import RunLock
from analysis.store.runs import list_runs
from analysis.ui import nav
from tests.browser.conftest import PATIENCE, ROOT, Server, Tab
from tests.pages import made

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Serve = Callable[[Path], Server]
Opener = Callable[..., Tab]


def wait_until(true: Callable[[], Any], seconds: float, what: str) -> None:
    """Waits for something outside the browser."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.2)


def test_every_page_opens_cold_by_a_deep_link(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    runs = tmp_path / "runs"
    made.make_study(runs, seeds=1)
    pictures = os.environ.get("PRUNING_LAB_SCREENSHOTS", "")
    server = serve(runs)
    text = ROOT / "analysis" / "bundle" / "text"
    chosen = {"compare": f"compare?a={text}&b={text}"}  # nothing is drawn where nothing is chosen
    addresses = [a for a in nav.ENTRIES if a not in (nav.HOME, "evaluate")]
    for theme in ("light", "dark"):
        for address in [
            *(chosen.get(a, a) for a in addresses),
            "",
        ]:  # the root first would heal a wrong set-up
            here = tab(color_scheme=theme).open(f"{server.url}/{address}")
            assert not here.trouble, (address, here.trouble)
            assert here.drawn() and all(here.drawn()), f"{address}: an empty figure"
            assert here.page.locator("[role=figure][aria-label]").count() == len(here.drawn())
            wide = here.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
            assert wide[0] <= wide[1], f"{address} scrolls sideways"
            night = here.page.evaluate("document.querySelector('.lab-chart')._fullLayout.paper_bgcolor")
            assert (night != "#FFFFFF") == (theme == "dark"), address
            if pictures:
                here.page.screenshot(
                    path=Path(pictures) / f"{address.partition('?')[0] or 'start'}-{theme}.png"
                )
            if theme == "light":
                here.page.set_viewport_size({"width": 768, "height": 1000})
                here.settle()
                wide = here.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
                assert wide[0] <= wide[1], f"{address} scrolls sideways on a narrow screen"
            here.page.close()


def test_a_copied_link_restores_every_choice_and_the_box(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    made.make_study(tmp_path / "runs", seeds=1)
    server = serve(tmp_path / "runs")
    first = tab().open(f"{server.url}/weights?run=magnitude-10-10-0")
    first.page.get_by_role("radio", name="Pre-trained × final weight").click()
    first.page.wait_for_url("**plane=start**", timeout=PATIENCE)
    first.page.wait_for_function(
        """() => { const chart = document.querySelector('.lab-chart[data-ready=yes]');
        return chart && chart._fullLayout.xaxis.title.text.startsWith('pre-trained'); }"""
    )
    first.page.wait_for_timeout(1000)
    first.settle()
    area = first.page.locator(".lab-chart .nsewdrag").bounding_box()
    first.page.mouse.move(area["x"] + 100, area["y"] + 100)
    first.page.mouse.down()
    first.page.mouse.move(area["x"] + 500, area["y"] + 330, steps=8)
    first.page.mouse.up()
    first.page.get_by_text("The box holds").wait_for(timeout=PATIENCE)
    first.settle()
    said = first.page.get_by_text("The box holds").inner_text()
    second = tab().open(first.page.url)
    assert "run=magnitude-10-10-0" in second.page.url and "plane=start" in second.page.url
    assert second.page.get_by_text("The box holds").inner_text() == said
    assert second.page.evaluate("document.querySelector('.lab-chart')._fullLayout.selections.length") == 1
    second.page.get_by_role("link", name="Layers", exact=True).first.click()  # the run goes along
    second.page.wait_for_url("**/layers*run=magnitude-10-10-0*", timeout=PATIENCE)
    assert not first.trouble and not second.trouble


def test_zoom_is_kept_while_live_data_arrives(tmp_path: Path, serve: Serve, tab: Opener) -> None:
    path = made.make_run(tmp_path / "runs", "live-1", state="running")
    worker = RunLock(path / "lock")
    assert worker.acquire()
    server = serve(tmp_path / "runs")
    here = tab().open(f"{server.url}/monitor?runs=live-1")
    here.page.evaluate("window.chart = document.querySelectorAll('.lab-chart')[1]")
    area = here.page.locator(".lab-chart").nth(1).locator(".nsewdrag").bounding_box()
    here.page.mouse.move(area["x"] + 40, area["y"] + 40)
    here.page.mouse.down()
    here.page.mouse.move(area["x"] + 120, area["y"] + 120, steps=6)
    here.page.mouse.up()
    here.page.wait_for_timeout(400)
    before = here.page.evaluate("[chart.layout.xaxis.range, chart._fullData[0].x.length]")
    with open(path / "events.jsonl", "a") as events:
        for step in range(52, 80, 2):
            events.write(
                f'{{"kind":"loss","step":{step},"progress":{step / 100},"time":{step},"loss":0.5}}\n'
            )
    here.page.wait_for_function(f"chart._fullData[0].x.length > {before[1]}", timeout=PATIENCE)
    assert here.page.evaluate("chart.isConnected"), "the chart was replaced"
    assert here.page.evaluate("chart.layout.xaxis.range") == before[0]
    worker.release()
    assert not here.trouble


def test_the_start_button_runs_the_pair_and_its_result_appears(
    tmp_path: Path, serve: Serve, tab: Opener
) -> None:
    server = serve(tmp_path / "runs")
    here = tab()
    here.page.goto(f"{server.url}/?further=False")
    here.page.get_by_role("button", name="Run magnitude against movement").click()
    wait_until(lambda: len(list_runs(server.runs, recorded=False)) == 2, 30, "two runs")
    wait_until(
        lambda: all(run.state == "done" for run in list_runs(server.runs, recorded=False)),
        240,
        "the pair's end",
    )
    here.page.get_by_text("3 % kept · test accuracy").nth(1).wait_for(timeout=20_000)
    ended = list_runs(server.runs, recorded=False)
    assert {(run.recipe, run.state) for run in ended} == {("magnitude", "done"), ("movement", "done")}
    here.settle()
    assert "pair=" in here.page.url
    assert not here.trouble
    again = tab().open(here.page.url)  # the link shows the pair to somebody else
    assert again.page.get_by_test_id("stProgress").count() >= 2
    inspected = tab().open(f"{server.url}/weights?run={ended[0].id}")
    assert sum(inspected.drawn()) > 100


def test_two_browsers_that_press_at_once_make_exactly_two_launches(
    tmp_path: Path, serve: Serve, tab: Opener
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    runner = RunLock(runs / ".runner.lock")
    assert runner.acquire()  # the runs wait in the line: this test counts launches, it does not train
    server = serve(runs)
    query = "recipes=movement&keeps=0.1"
    tabs = [tab().open(f"{server.url}/launch?{query}") for _ in range(2)]
    for here in tabs:
        here.page.evaluate(
            """() => { const buttons = [...document.querySelectorAll('button')];
            const press = buttons.find(b => b.innerText.includes('Launch 1'));
            setTimeout(() => press.click(), 1500 - Date.now() % 1500); }"""
        )
    for here in tabs:
        here.page.get_by_role("link", name="Watch the 1 started").wait_for(timeout=PATIENCE)
    time.sleep(1.5)
    assert len(list_runs(runs, recorded=False)) == 2
    runner.release()
    assert all(not here.trouble for here in tabs)
