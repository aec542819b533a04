"""How two checkpoints differ: distance by layer and role, A × B, what was kept, zeros that changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, density, theme
from analysis.figures.layers import ROLES, role_order

MOST_ROWS, MOST_BARS = 200, 120
NOTHING = "Nothing compared yet: choose two checkpoints that share tensors."
MEASURES = {  # column: words, unit, factor, how to read
    "relative": (
        "distance",
        "% of the length of A's weights",
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
        "% of the weights that are zero in neither",
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
    words, unit, factor, how = MEASURES[value]
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
    first = known.drop_duplicates(["layer", "role"]).set_index(["layer", "role"])
    order = role_order(known["role"])
    z, weights = (
        first[name].unstack("role").reindex(columns=order).sort_index().iloc[:MOST_ROWS]
        for name in (value, "weights")
    )
    fig.add_trace(
        go.Heatmap(
            x=base.texts(ROLES.get(r, r or "unknown") for r in order),
            y=["none" if layer < 0 else str(layer) for layer in z.index],
            z=(factor * z.to_numpy(dtype=np.float64)).astype(np.float32),
            customdata=weights.to_numpy(dtype=np.float32),
            texttemplate="%{z:.3g}",
            zmin=0 if factor > 1 else None,
            colorscale=theme.sequential(dark),
            reversescale=value == "cosine",
            colorbar={
                "title": {"text": f"{words}<br>({unit.replace(' of', '<br>of', 1)})", "font": {"size": 11}}
            },
            hoverongaps=False,
            hovertemplate=f"layer %{{y}}, %{{x}}<br>{words} %{{z:.4g}}<br>%{{customdata:,.0f}} weights"
            "<extra></extra>",
            xgap=2,
            ygap=2,
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return fig


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
    z = density.codes(counts * ~zero, counts * zero).astype(np.float32)
    z[z == density.EMPTY] = np.nan
    levels, bands = density.LEVELS, len(density.BANDS)
    told = np.stack([counts, *np.meshgrid(*middles)], axis=-1).astype(np.float32)
    return go.Heatmap(
        x=edges,
        y=edges,
        z=z,
        customdata=told,
        zmin=-0.5,
        zmax=bands * levels - 0.5,
        colorscale=density.scale(dark),
        hoverongaps=False,
        hovertemplate="A %{customdata[1]:.3g}, B %{customdata[2]:.3g}<br>%{customdata[0]:,.0f} weights"
        "<extra></extra>",
        colorbar={
            "title": {"text": "stronger = more weights", "side": "top", "font": {"size": 11}},
            "tickvals": [levels / 2 - 0.5, (bands - 0.5) * levels - 0.5],
            "ticktext": ["zero in B", "not zero"],
            "thickness": 16,
            "len": 0.6,
        },
        name="bins",
    )


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
    words = [f"{10.0**p:g}" for p in powers]
    return {"tickvals": [*(-at[::-1]), 0, *at], "ticktext": [*(f"−{w}" for w in words[::-1]), "0", *words]}


def kept(tenths: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 340) -> go.Figure:
    """Draws how many of A's weights are not zero in B, by their size in A.

    Args:
        tenths: tenth, low, high, weights, kept, share, chance (``frames.kept_by_size``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        ten bars, and a line at what chance would keep.
    """
    fig = base.start(
        x="A's weights that are not zero, by size (tenths, smallest first)",
        y="not zero in B (% of the tenth)",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt="Share of A's weights that are not zero in B, for each tenth of A's weights by size.",
        how="Rising to the right: large weights stayed. Level at the line: size in A did not matter.",
    )
    known = base.finite(tenths, ["share"]).iloc[:10]
    if known.empty:
        return base.nothing(fig, NOTHING, dark=dark)
    fig.add_trace(
        go.Bar(
            x=[f"{t:g}" for t in known["tenth"]],
            y=base.short(100 * known["share"]),
            marker={"color": theme.KEPT},
            customdata=known[["low", "high", "kept", "weights"]].to_numpy(dtype=np.float32),
            text=[base.percent(v) for v in known["share"]],
            textposition="auto",
            hovertemplate="|A| from %{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{y:.2f} %: "
            "%{customdata[2]:,.0f} of %{customdata[3]:,.0f}<extra></extra>",
        )
    )
    chance = float(known["chance"].iloc[0])
    if np.isfinite(chance):
        base.level(fig, 100 * chance, f"chance {base.percent(chance)}", color=theme.PRUNED, dash="dash")
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 108])
    return fig


def zeros(pairs: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 420) -> go.Figure:
    """Draws which share of each tensor became zero in B, and which share that was zero in A came back.

    Args:
        pairs: tensor, compared, zeros_gained, zeros_lost (``frames.tensor_pairs``); the 120 with most
            changes are drawn.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        bars upwards for zeros gained and downwards for zeros lost, in the order of the file.
    """
    fig = base.start(
        x="tensor (name)",
        y="zeros gained (up) and lost (down), % of the tensor",
        title=title,
        dark=dark,
        height=height,
        alt=f"Zeros gained and lost in {len(pairs)} tensors.",
        how="Upwards: exactly zero in B and not in A. Downwards: zero in A and not in B, such as a mask lost "
        "in fine-tuning.",
    )
    known = base.finite(pairs, ["compared", "zeros_gained", "zeros_lost"])
    if known.empty:
        return base.nothing(fig, NOTHING, dark=dark)
    changed = (known["zeros_gained"] + known["zeros_lost"]) / known["compared"].clip(lower=1)
    if not changed.sum():
        return base.nothing(fig, "No zero was gained or lost.", dark=dark)
    chosen = set(changed.sort_values(ascending=False, kind="stable").index[:MOST_BARS])
    known = known[[i in chosen for i in known.index]]
    names = base.texts(known["tensor"], 36)
    for sign, name, words, color, place in (
        (1, "zeros_gained", "gained in B", theme.PRUNED, 0),
        (-1, "zeros_lost", "lost in B", theme.KEPT, 1),
    ):
        fig.add_trace(
            go.Bar(
                x=names,
                y=base.short(sign * 100 * known[name] / known["compared"].clip(lower=1)),
                name=words,
                marker={"color": color, "pattern": theme.texture(place, dark)},
                customdata=known[[name, "compared"]].to_numpy(dtype=np.float32),
                hovertemplate="%{x}<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f} "
                + words
                + "<extra></extra>",
            )
        )
    fig.update_layout(barmode="relative")
    fig.update_xaxes(type="category", tickangle=-45, showticklabels=len(names) <= 40)
    fig.update_yaxes(zeroline=True, zerolinecolor=theme.ink(dark).faint)
    return base.legend_above(fig)
