"""Which weights were kept, and why: the weight × score plane, and the pre-trained × trained plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, density, theme

WEIGHT, START, SCORE = "weight value (no unit)", "pre-trained weight value (no unit)", "score (no unit)"
GROWTH = "growth of the weight, half of w² − w₀² (no unit)"
MOST_POINTS = 400  # of each kind; the bins under them already hold every weight
GROWN = 3000  # of each kind, where there are no bins under them
MOST_LINES = 12


def weight_score(
    plane: pd.DataFrame,
    points: pd.DataFrame,
    *,
    title: str = "",
    threshold: float | Sequence[float] | None = None,
    show: str = "both",
    quadrants: pd.DataFrame | None = None,
    split: float | None = None,
    level: float = 0.0,
    y_title: str = SCORE,
    dark: bool = False,
    height: int = 560,
) -> go.Figure:
    """Draws all weights as exact bins of weight × score, with a sample of single weights over them.

    Args:
        plane: bins: x, y, dx, dy, kept, pruned (``frames.plane``).
        points: sample: w, score, kept (``frames.points``); at most 400 of each kind are drawn.
        title: heading inside the figure.
        threshold: score above which weights were kept, or one such score per site.
        show: "both", or only the "kept" or "pruned" weights.
        quadrants: counts of the four quarters (``frames.quadrants``), written into the corners.
        split: size |w| that divides large from small in ``quadrants``, drawn as two vertical lines.
        level: score that divides rising from falling in ``quadrants``.
        y_title: quantity and unit of the score.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a figure in which dragging selects a box; the bins carry exact counts.
    """
    kept, pruned = _totals(plane)
    fig = base.start(
        x=WEIGHT,
        y=y_title,
        title=title,
        dark=dark,
        height=height,
        alt=f"Density of {kept + pruned:,} weights by value and score; {kept:,} kept and {pruned:,} pruned.",
        how="A cell counts all weights with that value and score: hue is the share kept, strength their "
        "number. The outermost cells hold everything beyond. Drag a box to see where its weights are.",
    )
    if plane.empty and points.empty:
        return base.nothing(
            fig, "No weights and scores yet: they are written when a run saves a snapshot.", dark=dark
        )
    _bins(fig, plane, show, dark)
    _sample(fig, points, "w", "score", show, dark)
    _thresholds(fig, threshold, dark)
    if quadrants is not None and len(quadrants):
        _corners(fig, quadrants, split, level, dark)
        fig.layout.meta["how_to_read"] += (
            " Large weights lie outside the dotted lines, where magnitude pruning would keep as many."
        )
    return _selectable(fig, plane)


def start_final(
    plane: pd.DataFrame,
    points: pd.DataFrame,
    *,
    title: str = "",
    show: str = "both",
    dark: bool = False,
    height: int = 560,
) -> go.Figure:
    """Draws all weights by their pre-trained and their present value, with the line of those left unmoved.

    Args:
        plane: bins of ``frames.plane(…, "start")``: x = pre-trained, y = present value, dx, dy, kept, pruned.
        points: sample: w0, w, kept (``frames.points``).
        title: heading inside the figure.
        show: "both", or only the "kept" or "pruned" weights.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a figure in which dragging selects a box.
    """
    kept, pruned = _totals(plane)
    fig = base.start(
        x=START,
        y="weight value after training, before masking (no unit)",
        title=title,
        dark=dark,
        height=height,
        alt=f"{kept + pruned:,} weights by pre-trained and trained value; {kept:,} kept, {pruned:,} pruned.",
        how="On the diagonal a weight has not moved. Kept weights in two outer bands were chosen by size; "
        "kept weights near zero were chosen by how they moved.",
    )
    if plane.empty and points.empty:
        return base.nothing(fig, "No weights yet: they are written when a run saves a snapshot.", dark=dark)
    _bins(fig, plane, show, dark)
    _sample(fig, points, "w0", "w", show, dark)
    low, high = _reach(plane, points)
    fig.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": theme.ink(dark).text, "width": 1.2, "dash": "dash"},
            name="not moved",
            hoverinfo="skip",
        )
    )
    return _selectable(fig, plane)


def growth(
    points: pd.DataFrame,
    agreement: pd.DataFrame,
    *,
    title: str = "",
    show: str = "both",
    dark: bool = False,
    height: int = 560,
) -> go.Figure:
    """Draws sampled weights by how much they have grown, half of w² − w₀², and their score.

    Args:
        points: sample: growth, score, kept (``frames.growth``); at most 3,000 of each kind are drawn.
        agreement: one row with points, pearson and spearman (``frames.growth_agreement``), written into the
            corner.
        title: heading inside the figure.
        show: "both", or only the "kept" or "pruned" weights.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a figure.
    """
    fig = base.start(
        x=GROWTH,
        y=SCORE,
        title=title,
        dark=dark,
        height=height,
        alt=f"{len(points):,} sampled weights by growth and score.",
        how="Right of zero a weight has grown in size, left of it shrunk. Under plain gradient descent a "
        "movement score is this growth, so the points would lie on a line; Adam and the mask blur it.",
    )
    if base.finite(points, ["growth", "score"]).empty:
        return base.nothing(fig, "No weights yet: they are written when a run saves a snapshot.", dark=dark)
    _sample(fig, points, "growth", "score", show, dark, GROWN)
    for add in (fig.add_hline, fig.add_vline):
        add(0.0, line={"color": theme.ink(dark).faint, "width": 1, "dash": "dot"})
    for row in agreement.to_dict("records"):
        values = [f"{row[k]:.2f}" if np.isfinite(row[k]) else "–" for k in ("pearson", "spearman")]
        fig.add_annotation(
            text=f"correlation {values[0]}, of ranks {values[1]}<br>{row['points']:,} sampled weights",
            x=0.01,
            xref="paper",
            xanchor="left",
            y=0.99,
            yref="paper",
            yanchor="top",
            align="left",
            showarrow=False,
            bgcolor=theme.fade(theme.ink(dark).paper, 0.75),
        )
    return base.legend_above(fig)


def _totals(plane: pd.DataFrame) -> tuple[int, int]:
    return (0, 0) if plane.empty else (int(plane["kept"].sum()), int(plane["pruned"].sum()))


def _bins(fig: go.Figure, plane: pd.DataFrame, show: str, dark: bool) -> None:
    plane = base.finite(plane, ["x", "y", "dx", "dy"])
    if len(plane):
        fig.add_trace(density.heatmap(plane, show, dark))


def _sample(
    fig: go.Figure, points: pd.DataFrame, x: str, y: str, show: str, dark: bool, most: int = MOST_POINTS
) -> None:
    if points.empty:
        return
    known = base.finite(points, [x, y])
    page = theme.ink(dark)
    for kept, symbol, name in ((False, "circle-open", "pruned (sample)"), (True, "circle", "kept (sample)")):
        part = base.thin(known[known["kept"] == kept], most)
        if part.empty or show == ("pruned" if kept else "kept"):
            continue
        marker = {"symbol": symbol, "size": 4, "color": page.text, "line": {"width": 0.8, "color": page.text}}
        if kept:
            marker["line"] = {"width": 0.8, "color": page.paper}
        fig.add_trace(
            go.Scattergl(
                x=base.short(part[x]),
                y=base.short(part[y]),
                mode="markers",
                marker=marker,
                opacity=0.7 if kept else 0.4,
                name=name,
                hovertemplate="%{x:.4g}, %{y:.4g}<extra>" + name + "</extra>",
            )
        )


def _thresholds(fig: go.Figure, threshold: float | Sequence[float] | None, dark: bool) -> None:
    values = np.unique(np.atleast_1d(np.asarray([] if threshold is None else threshold, dtype=np.float64)))
    values = values[np.isfinite(values)]
    if not len(values):
        return
    color = theme.ink(dark).text
    drawn = values if len(values) <= MOST_LINES else values[[0, -1]]
    for value in drawn:
        fig.add_hline(
            y=float(value), line={"color": color, "width": 1.4 if len(values) == 1 else 0.7, "dash": "dash"}
        )
    words = "threshold" if len(values) == 1 else f"{len(values)} thresholds, one per site"
    if len(values) > MOST_LINES:
        words += " (lowest and highest drawn)"
    fig.add_annotation(
        x=1,
        xref="paper",
        xanchor="right",
        y=float(drawn[-1]),
        yanchor="bottom",
        text=words,
        showarrow=False,
        bgcolor=theme.fade(theme.ink(dark).paper, 0.7),
    )


def _corners(fig: go.Figure, quadrants: pd.DataFrame, split: float | None, level: float, dark: bool) -> None:
    page = theme.ink(dark)
    line = {"color": page.faint, "width": 1, "dash": "dot"}
    if split is not None and np.isfinite(split):
        for side in (-split, split):
            fig.add_vline(x=float(side), line=line)
    fig.add_hline(y=float(level), line=line)
    for row in quadrants.to_dict("records"):
        rising, is_large = row["score"] == "rising", row["size"] == "large"
        share = base.percent(row["kept"] / row["weights"]) if row["weights"] else "–"
        fig.add_annotation(
            text=f"<b>{row['size']}, {row['score']}</b><br>{row['weights']:,} weights<br>{share} kept",
            x=0.99 if is_large else 0.5,
            xref="paper",
            xanchor="right" if is_large else "center",
            y=0.99 if rising else 0.01,
            yref="paper",
            yanchor="top" if rising else "bottom",
            showarrow=False,
            align="right" if is_large else "center",
            font={"size": 11, "color": page.text},
            bgcolor=theme.fade(page.paper, 0.75),
        )


def _reach(plane: pd.DataFrame, points: pd.DataFrame) -> tuple[float, float]:
    values = [plane["x"], plane["y"]] if len(plane) else [points["w0"], points["w"]]
    known = np.concatenate([v.to_numpy(dtype=np.float64) for v in values])
    known = known[np.isfinite(known)]
    return (float(known.min()), float(known.max())) if len(known) else (-1.0, 1.0)


def _selectable(fig: go.Figure, plane: pd.DataFrame) -> go.Figure:
    fig.update_layout(dragmode="select", selectdirection="any")
    fig.update_xaxes(zeroline=False, showgrid=False)
    fig.update_yaxes(zeroline=False, showgrid=False)
    known = base.finite(plane, ["x", "y", "dx", "dy"])
    if len(known):  # sampled points far outside the bins must not shrink the picture
        for axis, update in (("x", fig.update_xaxes), ("y", fig.update_yaxes)):
            half = known[f"d{axis}"] / 2
            update(range=[float((known[axis] - half).min()), float((known[axis] + half).max())])
    return base.legend_above(fig)
