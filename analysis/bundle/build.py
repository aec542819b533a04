"""Making the bundled models again, with the model card that says how they were made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from analysis.bundle import FOLDER, MODELS
from analysis.errors import ModelError

log = logging.getLogger(__name__)

STEPS = 2000
SEED = 0

Progress = Callable[[int, int, float], None]


def build(
    what: Literal["text", "digits", "all"] = "all",
    seed: int = SEED,
    out: Path | None = None,
    steps: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Make one or all of the bundled models.

    Args:
        what: "text", "digits" or "all".
        seed: 0 for the models that are shipped.
        out: folder that gets a folder per model; the package's own by default, where the shipped models lie.
        steps: pre-training steps; 0 for as many as the shipped models had.
        progress: called after each step with (steps done, steps, loss).

    Returns:
        The folders written.

    Raises:
        ModelError: when there is no bundled model of that name.
    """
    if what not in (*MODELS, "all"):
        raise ModelError(
            f"There is no bundled model {what!r} to build; choose one of: {', '.join(MODELS)}, all."
        )
    names = tuple(MODELS) if what == "all" else (what,)
    folders = []
    for name in names:
        folder = (out or FOLDER) / name
        log.info("building %s in %s", name, folder)
        _MAKERS[name](folder, seed, steps, progress)
        folders.append(folder)
    return folders


def _text(folder: Path, seed: int, steps: int, progress: Progress | None) -> None:
    from analysis.bundle.pretrain import build_text

    build_text(folder, seed, steps or STEPS, progress)


def _digits(folder: Path, seed: int, steps: int, progress: Progress | None) -> None:
    from analysis.bundle import digits

    digits.build_digits(folder, seed, steps or digits.STEPS, progress)


_MAKERS: dict[str, Callable[[Path, int, int, Progress | None], None]] = {"text": _text, "digits": _digits}
