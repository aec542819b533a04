"""Runs of unlike batch sizes and optimizers meet at equal numbers of gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import frames
from analysis.frames.batches import BATCHES, optimizer_line
from analysis.store import layout
from tests.frames.folder import write_run


def run(path: Path, batch: int, ahead: dict[str, Any] | None = None, **more: Any) -> Path:
    """A finished run of 100 steps with a batch size and a look-ahead."""
    made = write_run(path, **more)
    spec = layout.read_json(made / "spec.json")
    parts = {"optimizer": {**spec["parts"]["optimizer"], "type": "SGD"}}
    if ahead is not None:
        parts["lookahead"] = {"type": "Extrapolation", **ahead}
    layout.write_json(
        made / "spec.json", {**spec, "parts": parts, "training": {**spec["training"], "batch": batch}}
    )
    return made


def test_seeds_meet_at_equal_numbers_of_gradients(tmp_path: Path) -> None:
    paths = [run(tmp_path / f"a-{seed}", 32, seed=seed, value=0.8 + seed / 10) for seed in (0, 1)]
    paths += [run(tmp_path / "b", 64, {"source": "local", "workers": 4}), tmp_path / "nothing-here"]
    found = frames.batches(paths)
    assert list(found.columns) == list(BATCHES)
    ends = found[found["step"] == 100].to_dict("records")
    assert [(e["line"], e["batch"], e["evaluations"], e["runs"]) for e in ends] == [
        ("SGD", 32, 3200.0, 2),
        ("SGD, local look-ahead of 0.25 by 4 workers", 64, 2 * 6400.0, 1),
    ]
    assert [ends[0][k] for k in ("low", "mean", "high")] == pytest.approx([0.81, 0.86, 0.91])
    assert set(found["metric"]) == {"accuracy"}
    middle = found[(found["step"] == 50) & (found["batch"] == 32)].iloc[0]
    assert middle["mean"] == pytest.approx(0.5 + 0.35 * (1 - 2.718281828**-2))  # the mask of the moment


def test_losses_are_gathered_too(tmp_path: Path) -> None:
    found = frames.batches([run(tmp_path / "a", 16)], "loss")
    assert found["evaluations"].tolist() == [16.0 * step for step in range(0, 101, 5)]
    assert found["mean"].iloc[0] == pytest.approx(0.73) and set(found["metric"]) == {"training loss"}


def test_only_seeds_are_averaged(tmp_path: Path) -> None:
    paths = [run(tmp_path / "a", 32), run(tmp_path / "b", 32, lr=0.01), run(tmp_path / "c", 32, keep=0.5)]
    assert sorted(set(frames.batches(paths)["line"])) == [
        "SGD, 0.25 kept, learning rate 0.001",
        "SGD, 0.25 kept, learning rate 0.01",
        "SGD, 0.5 kept",
    ]
    scaled = run(tmp_path / "f", 320, lr=0.01)
    assert set(frames.batches([paths[0], scaled])["line"]) == {"SGD"}
    other = run(tmp_path / "d", 32, recipe="magnitude")
    assert set(frames.batches([paths[0], other])["line"]) == {"movement: SGD", "magnitude: SGD"}
    longer = run(tmp_path / "e", 32, steps=200)
    names = set(frames.batches([paths[0], longer])["line"])
    assert len(names) == 2 and all(name.startswith("SGD, settings ") for name in names)


@pytest.mark.parametrize(
    ("ahead", "line", "cost"),
    [
        (None, "AdamW", 1),
        ({"type": "Extrapolation"}, "AdamW, past adam look-ahead of 0.1", 1),
        ({"type": "Extrapolation", "rho": 0, "source": "global"}, "AdamW", 1),
        ({"type": "Extrapolation", "source": "extra_adam"}, "AdamW, extra adam look-ahead of 0.1", 2),
        ({"type": "Extrapolation", "source": "nesterov"}, "AdamW, nesterov look-ahead", 1),
    ],
)
def test_names_and_costs(ahead: dict[str, Any] | None, line: str, cost: int) -> None:
    assert optimizer_line({"optimizer": {"type": "AdamW"}, "lookahead": ahead}) == (line, cost)


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    assert frames.batches([]).empty and list(frames.batches([]).columns) == list(BATCHES)
    assert frames.batches([run(tmp_path / "a", 32, {"source": "future"})]).empty
    assert frames.batches([write_run(tmp_path / "b")]).empty  # says no batch size
