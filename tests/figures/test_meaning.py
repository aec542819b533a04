"""Figures say what their frames say: the numbers drawn are the numbers given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import frames
from analysis.figures import (
    batches,
    compare,
    compare_zeros,
    curves,
    density,
    front,
    layers,
    live,
    overlap,
    picture,
    probe,
    scatter,
)


def plane() -> pd.DataFrame:
    rows = [(0.5, 0.5, 10, 0), (1.5, 0.5, 0, 100), (1.5, 1.5, 1, 1)]
    x, y, kept, pruned = map(list, zip(*rows, strict=True))
    return pd.DataFrame({"x": x, "y": y, "dx": [1.0] * 3, "dy": [1.0] * 3, "kept": kept, "pruned": pruned})


def test_the_grid_of_a_plane_has_every_count_in_its_cell() -> None:
    x, y, kept, pruned = density.grid(plane())
    assert x.tolist() == y.tolist() == [0, 1, 2]
    assert kept.tolist() == [[10, 0], [0, 1]] and pruned.tolist() == [[0, 100], [0, 1]]


def test_codes_separate_kept_pruned_mixed_and_empty() -> None:
    _, _, kept, pruned = density.grid(plane())
    codes = density.codes(kept, pruned)
    assert codes[1, 0] == density.EMPTY
    bands = codes // density.LEVELS
    assert (bands[0, 0], bands[0, 1], bands[1, 1]) == (4, 0, 2)
    assert codes[0, 1] % density.LEVELS == density.LEVELS - 1
    only = density.codes(kept, pruned, "kept")
    assert only[0, 1] == density.EMPTY and only[1, 1] // density.LEVELS == 4


def test_bins_of_unequal_width_and_a_missing_column_keep_their_place() -> None:
    frame = pd.DataFrame(
        {
            "x": [0.5, 3.5],
            "y": [0.05, 0.05],
            "dx": [1.0, 1.0],
            "dy": [0.1, 0.1],
            "kept": [1, 2],
            "pruned": [0, 0],
        }
    )
    x, _, kept, _ = density.grid(frame)
    assert x.tolist() == [0, 1, 3, 4] and kept.tolist() == [[1, 0, 2]]


def test_the_plane_selects_by_box_and_writes_its_quadrants() -> None:
    bins = plane()
    points = pd.DataFrame({"w": [0.1, 0.2], "score": [0.1, 0.2], "kept": [True, False]})
    figure = scatter.weight_score(bins, points, threshold=1.0, quadrants=frames.quadrants(bins), split=1.0)
    assert figure.layout.dragmode == "select"
    words = " ".join(a.text for a in figure.layout.annotations)
    assert "large, rising" in words and "small, falling" in words and "threshold" in words
    kinds = [trace.type for trace in figure.data]
    assert kinds == ["heatmap", "scattergl", "scattergl"]
    assert figure.data[1].marker.symbol == "circle-open" and figure.data[2].marker.symbol == "circle"
    assert figure.data[0].customdata.sum() == 112


def test_start_final_draws_the_line_of_weights_that_did_not_move() -> None:
    points = pd.DataFrame({"w0": [0.1], "w": [0.2], "kept": [True]})
    line = scatter.start_final(plane(), points).data[-1]
    assert list(line.x) == list(line.y) and line.name == "not moved"


def test_heat_is_in_reading_order_and_adds_sites_up() -> None:
    sites = pd.DataFrame(
        {
            "site": list("abcd"),
            "role": ["ffn out", "query", "query", "key"],
            "layer": [0, 0, 0, 1],
            "weights": [100, 50, 150, 10],
            "kept": [10.0, 50.0, 50.0, 1.0],
        }
    )
    trace = layers.heat(sites).data[0]
    assert list(trace.x) == ["query", "key", "feed-forward out"] and list(trace.y) == ["0", "1"]
    assert np.allclose(trace.z[0][[0, 2]], [50, 10]) and np.isclose(trace.z[1][1], 10)
    assert np.allclose(layers.heat(sites, "sparsity").data[0].z[0][[0, 2]], [50, 90])


def test_overlap_shows_chance_beside_every_bar() -> None:
    frame = pd.DataFrame(
        {
            "site": ["q", "overall"],
            "role": ["query", ""],
            "layer": [0, -1],
            "kept_a": [1, 1],
            "kept_b": [1, 1],
        }
    ).assign(both=1, jaccard=[0.4, 0.3], expected=[0.1, 0.05])
    measured, chance = overlap.bars(frame).data
    assert list(measured.x) == list(chance.x) == ["0 query", "all together"]
    assert np.allclose(measured.y, [0.4, 0.3]) and np.allclose(chance.y, [0.1, 0.05])


def line(runs: int = 3, **more: object) -> pd.DataFrame:
    rows = {"recipe": ["movement"] * 2, "keep": [0.03, 0.3], "mean": [0.8, 0.9], "low": [0.7, 0.85]}
    return pd.DataFrame({**rows, "high": [0.85, 0.95], "runs": [runs] * 2, **more})


def test_seeds_are_a_band_and_single_runs_are_none() -> None:
    with_band, without = (curves.accuracy_keep(line(n)) for n in (3, 1))
    assert [t.fill for t in with_band.data] == ["toself", None] and len(without.data) == 1
    band, mean = with_band.data
    assert np.allclose(band.y, [0.85, 0.95, 0.85, 0.7]) and np.allclose(mean.x, [3, 30])
    assert np.allclose(mean.customdata, [[0.7, 0.85, 3], [0.85, 0.95, 3]])


def test_estimated_and_published_points_are_hollow_recorded_and_own_differ() -> None:
    printed = pd.DataFrame({"recipe": ["movement"], "keep": [0.1], "value": [0.7], "source": ["table 2"]})
    own = pd.DataFrame(
        {"recipe": ["movement"] * 2, "keep": [0.1] * 2, "value": [0.7] * 2, "recorded": [True, False]}
    )
    figure = curves.accuracy_keep(
        line(1, estimated=[True, False]), own, published=printed, floor=0.5, dense=0.95
    )
    mean, recorded, mine, paper = figure.data
    assert list(mean.marker.symbol) == ["circle-open", "circle"]
    assert recorded.marker.size < mine.marker.size and paper.marker.symbol == "circle-open"
    words = [a.text for a in figure.layout.annotations]
    assert any("floor" in w for w in words) and any("dense" in w for w in words)


def test_published_global_rankings_have_a_dot_where_a_recipe_has_local_ones_too() -> None:
    printed = pd.DataFrame(
        {
            "recipe": ["movement", "movement", "l0"],
            "scope": ["local", "global", "global"],
            "source": "a sheet",
        }
    ).assign(keep=0.02, value=0.7)
    named = {t.name: t for t in curves.accuracy_keep(line(1), published=printed).data[1:]}
    assert {name: t.marker.symbol for name, t in named.items()} == {
        "L0 (published)": "triangle-up-open",
        "movement, global (published)": "circle-open-dot",
        "movement (published)": "circle-open",
    }
    assert named["movement (published)"].text == ("a sheet",)
    ticks = curves.accuracy_keep(line(1), published=printed).layout.xaxis.tickvals
    assert 2 in ticks


def test_panels_split_the_lines_and_name_each_recipe_once() -> None:
    both = pd.concat([line().assign(lr=1e-3), line().assign(lr=3e-3)])
    figure = curves.accuracy_keep(both, None, facet="lr", floor=0.5)
    assert sum(bool(t.showlegend) for t in figure.data) == 1
    assert {t.xaxis for t in figure.data} == {"x", "x2"}
    assert {"lr 0.001", "lr 0.003"} <= {a.text for a in figure.layout.annotations}


def test_other_settings_are_a_paler_line_with_its_own_dash_and_name() -> None:
    both = pd.concat([line(3, variant=""), line(1, variant="other settings (ab12cd34)")])
    figure = curves.accuracy_keep(both)
    _, plain, other = figure.data
    assert [t.name for t in figure.data if t.showlegend is not False] == [
        "movement",
        "movement, other settings (ab12cd34)",
    ]
    assert plain.line.color == other.line.color and plain.line.dash != other.line.dash
    assert other.opacity < plain.opacity == 1 and "other settings" in figure.layout.meta["how_to_read"]
    assert len(curves.accuracy_keep(line(1)).data) == 1


def test_the_metric_of_now_is_filled_and_of_the_final_cut_hollow() -> None:
    evals = pd.DataFrame(
        {
            "progress": [0.5, 0.5],
            "split": ["validation"] * 2,
            "cut": ["current", "final"],
            "metric": ["f1"] * 2,
        }
    ).assign(value=[0.8, 0.6], floor=0.5)
    now, final = live.metric(evals).data
    assert now.marker.symbol == "circle" and final.marker.symbol == "circle-open"
    assert np.allclose(now.x, [50]) and np.allclose(final.y, [0.6])


def test_a_mask_picture_has_one_pixel_a_block_and_a_line_between_heads() -> None:
    frame = pd.DataFrame({"row": [0, 0, 2, 2], "col": [0, 2, 0, 2], "keep": [1.0, 0.0, 0.25, 0.5]})
    figure = picture.mask_picture(frame, heads=2, shape=(4, 4))
    assert figure.data[0].z.tolist() == [[100, 0], [25, 50]] and figure.data[0].z.dtype == np.uint8
    assert figure.data[0].y.tolist() == [-0.5, 1.5, 3.5]
    assert [s.y0 for s in figure.layout.shapes] == [1.5]


def test_a_front_is_a_staircase_and_the_other_trials_are_hollow() -> None:
    macs = [1e9, 2e9, 4e9]
    trials = pd.DataFrame({"recipe": ["movement"] * 3, "macs": macs, "test": [0.5, 0.4, 0.7]})
    trials = trials.assign(validation=trials["test"], keep=0.5, lr=1e-3, front=[True, False, True])
    others, stairs = front.accuracy_compute(trials).data
    assert list(others.x) == [2e9] and others.marker.symbol == "circle-open" and others.mode == "markers"
    assert list(stairs.x) == [1e9, 4e9] and np.allclose(stairs.y, [0.5, 0.7])
    assert stairs.line.shape == "hv" and [t.showlegend for t in (others, stairs)] == [False, True]
    axis = front.accuracy_compute(trials).layout.xaxis
    assert axis.type == "log" and "multiply-adds" in axis.title.text
    assert list(axis.ticktext) == ["1 G", "2 G", "5 G", "10 G", "20 G", "50 G"]


def test_large_batch_draws_a_panel_per_size_and_one_style_per_line() -> None:
    rows = [("AdamW", 256, 512, 0.7), ("SGD", 32, 64, 0.6), ("AdamW", 32, 64, 0.8), ("AdamW", 32, 32, 0.5)]
    line, batch, spent, mean = map(list, zip(*rows, strict=True))
    frame = pd.DataFrame({"line": line, "batch": batch, "evaluations": spent, "mean": mean, "step": [1] * 4})
    frame = frame.assign(low=frame["mean"] - 0.1, high=frame["mean"] + 0.1, runs=[1, 1, 2, 2], metric="f1")
    figure = batches.large_batch(frame, floor=0.5)
    assert [a.text for a in figure.layout.annotations] == ["32 examples per step", "256 examples per step"]
    lines = [t for t in figure.data if t.fill is None]
    assert [(t.name, t.xaxis, t.showlegend) for t in lines] == [
        *(("AdamW", "x", True), ("SGD", "x", True), ("AdamW", "x2", False))
    ]
    assert lines[0].x.tolist() == [32, 64] and np.allclose(lines[0].y, [0.5, 0.8])
    assert lines[0].line == lines[2].line and lines[0].line.color != lines[1].line.color
    (band,) = [t for t in figure.data if t.fill]
    assert np.allclose(band.y, [0.6, 0.9, 0.7, 0.4])
    assert figure.layout.xaxis.title.text == "gradients evaluated (examples)"
    assert figure.layout.yaxis.title.text == "f1 on the validation split (fraction)"


def test_distances_are_in_reading_order_and_in_per_cent() -> None:
    rows = {"layer": [1, 0], "role": ["ffn out", "query"], "weights": [10, 20], "relative": [0.5, 0.02]}
    cells = pd.DataFrame({**rows, "cosine": [0.9, -0.2], "flipped": [0.1, 0.0]})
    trace = compare.distance(cells).data[0]
    assert list(trace.x) == ["query", "feed-forward out"] and list(trace.y) == ["0", "1"]
    assert np.allclose([trace.z[0][0], trace.z[1][1]], [2, 50]) and np.isnan(trace.z[0][1])
    trace = compare.distance(cells, "cosine").data[0]
    assert np.isclose(trace.z[0][0], -0.2) and trace.zmin == -0.2 and trace.zmax == 0.9


def test_two_values_stand_in_their_cells_with_zero_in_the_middle() -> None:
    rows = [(-2, -2, -0.1, -0.1, 5), (0, 1, 0.0, 0.01, 2), (2, 0, 0.1, 0.0, 7)]
    a_bin, b_bin, a, b, count = map(list, zip(*rows, strict=True))
    plane = pd.DataFrame({"a_bin": a_bin, "b_bin": b_bin, "a": a, "b": b, "count": count})
    cells, line = compare.values(plane).data
    assert cells.z.shape == (5, 5) and len(cells.x) == 6 and cells.x[2] == -cells.x[3] == -1
    counts = cells.customdata[:, :, 0]
    assert (counts[0, 0], counts[3, 2], counts[2, 4], counts.sum()) == (5, 2, 7, 14)
    assert np.isfinite(cells.z).sum() == 3
    assert cells.z[2, 4] < density.LEVELS <= min(cells.z[0, 0], cells.z[3, 2]), (
        "zero in B has a hue of its own"
    )
    assert list(line.x) == list(line.y) and line.name == "unchanged"
    alt = compare.values(plane).layout.meta["alt"]
    assert "14 weights" in alt and "7 became zero" in alt


def test_kept_by_size_has_a_bar_a_tenth_and_a_line_at_chance() -> None:
    tenths = pd.DataFrame({"tenth": [1, 2], "low": 0.1, "high": 0.2, "weights": 10.0, "kept": [1.0, 9.0]})
    figure = compare_zeros.kept(tenths.assign(share=tenths["kept"] / 10, chance=0.5))
    bars, chance = figure.data
    assert np.allclose(bars.y, [10, 90]) and np.allclose(chance.y, 50) and chance.name == "chance, 50.0 %"


def test_zeros_gained_go_up_and_zeros_lost_go_down() -> None:
    rows = {"tensor": ["x", "y", "z"], "layer": [0, 1, -1], "role": ["query", "bias", ""], "compared": 10.0}
    figure = compare_zeros.zeros(
        pd.DataFrame({**rows, "zeros_gained": [5.0, 0, 0], "zeros_lost": [1.0, 2, 0]})
    )
    gained, lost = figure.data
    assert list(gained.x) == ["0 query", "y"], "a tensor without any change is left out"
    assert np.allclose(gained.y, [50, 0]) and np.allclose(lost.y, [-10, -20])


def test_estimated_points_are_hollow_with_error_bars_and_verified_ones_filled() -> None:
    keep, state = [1.0, 0.5, 0.5, 0.1], ["verified", "estimated", "verified", "estimated"]
    points = pd.DataFrame({"keep": keep, "state": state, "value": [0.9, 0.8, 0.85, 0.6], "error": [0.02] * 4})
    points = points.assign(by=["", *["magnitude"] * 3], scope=["", *["global"] * 3], rows=9)
    points["sparsity"] = [0.0, 0.5, 0.5, 0.9]
    figure = probe.cost(points, floor=0.5)
    (trace,) = figure.data
    assert np.allclose(trace.x, [10, 50, 100]) and np.allclose(trace.y, [0.6, 0.85, 0.9])
    assert [s.endswith("-open") for s in trace.marker.symbol] == [True, False, False]
    assert np.allclose(trace.error_y.array, [0.02, 0, 0])
    assert trace.name == "by magnitude, ranked over all matrices at once"
    assert [a.text for a in figure.layout.annotations] == ["as opened", "floor: learnt nothing"]
    assert [s.y0 for s in figure.layout.shapes] == [0.9, 0.5] and list(figure.layout.xaxis.tickvals) == [
        10,
        50,
        100,
    ]
    sparse = probe.cost(points.assign(sparsity=[0.5, 0.5, 0.5, 0.9]), floor=0.5)
    assert np.allclose(sparse.data[0].x, [10, 50, 50]), "what is zero as opened cannot be kept"


def test_latency_is_in_milliseconds_with_quartiles_and_leaves_out_what_is_not_there() -> None:
    times = pd.DataFrame({"variant": ["dense", "CSR", "masked"], "seconds": [0.01, np.nan, 0.011]})
    times = times.assign(low=[0.009, np.nan, 0.01], high=[0.012, np.nan, 0.0125], ratio=[1, np.nan, 1.1])
    (bars,) = probe.latency(times.assign(kernel="MKL")).data
    assert list(bars.y) == ["dense", "masked"] and np.allclose(bars.x, [10, 11])
    assert np.allclose(bars.error_x.array, [2, 1.5]) and np.allclose(bars.error_x.arrayminus, [1, 1])
    assert list(bars.text) == ["1.00 ×", "1.10 ×"] and list(bars.customdata) == ["MKL", "MKL"]
