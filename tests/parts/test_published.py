"""The published curves of the paper, read by our own comparison: where magnitude and movement cross."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from analysis.frames import verdict

# remaining % of the encoder -> SQuAD F1 or MNLI accuracy, from the authors' own sheet (rounded)
SQUAD = {
    "magnitude": {90: 87.5, 60: 87.3, 40: 87.0, 30: 86.3, 20: 84.8, 10: 78.5, 6: 70.7, 3: 54.5},
    "movement": {90: 87.2, 70: 85.0, 50: 83.2, 30: 82.4, 10: 81.7, 8: 81.2, 5: 79.6, 3: 76.3},
}
MNLI = {
    "magnitude": {90: 84.0, 60: 83.9, 40: 84.0, 30: 83.2, 20: 81.6}
    | {10: 77.8, 6: 73.8, 3: 68.9, 2: 66.3, 1: 62.9},
    "movement": {90: 84.3, 70: 82.5, 50: 81.4, 30: 80.7, 10: 79.3, 5: 78.0, 3: 76.1, 1: 71.3},
}


@pytest.mark.parametrize(("published", "crossing"), [(SQUAD, 15.5), (MNLI, 15.0)])
def test_crossover_of_magnitude_and_movement(published: dict[str, dict[int, float]], crossing: float) -> None:
    rows = [
        {"recipe": recipe, "keep": left / 100, "runs": 1, "metric": "score", "variant": ""}
        | {"mean": value, "low": value, "high": value}
        for recipe, points in published.items()
        for left, value in points.items()
    ]
    sentences = verdict(pd.DataFrame(rows).sort_values(["recipe", "keep"]))
    crossed = [s for s in sentences if "cross" in s]
    found = float(re.search(r"near ([\d.]+) %", crossed[0]).group(1))  # type: ignore[union-attr]
    assert found == pytest.approx(crossing, abs=1.0)  # ours goes straight in log keep, theirs in keep
    assert "magnitude is higher above it, movement below it" in crossed[0]
    at_three = next(s for s in sentences if s.startswith("With about 3 %"))
    gap = published["movement"][3] - published["magnitude"][3]
    assert f"movement leads magnitude by {gap:.1f}" in at_three
