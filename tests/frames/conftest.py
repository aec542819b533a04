"""Small run folders, written through the store exactly as a worker writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.frames.folder import write_run


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """One finished run of two layers."""
    return write_run(tmp_path / "runs" / "movement-1", recipe="movement", seed=0)


@pytest.fixture
def empty_run(tmp_path: Path) -> Path:
    """A run folder in which nothing has been written yet."""
    path = tmp_path / "runs" / "queued-1"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
