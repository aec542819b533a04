"""When it was decided: what the masks of a run did from snapshot to snapshot."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, layers, theme
from analysis.figures.live import PROGRESS

_LINES = (
    ("keep", "kept", "solid"),
    ("distance", "differ from the final mask", "dash"),
    ("settled", "settled: no longer change", "dot"),
)


def decided(history: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 380) -> go.Figure:
    """Draws keep, distance to the final mask and the settled share against progress.

    Args:
        history: number, progress, keep, distance, settled (``frames.mask_history``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        three lines in per cent of the prunable weights.
    """
    fig = base.start(
        x=PROGRESS,
        y="weights (% of prunable weights)",
        title=title,
        dark=dark,
        height=height,
        alt=f"Kept, still wrong and settled share of the weights in {len(history)} snapshots.",
        how="Where the settled line reaches 100 % the mask was decided; a late rise: choices were revised.",
    )
    known = base.finite(history, ["progress", "keep"])
    if known.empty:
        return base.nothing(
            fig, "No snapshots of the mask: set more than one in the settings of a run.", dark=dark
        )
    for place, (column, words, dash) in enumerate(_LINES):
        style = theme.line_style(place)
        fig.add_trace(_line(known, column, words, style.color, dash, style.symbol))
    fig.update_yaxes(range=[0, 102])
    fig.update_xaxes(range=[0, 102])
    return base.legend_above(fig)


def turnover(history: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 320) -> go.Figure:
    """Draws how many weights were pruned and came back between snapshots (``frames.mask_history``)."""
    fig = base.start(
        x=PROGRESS,
        y="weights since the snapshot before (% of prunable weights)",
        title=title,
        dark=dark,
        height=height,
        alt="Share of weights pruned and regrown between snapshots.",
        how="Weights that come back were pruned too early; a method that only shrinks the mask shows none.",
    )
    known = base.finite(history, ["progress", "pruned"])
    if known.empty:
        return base.nothing(fig, "Fewer than two snapshots of the mask.", dark=dark)
    for column, words, color, dash in (
        ("pruned", "pruned", theme.PRUNED, "solid"),
        ("regrown", "came back", theme.KEPT, "dash"),
    ):
        fig.add_trace(_line(known, column, words, color, dash, "circle" if column == "pruned" else "diamond"))
    fig.update_yaxes(rangemode="tozero")
    return base.legend_above(fig)


def settled(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 420) -> go.Figure:
    """Draws the settled share per layer against progress as a heat map (``frames.settled``)."""
    fig = base.start(
        x=PROGRESS,
        y="layer (number, first on top)",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt="Share of weights per layer whose mask no longer changes, against progress.",
        how="Rows that turn dark early were decided early.",
    )
    known = base.finite(frame, ["progress", "share"])
    if known.empty:
        return base.nothing(
            fig, "No snapshots of the mask: set more than one in the settings of a run.", dark=dark
        )
    cells = (
        known.assign(done=known["share"] * known["weights"])
        .groupby(["layer", "progress"])[["done", "weights"]]
        .sum()
    )
    table = (100 * cells["done"] / cells["weights"]).unstack("progress").iloc[: layers.MOST_ROWS, -400:]
    fig.add_trace(
        go.Heatmap(
            x=[base.percent(float(p), 0) for p in table.columns],
            y=["none" if layer < 0 else str(layer) for layer in table.index],
            z=base.short(table.to_numpy()),
            zmin=0,
            zmax=100,
            colorscale=theme.sequential(dark),
            colorbar={"title": {"text": "settled<br>(% of the layer)", "font": {"size": 11}}},
            hovertemplate="layer %{y} at %{x}<br>%{z:.2f} % settled<extra></extra>",
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return fig


def _line(known: pd.DataFrame, column: str, words: str, color: str, dash: str, symbol: str) -> go.Scatter:
    known = base.thin(known, 1500)
    return go.Scatter(
        x=base.short(100 * known["progress"]),
        y=base.short(100 * known[column]),
        mode="lines+markers",
        line={"color": color, "dash": dash, "width": 2},
        marker={"symbol": symbol, "color": color, "size": 7},
        name=words,
        hovertemplate="%{x:.1f} %: %{y:.3f} %<extra>" + words + "</extra>",
    )
