"""The bundled comparison: magnitude against movement at four keeps, beside the dense model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import recipes, spec
from analysis.spec import RunSpec
from analysis.store import events, launch
from analysis.store.runs import RunInfo

MODEL, TASK = "bundled:text", "bundled:opinions"
RECIPES = ("magnitude", "movement")
KEEPS = (0.03, 0.1, 0.2, 0.3)
NAME = "Bundled comparison"


def comparison(keeps: Sequence[float] = KEEPS, seed: int = 0) -> list[RunSpec]:
    """What the comparison runs, in the order it is run: the first pair comes first, the dense model next.

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
    return [*pairs[: len(RECIPES)], dense, *pairs[len(RECIPES) :]]


def launch_comparison(runs: Path) -> list[str]:
    """Put the comparison in the line; what the start button does.

    Args:
        runs: runs folder.

    Returns:
        ids of the runs, in the order of ``comparison``.
    """
    return launch.launch_all(runs, [spec.to_dict(planned) for planned in comparison()])


def demo(runs: Path) -> dict[str, Any]:
    """Run the comparison and wait for it.

    Args:
        runs: runs folder.

    Returns:
        ``seconds`` and ``seconds_first_pair`` since the call, ``task``, ``floor`` (majority class),
        ``bag_of_words``, ``dense`` and ``points`` with test accuracies in [0, 1], ``failed`` with the reasons
        of runs that did not end well.
    """
    from analysis.cli.waiting import wait_for

    began = time.monotonic()
    ids = launch_comparison(runs)
    words = bag_of_words()
    wait_for(runs, ids[: len(RECIPES)])
    first = time.monotonic() - began
    ended = wait_for(runs, ids)
    seconds = time.monotonic() - began
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
        "seconds": seconds,
        "seconds_first_pair": first,
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


def bag_of_words() -> float:
    """Test accuracy, in [0, 1], of a logistic regression that sees which words a text holds, not their order."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    from analysis.bundle.grammar import opinions

    train, test = opinions("train"), opinions("test")
    counter = CountVectorizer(binary=True, token_pattern=r"[^\s]+")
    seen = counter.fit_transform([row["text"] for row in train])
    model = LogisticRegression(max_iter=1000).fit(seen, [row["label"] for row in train])
    return float(
        model.score(counter.transform([row["text"] for row in test]), [row["label"] for row in test])
    )
