"""Growth of weights against their scores: the numbers, and nothing where there is nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import frames
from analysis.figures import scatter
from tests.frames.folder import write_run


def test_growth_is_half_the_gain_of_the_square(tmp_path: Path) -> None:
    run = write_run(tmp_path / "movement-1")
    points, grown = frames.points(run), frames.growth(run)
    w0, w = (points[c].to_numpy(dtype=np.float64) for c in ("w0", "w"))
    np.testing.assert_allclose(grown["growth"], (w * w - w0 * w0) / 2, atol=1e-12)
    assert grown["score"].tolist() == points["score"].astype(float).tolist()
    chosen = frames.growth(run, sites=["encoder.layer.1.ffn in"])
    assert 0 < len(chosen) < len(grown) and set(chosen["role"]) == {"ffn in"}


def frame(growth: list[float], score: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"growth": growth, "score": score, "kept": [True] * len(growth)})


def test_agreement_is_the_correlation_of_values_and_of_ranks() -> None:
    (row,) = frames.growth_agreement(frame([1, 2, 3, 4], [1, 8, 27, 64])).to_dict("records")
    assert (row["points"], row["spearman"]) == (4, pytest.approx(1.0))
    assert row["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 8, 27, 64])[0, 1])
    with_gaps = frames.growth_agreement(frame([1, 2, 3, np.nan], [3, 2, 1, 9]))
    assert with_gaps["points"].item() == 3 and with_gaps["pearson"].item() == pytest.approx(-1)
    assert np.isnan(frames.growth_agreement(frame([1, 2], [5, 5]))["pearson"].item())


def test_nothing_gives_an_empty_frame_and_a_figure_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "none-1").mkdir()
    empty = frames.growth(tmp_path / "none-1")
    assert empty.empty and frames.growth_agreement(empty)["points"].item() == 0
    assert scatter.growth(empty, frames.growth_agreement(empty)).layout.annotations
    grown = frame([1.0, 2.0, 3.0], [1.0, 2.0, 2.5])
    words = scatter.growth(grown, frames.growth_agreement(grown)).layout.annotations[0].text
    assert words == "correlation 0.98, of ranks 1.00<br>3 sampled weights"
