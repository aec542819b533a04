"""The bundled comparison: magnitude against movement at four keeps, beside the dense model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from analysis import recipes, spec
from analysis.bundle import bag_of_words
from analysis.spec import RunSpec
from analysis.store import events, launch
from analysis.store.runs import RunInfo
from analysis.store.waiting import wait_for

log = logging.getLogger(__name__)

MODEL, TASK = "bundled:text", "bundled:opinions"
RECIPES = ("magnitude", "movement")
KEEPS = (0.03, 0.1, 0.2, 0.3)
NAME = "Bundled comparison"


def comparison(keeps: Sequence[float] = KEEPS, seed: int = 0) -> list[RunSpec]:
    """What the comparison runs, in the order it is run: pair by pair, the dense model last.

    Args:
        keeps: fractions kept, each in (0, 1]; the first one makes the first pair.
        seed: seed of every run.
    """
    pairs = [
        recipes.build(recipe, MODEL, TASK, keep=keep, seed=seed, name=NAME)
        for keep in keeps
        for recipe in RECIPES
    ]
    dense = recipes.build("dense", MODEL, TASK, keep=1.0, seed=seed, name=NAME)
    return [*pairs, dense]


def launch_comparison(runs: Path, keeps: Sequence[float] = KEEPS) -> list[str]:
    """Put the comparison in the line; what the start button does.

    Args:
        runs: runs folder.
        keeps: fractions kept, each in (0, 1].

    Returns:
        ids of the runs, in the order of ``comparison``.
    """
    return launch.launch_all(runs, [spec.to_dict(planned) for planned in comparison(keeps)])


def demo(
    runs: Path, keeps: Sequence[float] = KEEPS, tell: Callable[[str], None] = log.info
) -> dict[str, Any]:
    """Run the comparison and wait for it.

    Args:
        runs: runs folder.
        keeps: fractions kept, each in (0, 1]; the first one makes the first pair.
        tell: takes a line whenever a run has news.

    Returns:
        ``seconds`` until every recipe is done at every keep, ``seconds_first_pair`` and
        ``seconds_with_dense``, all since the call, ``task``, ``floor`` (majority class),
        ``bag_of_words``, ``dense`` and ``points`` with test accuracies in [0, 1], ``failed`` with the reasons
        of runs that did not end well.
    """
    began = time.monotonic()
    ids = launch_comparison(runs, keeps)
    words = bag_of_words("opinions")
    over: dict[str, float] = {}
    ended = wait_for(runs, ids, tell, over)

    def after(count: int) -> float:
        return max(over[run_id] for run_id in ids[:count]) - began

    measured = {run.id: _test(run) for run in ended}
    rows = [
        {
            "run": run.id,
            "recipe": run.recipe,
            "keep": run.keep,
            "seed": run.seed,
            "value": measured[run.id].get("value"),
            "keep_prunable": measured[run.id].get("keep_prunable"),
            "seconds": run.seconds,
        }
        for run in ended
    ]
    return {
        "seconds": after(len(ids) - 1),
        "seconds_first_pair": after(len(RECIPES)),
        "seconds_with_dense": after(len(ids)),
        "task": TASK,
        "metric": next((m["metric"] for m in measured.values() if "metric" in m), None),
        "floor": next((m["floor"] for m in measured.values() if "floor" in m), None),
        "bag_of_words": words,
        "dense": [row for row in rows if row["recipe"] == "dense"],
        "points": [row for row in rows if row["recipe"] != "dense"],
        "failed": [
            {"run": run.id, "state": run.state, "reason": run.reason} for run in ended if run.state != "done"
        ],
    }


def _test(run: RunInfo) -> dict[str, Any]:
    """The last evaluation of a run on the test split; empty when there is none."""
    found = events.tail(run.path / "events.jsonl", kinds=("eval",)).rows
    return next((row for row in reversed(found) if row.get("split") == "test"), {})
