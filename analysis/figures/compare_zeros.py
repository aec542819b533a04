"""Which weights of one checkpoint are zero in another: by size, and by tensor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.figures.compare import NOTHING
from analysis.figures.layers import ROLES

MOST = 120


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
            name="not zero in B",
            customdata=known[["low", "high", "kept", "weights"]].to_numpy(dtype=np.float32),
            text=[base.percent(v) for v in known["share"]],
            textposition="auto",
            hovertemplate="|A| from %{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{y:.2f} %: "
            "%{customdata[2]:,.0f} of %{customdata[3]:,.0f}<extra></extra>",
        )
    )
    chance = float(known["chance"].iloc[0])
    if np.isfinite(chance):
        fig.add_trace(
            go.Scatter(
                x=fig.data[0].x,
                y=base.short([100 * chance] * len(known)),
                mode="lines",
                line={"color": theme.PRUNED, "dash": "dash", "width": 2},
                name=f"chance, {base.percent(chance)}",
                hoverinfo="skip",
            )
        )
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 108])
    return base.legend_above(fig)


def zeros(pairs: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 420) -> go.Figure:
    """Draws which share of each tensor became zero in B, and which share that was zero in A came back.

    Args:
        pairs: tensor, compared, zeros_gained, zeros_lost (``frames.tensor_pairs``); the 120
            with most changes are drawn, those without any are not.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        bars upwards for zeros gained and downwards for zeros lost, in the order of the file.
    """
    fig = base.start(
        x="tensor (layer and role, or name)",
        y="zeros gained ↑ and lost ↓ (% of tensor)",
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
    chosen = set(changed[changed > 0].sort_values(ascending=False, kind="stable").index[:MOST])
    known = known[[i in chosen for i in known.index]]
    names = base.texts(_names(known), 36)
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


def _names(known: pd.DataFrame) -> list[str]:
    layers, roles = base.column(known, "layer", -1), base.column(known, "role")
    where = zip(known["tensor"], layers, roles, strict=True)
    return [
        f"{layer} {ROLES[role]}"
        if layer >= 0 and role in ROLES and role != "conv"  # several share a layer
        else str(name).removesuffix(".weight")
        for name, layer, role in where
    ]
