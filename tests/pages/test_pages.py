"""Every page over every condition a runs folder can be in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.store.locks import RunLock
from analysis.ui import guard, nav
from tests.pages import made
from tests.pages.conftest import PAGES, Opener, figures, sent_bytes, words


@pytest.mark.parametrize("condition", made.CONDITIONS)
def test_every_page_stands_in_every_condition(condition: str, runs: Path, open_page: Opener) -> None:
    made.make_condition(runs, condition)
    worker = RunLock(runs / "running-1" / "lock")
    if condition == "running":
        assert worker.acquire()
    page = open_page("start")
    for address in PAGES:
        page.switch_page(f"../pages/{nav.ENTRIES[address].file}").run()
        assert not page.exception, address
        assert guard.escape(guard.UNEXPECTED) not in words(page), address
        assert page.title[0].value, address
        drawn = figures(page)
        assert drawn or page.info or page.error or page.get("progress"), (
            f"{address}: neither a figure nor a sentence that says why there is none"
        )
        assert sent_bytes(page) <= 1_000_000, address
        for figure in drawn:
            assert figure["alt"], address
            assert figure["data"] or figure["layout"].get("annotations"), address
            assert "template" not in figure["layout"], "the browser chooses the template"
        if condition == "finished" and address not in (
            "checkpoint",
            "compare",
            "evaluate",
        ):
            assert drawn and all(figure["data"] for figure in drawn), address
            assert not page.error, address
    worker.release()


def test_the_first_visit_shows_the_recorded_runs(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, open_page: Opener
) -> None:
    """With no run of one's own, every page of the inspect section has something true to draw."""
    monkeypatch.setenv("PRUNING_LAB_RUNS", str(runs_dir))
    monkeypatch.setenv("PRUNING_LAB_WARM", "0")
    for address in ("start", "weights", "layers", "overlap", "curves"):
        page = open_page(address)
        assert not page.exception and not page.error, address
        drawn = figures(page)
        assert drawn and all(figure["data"] for figure in drawn), address
        assert sent_bytes(page) <= 1_000_000, address


@pytest.mark.parametrize(
    ("address", "params"),
    [
        (
            "weights",
            {"plane": "start", "show": "kept", "quarters": "True", "layer": ["0", "2"], "role": "query"},
        ),
        ("weights", {"box.score": "-0.3,0.3,-3,3"}),
        ("weights", {"plane": "growth", "show": "kept"}),
        ("layers", {"view": "bars", "by": "role", "value": "sparsity"}),
        ("layers", {"view": "structure"}),
        ("layers", {"view": "mask", "site": "encoder.layer.1.ffn_in"}),
        ("overlap", {"view": "matrix", "excess": "True"}),
        ("overlap", {"view": "ranks"}),
        ("curves", {"of": "keep_model", "panels": "lr", "log": "False", "single": "False"}),
        ("curves", {"lr": "0.003", "recipe": "movement"}),
        ("curves", {"x": "compute", "recipe": "magnitude"}),
        ("curves", {"published": "True", "published.of": "qqp-taught"}),
        ("methods", {"card": "soft_movement"}),
    ],
)
def test_every_view_is_drawn_from_its_address(
    address: str, params: dict[str, str], study: Path, open_page: Opener
) -> None:
    page = open_page(address, **params)
    assert not page.exception and not page.error
    assert figures(page)[0]["data"]
    for key, value in params.items():
        assert page.query_params[key] in (value, [value] if isinstance(value, str) else value)


def test_published_points_are_drawn_on_request_with_what_has_to_be_known(
    study: Path, open_page: Opener
) -> None:
    page = open_page("curves")
    assert not any("published" in t.get("name", "") for t in figures(page)[0]["data"])
    page.toggle(key="published").set_value(True).run()
    drawn = [t for t in figures(page)[0]["data"] if "published" in t.get("name", "")]
    assert {t["name"] for t in drawn} >= {"movement (published)", "soft movement (published)"}
    assert all("-open" in t["marker"]["symbol"] for t in drawn)
    said = next(c.value for c in page.caption if "Hollow marks" in c.value)
    assert all(w in said for w in ("MNLI", "BERT-base", "6 epochs", "without a teacher", "arXiv:2005.07683"))
    assert "84.9 million linear weights" in said and "another task" in said
    page = open_page("curves", of="keep_model", published="True")  # another denominator cannot be compared
    assert not any(t.key == "published" for t in page.toggle)
    assert not any("published" in t.get("name", "") for t in figures(page)[0]["data"])


def test_the_chosen_run_goes_along_to_other_pages(study: Path, open_page: Opener) -> None:
    page = open_page("weights", run="magnitude-10-10-0")
    page.query_params.clear()  # what the browser does when a page of the sidebar is opened
    page.switch_page("../pages/inspect/layers.py").run()
    assert page.selectbox(key="run").value == "magnitude-10-10-0"
    page.selectbox(key="run").set_value("dense-0").run()
    page.query_params.clear()
    page.switch_page("../pages/inspect/overlap.py").run()
    assert page.selectbox(key="run").value == "dense-0"


def test_a_box_is_counted_exactly(study: Path, open_page: Opener) -> None:
    page = open_page("weights", **{"box.score": "-9,9,-99,99"})
    said = next(m.value for m in page.markdown if "The box holds" in m.value)
    assert "36,864 weights" in said.replace("\\", "")  # 3 layers × (4·32·32 + 2·128·32)


def test_the_server_never_imports_torch_and_stays_small(study: Path) -> None:
    script = f"""
import pathlib, resource, sys
sys.path.insert(0, {str(nav.ROOT)!r})
from tests.pages.conftest import PAGES, SHELL, nav
from streamlit.testing.v1 import AppTest
for address in PAGES:
    page = AppTest.from_file(str(SHELL), default_timeout=60).run()
    if address != "start":
        page.switch_page(f"../pages/{{nav.ENTRIES[address].file}}").run()
    assert not page.exception, address
heavy = [name for name in ("torch", "transformers", "sklearn") if name in sys.modules]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
status = pathlib.Path("/proc/self/status")
if status.exists():  # ru_maxrss survives exec, so here it would be the peak of the tests' own process
    peak = next(int(row.split()[1]) for row in status.read_text().splitlines() if row.startswith("VmHWM"))
print(heavy, peak // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    heavy, megabytes = done.stdout.strip().splitlines()[-1].rsplit(" ", 1)
    assert heavy == "[]"
    assert int(megabytes) <= 300


def test_every_page_is_short_and_asks_one_question() -> None:
    for entry in nav.ENTRIES.values():
        text = entry.path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 90
        assert text.startswith('"""') and entry.question.endswith("?")
    assert not list((nav.ROOT / "pages").glob("*.py")), "a script directly in pages/ breaks cold deep links"
