"""A real server on a free port and a real Chromium; skipped with a reason where there is none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--disable-sync"]
QUIET = ["--disable-background-networking", "--disable-component-update"]
# Streamlit's client looks for these beside a deep link first, and finds them at the root next.
EXPECTED = ("/_stcore/health", "/_stcore/host-config")
PATIENCE = 90_000


def chromium() -> str:
    """The browser named by $PRUNING_LAB_CHROMIUM, else Debian's."""
    path = os.environ.get("PRUNING_LAB_CHROMIUM", "/usr/bin/chromium")
    if not shutil.which(path):
        pytest.skip(f"there is no Chromium at {path}: apt-get install chromium, or set PRUNING_LAB_CHROMIUM")
    return path


@dataclass
class Server:
    """A running server: its address, its process, its runs folder."""

    url: str
    process: subprocess.Popen[bytes]
    runs: Path
    log: Path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_server(runs: Path, cwd: Path) -> Server:
    """Starts `streamlit run app.py` from some other folder and waits until its health check answers."""
    port = free_port()
    log = cwd / "server.log"
    environment = {
        **os.environ,
        "PRUNING_LAB_RUNS": str(runs),
        "PRUNING_LAB_IDLE": "1",
        "PRUNING_LAB_WARM": "0",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(port)]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return Server(url, process, runs, log)
        except OSError:
            time.sleep(0.25)
    process.kill()
    raise AssertionError(f"the server did not answer: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests."""
    path = chromium()
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as player:
        found = player.chromium.launch(executable_path=path, headless=True, args=[*ARGUMENTS, *QUIET])
        yield found
        found.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], Server]]:
    """Starts servers that end with the test."""
    started: list[Server] = []

    def start(runs: Path) -> Server:
        started.append(start_server(runs, tmp_path))
        return started[-1]

    yield start
    for server in started:
        os.killpg(server.process.pid, signal.SIGTERM)
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait(10)


@dataclass
class Tab:
    """A browser page that remembers what went wrong in it."""

    page: Any
    trouble: list[str] = field(default_factory=list)

    def open(self, url: str) -> Tab:
        """Opens an address and waits for its first figure."""
        self.page.goto(url, wait_until="domcontentloaded")
        self.page.wait_for_selector(".lab-chart[data-ready=yes]", timeout=PATIENCE)
        self.settle()
        return self

    def settle(self) -> None:
        """Waits until the page's script has ended."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector(
            "[data-testid=stApp][data-test-script-state=notRunning]", timeout=PATIENCE
        )

    def drawn(self) -> list[int]:
        """How many points, bars and cells each figure of the page holds."""
        script = """() => [...document.querySelectorAll('.lab-chart')].map(chart =>
            (chart._fullData || []).reduce((sum, t) => sum + ((t.x || t.z || []).length || 0), 0))"""
        return list(self.page.evaluate(script))


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, each with a session of its own."""
    contexts: list[Any] = []

    def fresh(**options: Any) -> Tab:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        made = Tab(context.new_page())
        made.page.on("pageerror", lambda error: made.trouble.append(str(error)))

        def heard(message: Any) -> None:
            where = (message.location or {}).get("url", "")
            if message.type == "error" and not where.endswith(EXPECTED):
                made.trouble.append(f"{message.text} {where}")

        made.page.on("console", heard)
        return made

    yield fresh
    for context in contexts:
        context.close()
