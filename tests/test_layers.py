"""The import law between the rooms of the house, and the sizes its files keep to."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE, MAX_FUNCTION, MAX_PAGE = 300, 60, 90

HEAVY = ("torch", "transformers")
INK = ("plotly", "streamlit")
# Outside packages a room must not import, then rooms it must not import: arrows never turn back.
LAW: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "analysis/spec": ((*HEAVY, "pandas", *INK), ("engine", "store", "frames", "figures", "ui", "cli")),
    "analysis/store": ((*HEAVY, *INK), ("engine", "frames", "figures", "ui", "cli")),
    "analysis/parts": (("pandas", *INK), ("recipes", "engine", "store", "frames", "figures", "ui", "cli")),
    "analysis/recipes": (("pandas", *INK), ("engine", "store", "frames", "figures", "ui", "cli")),
    "analysis/engine": (INK, ("frames", "figures", "ui", "cli")),
    "analysis/bundle": (INK, ("figures", "ui", "cli")),
    "analysis/frames": ((*HEAVY, *INK), ("engine", "figures", "ui", "cli")),
    "analysis/figures": ((*HEAVY, "streamlit"), ("engine", "store", "ui", "cli")),
    "analysis/ui": (HEAVY, ("cli",)),
    "analysis/shell": (HEAVY, ("cli",)),
    "analysis/cli": (("streamlit",), ("ui",)),
    "pages": ((*HEAVY, "numpy", "plotly", "math"), ("engine", "cli")),
    "app": ((*HEAVY, "numpy", "plotly", "math"), ("engine", "cli")),
}
# What the server imports; none of it may pull in torch, whatever the file that asks for it says.
# Gates are torch modules, LARS a torch optimizer; parts import them only when a worker asks for one.
WORKER_ONLY = {
    "analysis.parts.concrete_gate",
    "analysis.parts.gates",
    "analysis.parts.lars",
    "analysis.parts.lowrank_gate",
    "analysis.parts.shares",
}
SERVER_ROOMS = ("spec", "parts", "recipes", "store", "frames", "figures", "ui", "shell")


def sources() -> list[Path]:
    """Every Python file we wrote that is not a test."""
    files = [*(ROOT / "analysis").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "app.py"]
    return sorted(f for f in files if f.exists())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str | None:
    name = name_of(path)
    return next((room for room in LAW if name == f"{room}.py" or name.startswith(f"{room}/")), None)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of every import, those inside functions too, relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def breaks_law(path: Path, text: str) -> list[str]:
    room = room_of(path)
    if room is None:
        return []
    outside, inside = LAW[room]
    forbidden = (*outside, *(f"analysis.{other}" for other in inside))
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return [
        f"{name_of(path)}:{line} imports {name}"
        for line, name in imports(ast.parse(text), package)
        if any(name == f or name.startswith(f + ".") for f in forbidden)
    ]


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_import_law(path: Path) -> None:
    assert breaks_law(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("analysis/store/x.py", "def f():\n    import torch.nn"),
        ("analysis/store/x.py", "from analysis.engine import train"),
        ("analysis/store/x.py", "from ..engine import train"),
        ("analysis/figures/x.py", "from analysis.store.layout import ROOT"),
        ("analysis/frames/x.py", "from plotly import graph_objects"),
        ("pages/inspect/x.py", "import math"),
        ("app.py", "from numpy import ndarray"),
    ],
)
def test_the_law_is_seen_to_be_broken(file: str, text: str) -> None:
    """The check itself bites: a forbidden import is found in every form Python has for it."""
    assert len(breaks_law(ROOT / file, text)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("analysis/store/x.py", "import numpy as np\nfrom analysis.errors import RunError"),
        ("analysis/frames/x.py", "from analysis import store\nimport pandas"),
        ("analysis/engine/x.py", "import torch\nfrom analysis.parts import scores"),
    ],
)
def test_the_law_lets_the_rest_through(file: str, text: str) -> None:
    assert breaks_law(ROOT / file, text) == []


def modules_of(room: str) -> list[str]:
    folder = ROOT / "analysis" / room
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    dotted = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files if f.exists()]
    return [name.removesuffix(".__init__") for name in dotted if name not in WORKER_ONLY]


def loaded_after(modules: list[str], watched: tuple[str, ...]) -> list[str]:
    """Imports the modules in a fresh interpreter and returns which of the watched packages came along."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([w for w in {watched!r} if w in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_server_side_leaves_torch_out() -> None:
    modules = [name for room in SERVER_ROOMS for name in modules_of(room)]
    assert "analysis.recipes" in modules
    assert loaded_after(modules, HEAVY) == []


def test_specs_and_recipes_stay_light() -> None:
    modules = [name for room in ("spec", "parts", "recipes") for name in modules_of(room)]
    assert loaded_after(modules, (*HEAVY, "pandas", "plotly", "streamlit")) == []


def test_the_store_leaves_the_drawing_out() -> None:
    assert loaded_after(modules_of("store"), (*HEAVY, "plotly", "streamlit")) == []


def test_the_engine_leaves_the_pages_out() -> None:
    modules = modules_of("engine")
    assert "analysis.engine.train" in modules
    assert loaded_after(modules, INK) == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    limit = MAX_PAGE if name_of(path).startswith("pages/") else MAX_FILE
    assert len(text.splitlines()) <= limit, f"{name_of(path)} is longer than {limit} lines: can it be two?"
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION
    ]
    assert long == []


def test_pages_are_in_sections() -> None:
    """A script directly in pages/ makes Streamlit guess its old multipage mode on the first deep link."""
    assert sorted((ROOT / "pages").glob("*.py")) == []
