"""How kept and pruned weights are spread over their values and over their scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.figures.scatter import SCORE, WEIGHT


def distribution(
    frames: dict[str, pd.DataFrame],
    *,
    x_title: str = WEIGHT,
    part: str = "kept",
    threshold: float | None = None,
    share: bool = True,
    title: str = "",
    dark: bool = False,
    height: int = 380,
) -> go.Figure:
    """Draws how weights or scores are spread, one outline per label.

    Args:
        frames: label to bins with low, high, kept, pruned (``frames.distribution``); labels that are recipes
            keep their colour.
        x_title: quantity and unit on the horizontal axis.
        part: "kept" or "pruned" weights, or "all".
        threshold: a vertical line, such as the score above which weights were kept.
        share: True for the share of the weights in a bin per unit of its width, so that unlike bins compare.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a figure of step outlines.
    """
    words = {"kept": "kept weights", "pruned": "pruned weights", "all": "weights"}[part]
    fig = base.start(
        x=x_title,
        y=f"{words} (share per unit of width)" if share else f"{words} (count per bin)",
        title=title,
        dark=dark,
        height=height,
        alt=f"Distribution of {words} over {x_title} for {len(frames)} runs.",
        how="Two lobes with an empty gap around zero: size decided; small values among the kept: it did not.",
    )
    names = base.texts(frames)
    drawn = 0
    for (label, bins), name in zip(frames.items(), names, strict=True):
        bins = base.finite(bins, ["low", "high"])
        count = bins["kept"] + bins["pruned"] if part == "all" else bins.get(part, pd.Series(dtype="int64"))
        if bins.empty or not int(count.sum()):
            continue
        values = count / int(count.sum()) / (bins["high"] - bins["low"]) if share else count
        fig.add_trace(_outline(bins, values, theme.recipe_style(label), name, len(frames) == 1))
        drawn += 1
    if not drawn:
        return base.nothing(fig, f"No {words} counted yet.", dark=dark)
    _vertical_threshold(fig, threshold, dark)
    return base.legend_above(fig)


def _outline(bins: pd.DataFrame, values: pd.Series, style: theme.Style, name: str, fill: bool) -> go.Scatter:
    return go.Scatter(
        x=base.short(np.append(bins["low"], bins["high"].iloc[-1])),
        y=base.short(np.append(values, values.iloc[-1])),
        line={"shape": "hv", "color": style.color, "dash": style.dash, "width": 2},
        mode="lines",
        fill="tozeroy" if fill else None,
        fillcolor=theme.fade(style.color, 0.2),
        name=name,
        hovertemplate="%{x:.4g}: %{y:.4g}<extra>" + name + "</extra>",
    )


def score_histogram(
    bins: pd.DataFrame,
    *,
    threshold: float | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 360,
) -> go.Figure:
    """Draws the scores as bars, kept over pruned, with the threshold between them.

    Args:
        bins: low, high, kept, pruned (``frames.distribution(plane, "y")``).
        threshold: score above which weights were kept, None when there is none.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a stacked bar figure with a logarithmic count axis.
    """
    fig = base.start(
        x=SCORE,
        y="weights (count per bin, log scale)",
        title=title,
        dark=dark,
        height=height,
        alt="Histogram of the scores of all weights, kept and pruned.",
        how="Where both colours stand over the same score, sites had different thresholds.",
    )
    bins = base.finite(bins, ["low", "high"])
    if bins.empty:
        return base.nothing(fig, "No scores counted yet.", dark=dark)
    for name, color, pattern in (("pruned", theme.PRUNED, "/"), ("kept", theme.KEPT, "")):
        fig.add_trace(
            go.Bar(
                x=base.short((bins["low"] + bins["high"]) / 2),
                width=base.short(bins["high"] - bins["low"]),
                y=base.short(bins[name].where(bins[name] > 0)),
                marker={
                    "color": color,
                    "line": {"width": 0},
                    "pattern": {**theme.texture(1 if pattern else 0, dark), "size": 5},
                    "opacity": 0.75,
                },
                name=name,
                hovertemplate="score %{x:.4g}: %{y:,} " + name + "<extra></extra>",
            )
        )
    fig.update_layout(barmode="overlay", bargap=0)
    fig.update_yaxes(type="log", dtick=1)
    _vertical_threshold(fig, threshold, dark)
    return base.legend_above(fig)


def _vertical_threshold(fig: go.Figure, threshold: float | None, dark: bool) -> None:
    if threshold is not None and np.isfinite(threshold):
        line = {"color": theme.ink(dark).text, "dash": "dash", "width": 1.5}
        fig.add_vline(
            x=float(threshold), line=line, annotation_text="threshold", annotation_position="top right"
        )
