"""Fixtures every test may use: a runs folder of its own, and real data where the environment says it is."""

from __future__ import annotations

import os

# Before torch or tokenizers are imported anywhere: several pytest workers share two cores, and nothing here
# may wait for a network that is not there.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = "false"

from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("lab", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lab")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} is not set: no folder of {what}")
    path = Path(value).resolve()
    if not path.is_dir():
        pytest.skip(f"{variable}={value} is not a folder")
    return path


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of real Hugging Face model folders ($PRUNING_LAB_MODELS); skips without one."""
    return _folder("PRUNING_LAB_MODELS", "models")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data sets, one folder each ($PRUNING_LAB_DATA); skips without one."""
    return _folder("PRUNING_LAB_DATA", "data")


@pytest.fixture(scope="session")
def checkpoints_dir() -> Path:
    """Folder of other people's checkpoints ($PRUNING_LAB_CHECKPOINTS); skips without one."""
    return _folder("PRUNING_LAB_CHECKPOINTS", "checkpoints")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """An empty runs folder of this test's own."""
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _own_runs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default runs folder is a temporary one, so that no test can write into the clone."""
    monkeypatch.setenv("PRUNING_LAB_RUNS", str(tmp_path_factory.mktemp("default-runs")))


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone: the folder app.py is in."""
    return ROOT
