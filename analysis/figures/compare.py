"""How far two checkpoints are apart: by layer and role, and weight by weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, density, theme
from analysis.figures.layers import ROLES, role_order

MOST_ROWS = 200
NOTHING = "Nothing compared yet: choose two checkpoints that share tensors."
MEASURES = {  # column: words, unit, factor, how to read
    "relative": (
        "distance",
        "% of ‖A‖",
        100.0,
        "A cell is ‖B − A‖ / ‖A‖ of its weights: 0 is no change, 100 % as far as setting them all to zero.",
    ),
    "cosine": (
        "cosine",
        "no unit",
        1.0,
        "1: B is A scaled; 0: the two have nothing in common, as after two trainings from different starts.",
    ),
    "flipped": (
        "changed signs",
        "% of the weights<br>zero in neither",
        100.0,
        "Fine-tuning flips few signs; about 50 % is what two unrelated models give.",
    ),
}


def distance(
    cells: pd.DataFrame,
    value: str = "relative",
    *,
    title: str = "",
    dark: bool = False,
    height: int | None = None,
) -> go.Figure:
    """Draws how far apart two checkpoints are in every layer and role.

    Args:
        cells: layer, role, weights, relative, cosine, flipped (``frames.distances``).
        value: "relative", "cosine" or "flipped".
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels, None to follow the number of layers.

    Returns:
        a heat map, first layer on top.
    """
    words, _, _, how = MEASURES[value]
    known = base.finite(cells, [value])
    count = known["layer"].nunique() if len(known) else 0
    fig = base.start(
        x="role of the tensor in its layer",
        y="layer (number, first on top)",
        title=title,
        dark=dark,
        height=height or min(900, 190 + 30 * max(4, count)),
        legend=False,
        alt=f"{words.capitalize()} of two checkpoints in {count} layers by role.",
        how=how,
    )
    if known.empty:
        return base.nothing(fig, NOTHING, dark=dark)
    fig.add_trace(_table(known, value, dark))
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return fig


def _table(known: pd.DataFrame, value: str, dark: bool) -> go.Heatmap:
    words, unit, factor, _ = MEASURES[value]
    cells = known.drop_duplicates(["layer", "role"]).set_index(["layer", "role"])
    order = role_order(known["role"])
    z, weights = (
        cells[name].unstack("role").reindex(columns=order).sort_index().iloc[:MOST_ROWS]
        for name in (value, "weights")
    )
    shown = factor * z.to_numpy(dtype=np.float64)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    return go.Heatmap(
        x=base.texts(ROLES.get(r, r or "unknown") for r in order),
        y=["none" if layer < 0 else str(layer) for layer in z.index],
        z=shown.astype(np.float32),
        customdata=weights.to_numpy(dtype=np.float32),
        texttemplate="%{z:.3g}",
        zmin=low if low < high else min(low, 0.0),
        zmax=max(high, 1e-3),
        colorscale=theme.sequential(dark),
        reversescale=value == "cosine",
        colorbar={"title": {"text": f"{words}<br>({unit})", "font": {"size": 11}}},
        hoverongaps=False,
        hovertemplate=f"layer %{{y}}, %{{x}}<br>{words} %{{z:.4g}}<br>%{{customdata:,.0f}} weights"
        "<extra></extra>",
        xgap=2,
        ygap=2,
    )


def values(plane: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 600) -> go.Figure:
    """Draws all weights by their value in A and in B, both axes logarithmic outwards from an exact zero.

    Args:
        plane: a_bin, b_bin (bins outwards from 0, which is an exact zero), a, b (values in their middle) and
            count (``frames.two_values``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a heat map with the line of those left unchanged.
    """
    known = base.finite(plane, ["a", "b"])
    total = int(known["count"].sum()) if len(known) else 0
    gone = int(known.loc[(known["b_bin"] == 0) & (known["a_bin"] != 0), "count"].sum()) if len(known) else 0
    fig = base.start(
        x="weight in A (no unit, log scale both ways from 0)",
        y="weight in B (no unit, log scale both ways from 0)",
        title=title,
        dark=dark,
        height=height,
        alt=f"{total:,} weights by their value in A and in B; {gone:,} became zero in B.",
        how="On the dashed line a weight is unchanged. The level band at 0 is what B has at exactly zero: "
        "empty towards its ends, large weights stayed; even all along, size did not matter. The upright band "
        "is what A had at zero. The innermost bins hold everything smaller.",
    )
    if known.empty:
        return base.nothing(fig, NOTHING, dark=dark)
    most = int(known[["a_bin", "b_bin"]].abs().to_numpy().max())
    half = max(1.0, 0.03 * most)
    edges = np.concatenate([-half - np.arange(most, -1, -1), half + np.arange(most + 1)])
    fig.add_trace(_cells(known, most, edges, dark))
    end = half + most
    fig.add_trace(
        go.Scatter(
            x=[-end, end],
            y=[-end, end],
            mode="lines",
            line={"color": theme.ink(dark).text, "width": 1.2, "dash": "dash"},
            name="unchanged",
            hoverinfo="skip",
        )
    )
    for update in (fig.update_xaxes, fig.update_yaxes):
        update(**_ticks(known, half), range=[-end, end], zeroline=False, showgrid=False)
    return base.legend_above(fig)


def _cells(known: pd.DataFrame, most: int, edges: np.ndarray, dark: bool) -> go.Heatmap:
    side = 2 * most + 1
    rows, cols = known["b_bin"].to_numpy() + most, known["a_bin"].to_numpy() + most
    counts = np.zeros((side, side), dtype=np.int64)
    np.add.at(counts, (rows, cols), known["count"].to_numpy())
    middles = [np.full(side, np.nan) for _ in "ab"]
    for middle, places, name in ((middles[0], cols, "a"), (middles[1], rows, "b")):
        middle[places] = known[name]
    zero = np.arange(side)[:, None] == most
    levels = density.LEVELS
    depth = np.log(counts.clip(1)) / np.log(max(2, counts.max())) * levels
    z = np.where(counts > 0, depth.clip(0, levels - 1).astype(np.int64) + levels * ~zero, np.nan)
    told = np.stack([counts, *np.meshgrid(*middles)], axis=-1).astype(np.float32)
    return go.Heatmap(
        x=edges,
        y=edges,
        z=z.astype(np.float32),
        customdata=told,
        zmin=-0.5,
        zmax=2 * levels - 0.5,
        colorscale=_scale(dark),
        hoverongaps=False,
        hovertemplate="A %{customdata[1]:.3g}, B %{customdata[2]:.3g}<br>%{customdata[0]:,.0f} weights"
        "<extra></extra>",
        colorbar={
            "title": {"text": "stronger = more weights", "side": "top", "font": {"size": 11}},
            "tickvals": [levels / 2 - 0.5, 1.5 * levels - 0.5],
            "ticktext": ["zero in B", "not zero in B"],
            "thickness": 16,
            "len": 0.6,
        },
        name="bins",
    )


def _scale(dark: bool) -> list[list[Any]]:
    """Takes the first and the last band of the colours of ``density``: none kept, all kept."""
    every = [color for _, color in density.scale(dark)]
    chosen = every[: 2 * density.LEVELS] + every[-2 * density.LEVELS :]
    places = np.repeat(np.arange(2 * density.LEVELS + 1), 2)[1:-1] / (2 * density.LEVELS)
    return [list(step) for step in zip(places.tolist(), chosen, strict=True)]


def _ticks(known: pd.DataFrame, half: float) -> dict[str, Any]:
    """Puts ticks at powers of ten, wherever the bins have them."""
    bins = np.concatenate([known["a_bin"].abs(), known["b_bin"].abs()])
    sizes = np.concatenate([known["a"].abs(), known["b"].abs()])
    place, first = np.unique(bins[(bins > 0) & (sizes > 0)], return_index=True)
    if not len(place):
        return {"tickvals": [0], "ticktext": ["0"]}
    logs = np.log10(sizes[(bins > 0) & (sizes > 0)][first])
    powers = np.arange(np.ceil(logs.min()), np.floor(logs.max()) + 1)
    at = half + np.interp(powers, logs, place) - 0.5
    powers, at = powers[at > 0.12 * place[-1]], at[at > 0.12 * place[-1]]  # nearer ones would touch the 0
    words = [f"{10.0**p:g}" for p in powers]
    return {"tickvals": [*(-at[::-1]), 0, *at], "ticktext": [*(f"−{w}" for w in words[::-1]), "0", *words]}
