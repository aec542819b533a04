"""A checkpoint before it is cut further: the sizes of its weights, and what of it can be cut out whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.figures.layers import ROLES, role_order


def sizes(
    frame: pd.DataFrame,
    threshold: Sequence[float] | None = None,
    *,
    title: str = "",
    dark: bool = False,
    height: int = 420,
) -> go.Figure:
    """Draws how large the weights of every role are.

    Args:
        frame: role, low, high, share (``frames.sizes``).
        threshold: size below which a cut removes weights, as (low, high) ends; None draws none.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        one stepped line a role over a logarithmic axis.
    """
    fig = base.start(
        x="size of a weight |w| (no unit, log scale)",
        y="weights (% of the role, per eighth of a decade)",
        title=title,
        dark=dark,
        height=height,
        alt="Distribution of the sizes of the weights, one line per role.",
        how="A hump is where the weights of a role are; a foot cut off sharply on the left is a trace of "
        "pruning by size. Exact zeros have no place on this axis and are what a line lacks to 100 %.",
    )
    known = base.finite(frame, ["low", "high", "share"])
    known = known[known["low"] > 0] if len(known) else known
    if known.empty:
        return base.nothing(fig, "No prunable weight other than zero here.", dark=dark)
    for place, role in enumerate(role_order(known["role"])):
        part = known[known["role"] == role].sort_values("low")
        style = theme.line_style(place)
        middle = np.sqrt(part["low"].to_numpy(dtype=np.float64) * part["high"].to_numpy(dtype=np.float64))
        fig.add_trace(
            go.Scatter(
                x=base.short(middle),
                y=base.short(100 * part["share"]),
                mode="lines",
                line={"color": style.color, "dash": style.dash, "shape": "hvh"},
                name=base.text(ROLES.get(role, role)),
                hovertemplate="|w| near %{x:.3g}: %{y:.3f} %<extra>%{fullData.name}</extra>",
            )
        )
    if threshold is not None and threshold[1] > 0:
        fig.add_vline(
            x=float(threshold[1]),
            line={"color": theme.ink(dark).text, "width": 1.5, "dash": "dash"},
            annotation={"text": f"cut below {threshold[1]:.3g}", "font": {"size": 12}},
        )
    fig.update_xaxes(type="log", exponentformat="power")
    fig.update_yaxes(rangemode="tozero")
    return base.legend_above(fig)


def units(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 380) -> go.Figure:
    """Draws how many heads and neurons of every layer are empty, so that they can be cut out.

    Args:
        frame: layer, label, kind, units, empty (``frames.units``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        two bars a layer, heads and neurons.
    """
    fig = base.start(
        x="layer",
        y="empty (% of the layer's heads or neurons)",
        title=title,
        dark=dark,
        height=height,
        alt=f"Share of empty attention heads and feed-forward neurons in {frame['layer'].nunique()} layers.",
        how="A head is empty when its part of the value matrix or of the attention output is, a neuron when "
        "its row in or its column out is. Both can be cut out, once what their bias leaves is added on.",
    )
    known = base.finite(frame, ["units", "empty"])
    known = known[known["units"] > 0] if len(known) else known
    if known.empty:
        return base.nothing(fig, "No heads or feed-forward neurons are recognised here.", dark=dark)
    for place, kind in enumerate(("heads", "neurons")):
        part = known[known["kind"] == kind].sort_values("layer")
        if part.empty:
            continue
        style = theme.line_style(place)
        fig.add_trace(
            go.Bar(
                x=base.texts(part["label"]),
                y=base.short(100 * part["empty"] / part["units"]),
                name=kind,
                marker={"color": style.color, "pattern": theme.texture(place, dark)},
                customdata=np.stack([part["empty"], part["units"]], axis=-1).astype(np.float32),
                hovertemplate="layer %{x}: %{customdata[0]:,.0f} of %{customdata[1]:,.0f} "
                + kind
                + " empty<extra></extra>",
            )
        )
    largest = float((known["empty"] / known["units"]).max())
    fig.update_layout(barmode="group")
    fig.update_xaxes(type="category")
    fig.update_yaxes(range=[0, 101 if largest > 0.5 else max(5.0, 120 * largest)])
    return base.legend_above(fig)


def storage(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 240) -> go.Figure:
    """Draws what a checkpoint takes on disk as it is and as it could be.

    Args:
        frame: form, bytes (``frames.storage``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        one bar a form; what is computed and not on disk is hatched.
    """
    fig = base.start(
        x="size (MB, a million bytes each)",
        y="form",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt="Bytes of a checkpoint as stored, without masks, scores and repeats, and with its zeros packed.",
        how="Zeros take as much room as other values until a format leaves them out. The hatched bars are "
        "computed from counts of values and zeros; no such file was written.",
    )
    known = base.finite(frame, ["bytes"])
    if known.empty:
        return base.nothing(fig, "No checkpoint inspected yet.", dark=dark)
    measured = known["form"] == "as stored"
    fig.add_trace(
        go.Bar(
            x=base.short(known["bytes"] / 1e6),
            y=base.texts(known["form"], 60),
            orientation="h",
            marker={
                "color": theme.COLORS[0],
                "pattern": {**theme.texture(1, dark), "shape": ["" if m else "/" for m in measured]},
            },
            text=[f"{size / 1e6:,.2f} MB" for size in known["bytes"]],
            textposition="auto",
            hovertemplate="%{y}: %{x:.4f} MB<extra></extra>",
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(rangemode="tozero")
    return fig
