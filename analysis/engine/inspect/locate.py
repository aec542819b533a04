"""From what a person types to a path: a path, a run, a bundled model, a name in a folder, or a hub id."""

from __future__ import annotations

from pathlib import Path

from analysis.engine import hub, model_files
from analysis.errors import ModelError
from analysis.store import layout

CHECKPOINTS = "PRUNING_LAB_CHECKPOINTS"


def locate(text: str, runs: Path | None = None) -> Path:
    """Finds what is to be inspected; nothing is opened, and nothing is downloaded.

    Args:
        text: a path, a run id (with or without "run:"), "bundled:text" or "bundled:digits", a name under
            $PRUNING_LAB_CHECKPOINTS or $PRUNING_LAB_MODELS, or a hub id that is in the cache of this machine.
        runs: the folder of runs; None = the default one.

    Returns:
        a path that exists.

    Raises:
        ModelError: there is nothing of that name.
    """
    words = text.strip()
    if not words or "\0" in words or len(words) > 4096:
        raise ModelError("The path is empty or too long; give a file of weights or a folder that holds one.")
    if words.startswith("bundled:"):
        return model_files.bundled(words)
    path, bare = Path(words), words.removeprefix("run:")
    try:
        path = path.expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError) as error:  # a part too long, ~ of a user who is not there
        raise ModelError(f"The path {words[:80]!r} cannot be followed ({error}); check it.") from None
    run = layout.run_path(runs or layout.default_runs_dir(), bare) if layout.is_id(bare) else None
    if run and run.is_dir():
        return run
    for variable in (CHECKPOINTS, hub.MODELS):
        if found := hub.under(variable, words):
            return found
    if hub.looks_like_path(words):
        raise ModelError(f"There is nothing at {words[:200]!r}; check the path.")
    return hub.snapshot(words, model_files.WANTED, lambda reason: _absent(words, reason), local=True)


def _absent(words: str, reason: str) -> ModelError:
    return ModelError(
        f"{words[:200]!r} is no path and no run, and as the name of a model {reason}; give a path, the id of "
        "a run, a bundled model, or a hub id that was downloaded before."
    )
