"""The server as it is shipped: bound to this machine alone, and deaf to other names."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number = int(found.getsockname()[1])
    folder = tmp_path_factory.mktemp("server")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PRUNING_LAB_RUNS": str(folder / "runs"),
        "PRUNING_LAB_WARM": "0",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(number)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            if ask(number, "/_stcore/health") == 200:
                break
        except OSError:
            time.sleep(0.1)
    yield number
    process.terminate()
    process.wait(20)


def ask(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def upgrade(port: int, host: str, origin: str) -> bytes:
    """The first line with which a WebSocket's opening is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(
            f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        return wire.recv(1024).split(b"\r\n")[0]


def test_c1_a_foreign_host_is_refused_and_this_machine_is_not(port: int) -> None:
    own, foreign = f"127.0.0.1:{port}", "evil.example"
    assert ask(port, "/") == 200 and ask(port, "/", Host=f"localhost:{port}") == 200
    for path in ("/", "/checkpoint", "/_stcore/host-config"):
        assert ask(port, path, Host=foreign) in (400, 403, 421), path
    assert b" 101 " in upgrade(port, own, f"http://{own}")
    for host, origin in ((foreign, f"http://{foreign}"), (own, f"http://{foreign}")):
        assert b" 101 " not in upgrade(port, host, origin), (host, origin)


def test_c2_only_the_loopback_is_bound(port: int) -> None:
    found = []
    for name in ("tcp", "tcp6"):
        table = Path(f"/proc/net/{name}")
        rows = [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
        places = [row[1].rsplit(":", 1) for row in rows if row[3] == "0A"]  # listening
        found += [address for address, number in places if int(number, 16) == port]
    assert found == ["0100007F"]


def test_what_is_shipped_is_what_was_tried() -> None:
    shipped = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["server"]
    assert shipped["address"] == "127.0.0.1" and set(shipped["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert shipped["maxUploadSize"] <= 16 and not shipped["enableStaticServing"]
