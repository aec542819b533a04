"""Pages run in Streamlit's own test harness, each over a runs folder made for the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from analysis.store import runs as store_runs
from analysis.store.locks import RunLock
from analysis.ui import cached, nav
from tests.pages import made

SHELL = Path(nav.ROOT) / "analysis" / "shell.py"
PAGES = list(nav.ENTRIES)
Opener = Callable[..., AppTest]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the recorded runs, so that a page shows what the test made and nothing else."""
    for module in (store_runs, cached):
        monkeypatch.setattr(module, "RECORDED", tmp_path / "nothing-recorded")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None) -> Path:
    """The runs folder of the pages under test."""
    folder = tmp_path / "page-runs"
    monkeypatch.setenv("PRUNING_LAB_RUNS", str(folder))
    monkeypatch.setenv("PRUNING_LAB_WARM", "0")
    return folder


@pytest.fixture
def study(runs: Path) -> Path:
    """A runs folder with a finished comparison."""
    made.make_study(runs, seeds=1)
    return runs


@pytest.fixture
def no_runner(runs: Path) -> Iterator[None]:
    """Holds the runner's lock, so that a launched run waits in the line instead of training."""
    runs.mkdir(parents=True, exist_ok=True)
    lock = RunLock(runs / ".runner.lock")
    assert lock.acquire()
    yield
    lock.release()


@pytest.fixture
def open_page() -> Opener:
    """Opens a page, with the parameters of its address, and runs it."""

    def opened(address: str, **params: Any) -> AppTest:
        page = AppTest.from_file(str(SHELL), default_timeout=60)
        if (
            address != "start"
        ):  # known before the first run too, because a page's file is named like its address
            page.switch_page(f"../pages/{nav.ENTRIES[address].file}")
        for key, value in {k: v for k, v in params.items() if v is not None}.items():
            page.query_params[key] = value
        return page.run()

    return opened


def figures(page: AppTest) -> list[dict[str, Any]]:
    """The figures on a page as the browser gets them."""
    sent = [json.loads(element.proto.json) for element in page.get("bidi_component")]
    return [json.loads(data["figure"]) | {"alt": data["alt"]} for data in sent]


def sent_bytes(page: AppTest) -> int:
    """How much the figures of a page send to the browser."""
    return sum(len(element.proto.json) for element in page.get("bidi_component"))


def words(page: AppTest) -> str:
    """Everything a page says in its messages and texts."""
    parts = [
        *page.error,
        *page.info,
        *page.warning,
        *page.success,
        *page.markdown,
        *page.caption,
        *page.title,
    ]
    return "\n".join(str(part.value) for part in parts)
