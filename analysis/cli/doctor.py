"""What this machine has, and what each missing thing greys out."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis.store import queue
from analysis.store.launch import runner_alive
from analysis.store.runs import list_runs

NEEDED = (
    "streamlit", "torch", "transformers", "plotly", "pandas",
    "numpy", "pyarrow", "safetensors", "scikit-learn", "typer",
)  # fmt: skip
OPTIONAL = {
    "datasets": ("data from the Hugging Face hub by name; local files work", "pip install datasets"),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOLDERS = {
    "PRUNING_LAB_MODELS": "models by bare name, and the tests that need real models",
    "PRUNING_LAB_DATA": "datasets by bare name, and the tests that need real data",
    "PRUNING_LAB_CHECKPOINTS": "the tests that open real checkpoints",
}
ENOUGH = 2**30


def examine(runs: Path) -> dict[str, Any]:
    """Look at this machine.

    Args:
        runs: runs folder, looked at but not made.

    Returns:
        a JSON document; ``missing`` lists ``what``, ``greys_out`` and ``how`` to mend it.
    """
    missing: list[dict[str, str]] = []
    packages = _packages(missing)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": queue.cores(),
        "packages": packages,
        "cuda": _cuda(missing, packages),
        "chromium": _browser(missing),
        "online": _online(missing),
        "folders": _folders(missing),
        "runs": _runs(runs, missing),
        "missing": missing,
    }


def _miss(missing: list[dict[str, str]], what: str, greys_out: str, how: str) -> None:
    missing.append({"what": what, "greys_out": greys_out, "how": how})


def _packages(missing: list[dict[str, str]]) -> dict[str, str | None]:
    """Installed versions; None for what is not installed."""
    found: dict[str, str | None] = {}
    for name in (*NEEDED, *OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
            greys_out, how = OPTIONAL.get(name, ("the application itself", "pip install -r requirements.txt"))
            _miss(missing, name, greys_out, how)
    return found


def _cuda(missing: list[dict[str, str]], packages: dict[str, str | None]) -> str | None:
    """Name of the first CUDA device."""
    if packages["torch"] is not None:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    _miss(
        missing,
        "CUDA device",
        "nothing; large models take much longer",
        "run where an NVIDIA GPU and its driver are",
    )
    return None


def _browser(missing: list[dict[str, str]]) -> str | None:
    """Path of a Chromium, which only tests and image files need."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        _miss(
            missing,
            "Chromium",
            "browser tests, saving a figure as an image from a script",
            "apt-get install chromium",
        )
    return found


def _online(missing: list[dict[str, str]]) -> bool:
    """Whether names may be looked up on the Hugging Face hub."""
    online = os.environ.get("PRUNING_LAB_ONLINE", "") == "1"
    if not online:
        _miss(
            missing, "hub access", "models and datasets of the hub that are not on this machine yet",
            "set PRUNING_LAB_ONLINE=1",
        )  # fmt: skip
    return online


def _folders(missing: list[dict[str, str]]) -> dict[str, str | None]:
    """Folders named by environment variables, None where there is none."""
    found: dict[str, str | None] = {}
    for variable, use in FOLDERS.items():
        named = os.environ.get(variable, "")
        found[variable] = named if named and Path(named).is_dir() else None
        if found[variable] is None:
            why = f"${variable} is {named!r}, no folder" if named else f"${variable}"
            _miss(missing, why, use, f"set {variable} to a folder")
    return found


def _runs(runs: Path, missing: list[dict[str, str]]) -> dict[str, Any]:
    """The runs folder: writable, how much space, what is in it."""
    there = runs
    while not there.exists() and there != there.parent:
        there = there.parent
    writable = os.access(there, os.W_OK | os.X_OK) and there.is_dir()
    free = shutil.disk_usage(there).free
    if not writable:
        _miss(
            missing, f"a runs folder to write to ({runs})", "launching runs", "choose another with --runs-dir"
        )
    if free < ENOUGH:
        _miss(
            missing,
            f"disk space ({free / 2**20:.0f} MB free)",
            "runs of large models",
            "delete runs or files",
        )
    found = list_runs(runs, recorded=False)
    return {
        "folder": str(runs),
        "writable": writable,
        "free_bytes": free,
        "runs": len(found),
        "unreadable": sum(run.state == "unreadable" for run in found),
        "runner": runner_alive(runs),
        "at_a_time": queue.queue_limit(runs),
    }
