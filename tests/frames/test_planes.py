"""The planes: sums, boxes and quadrants against a brute-force count over every weight."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import frames
from analysis.figures import scatter
from analysis.store import arrays
from tests.frames.folder import sites_json, top, weights_of, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("planes") / "movement-1")


@pytest.mark.parametrize("kind", ["score", "start"])
def test_a_plane_holds_every_weight_once(run: Path, kind: str) -> None:
    plane, sites = frames.plane(run, kind), frames.sites(run)
    assert plane["kept"].sum() == sites["kept"].sum()
    assert (plane["kept"] + plane["pruned"]).sum() == sites["weights"].sum() == 1536
    assert ((plane["kept"] + plane["pruned"]) > 0).all()


def test_a_plane_of_some_sites_adds_up_to_the_whole(run: Path) -> None:
    names = frames.sites(run)["site"].tolist()
    parts = [frames.plane(run, sites=[name]) for name in names]
    assert sum(int(p["kept"].sum() + p["pruned"].sum()) for p in parts) == 1536
    assert frames.plane(run, sites=[]).empty and frames.plane(run, sites=["unknown"]).empty


@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_a_box_counts_exactly_the_weights_of_its_bins(run: Path, corners: tuple[float, ...]) -> None:
    edges = arrays.load_planes(run / "histograms" / "000100.npz")
    x, y = edges["weight_edges"].astype(float), edges["score_edges"].astype(float)
    x0, x1 = (x[0] + c * (x[-1] - x[0]) for c in corners[:2])
    y0, y1 = (y[0] + c * (y[-1] - y[0]) for c in corners[2:])
    found = frames.box(run, "score", x0, x1, y0, y1)
    snapped = found.attrs["box"]
    if snapped is None:
        assert found["weights"].sum() == 0
        return
    for site in sites_json()["sites"]:
        m = weights_of(site, "movement", 0)
        inside = (m["w"] >= snapped[0]) & (m["w"] < snapped[1])
        inside &= (m["score"] >= snapped[2]) & (m["score"] < snapped[3])
        row = found[found["site"] == site["site"]].iloc[0]
        assert row["weights"] == inside.sum()
        assert row["kept"] == (inside & top(m["score"], 0.25)).sum()


def test_a_box_around_everything_and_one_around_nothing(run: Path) -> None:
    everything = frames.box(run, "score", 9, -9, 99, -99)
    assert everything["weights"].sum() == 1536 and everything["kept"].sum() == frames.sites(run)["kept"].sum()
    assert everything["role"].tolist() == frames.sites(run)["role"].tolist()
    assert frames.box(run, "score", 5, 6, 5, 6)["weights"].sum() == 0
    assert frames.box(run, "score", -9, 9, -99, 99, sites=["encoder.layer.1.key"])["weights"].tolist() == [64]


def test_the_quadrants_hold_every_weight(run: Path) -> None:
    plane = frames.plane(run)
    quarters = frames.quadrants(plane)
    assert quarters["weights"].sum() == 1536 and quarters["kept"].sum() == plane["kept"].sum()
    assert quarters[["size", "score"]].to_numpy().tolist() == [
        ["large", "rising"],
        ["large", "falling"],
        ["small", "rising"],
        ["small", "falling"],
    ]


def test_magnitude_keeps_mostly_large_weights_and_its_scores_never_fall(tmp_path: Path) -> None:
    run = write_run(tmp_path / "m-1", recipe="magnitude", layers=1, bins=64)
    quarters = frames.quadrants(frames.plane(run)).set_index(["size", "score"])
    kept_small = quarters.loc[("small", "rising"), "kept"]
    assert quarters.loc[("large", "rising"), "kept"] > 4 * kept_small
    assert quarters.loc[("large", "falling"), "weights"] == 0


def test_points_carry_role_layer_and_the_true_index(run: Path) -> None:
    points = frames.points(run)
    assert len(points) == 12 * 40
    chosen = frames.points(run, sites=["encoder.layer.1.ffn in"])
    site = next(s for s in sites_json()["sites"] if s["site"] == "encoder.layer.1.ffn in")
    m = weights_of(site, "movement", 0)
    assert set(chosen["role"]) == {"ffn in"} and set(chosen["layer"]) == {1}
    assert np.array_equal(chosen["w"], m["w"].reshape(-1)[chosen["index"]])
    assert np.array_equal(chosen["kept"], top(m["score"], 0.25).reshape(-1)[chosen["index"]])


def test_planes_whose_arrays_disagree_are_refused(run: Path, tmp_path: Path) -> None:
    path = write_run(tmp_path / "odd-1")
    file = path / "histograms" / "000100.npz"
    found = arrays.load_planes(file)
    arrays.save_planes(file, {**found, "weight_edges": found["weight_edges"][:-1]})
    assert frames.plane(path).empty and len(frames.plane(run))


def test_the_plane_of_a_ten_million_weight_model_is_built_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    path = write_run(tmp_path / "big-1", layers=6, width=96, bins=96)
    file = path / "histograms" / "000100.npz"
    found = arrays.load_planes(file)
    scaled = {k: v * 16 if k.endswith(("kept", "pruned")) else v for k, v in found.items()}
    arrays.save_planes(file, scaled)
    scatter.weight_score(frames.plane(path), frames.points(path))
    spent = []
    for _ in range(5):
        begin = time.process_time()
        plane = frames.plane(path)
        figure = scatter.weight_score(plane, frames.points(path))
        spent.append(time.process_time() - begin)
    assert int((plane["kept"] + plane["pruned"]).sum()) == 10_616_832
    assert min(spent) < 0.1 and len(figure.to_json()) < 500_000


def test_a_far_outlier_neither_shrinks_the_picture_nor_leaves_the_count(tmp_path: Path) -> None:
    path = write_run(tmp_path / "far-1", layers=1)
    file = path / "histograms" / "000100.npz"
    found = arrays.load_planes(file)
    edges = found["weight_edges"].copy()
    true_low, true_high = edges[0] - 100, edges[-1] + 50
    edges[0], edges[-1] = true_low, true_high
    arrays.save_planes(file, {**found, "weight_edges": edges})
    plane = frames.plane(path)
    assert plane["dx"].max() < 1 and plane["x"].abs().max() < 1
    drawn = scatter.weight_score(plane, frames.points(path)).layout.xaxis.range
    assert -1 < drawn[0] < drawn[1] < 1
    everything = frames.box(path, "score", *drawn, -1e9, 1e9)
    assert everything["weights"].sum() == 768
    assert everything.attrs["box"][:2] == [true_low, true_high]
