from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import recipes, spec
from analysis.store import runs


class Made:
    """Makes run folders in one runs folder, without an engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def spec(self, recipe: str = "movement", **changes: Any) -> dict[str, Any]:
        """JSON of a valid spec."""
        keep = 1.0 if recipe == "dense" else 0.1
        settings = {"keep": keep, "seed": 0, **changes}
        return spec.to_dict(recipes.build(recipe, "bundled:text", "bundled:opinions", **settings))

    def run(self, state: str = "done", **changes: Any) -> Path:
        """A run in some state on file; nobody works on it."""
        path = self.folder / runs.create_run(self.folder, self.spec())
        runs.set_state(path, state=state, **changes)
        return path


@pytest.fixture
def made(runs_dir: Path) -> Made:
    return Made(runs_dir)
