"""Large batches: what optimizers reach for the gradients they spend, one panel per batch size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures import base, theme

SPENT = "gradients evaluated (examples)"
MOST_LINES = 12
MOST_POINTS = 300


def large_batch(
    points: pd.DataFrame,
    *,
    floor: float | None = None,
    log: bool = False,
    title: str = "",
    dark: bool = False,
    height: int = 440,
) -> go.Figure:
    """Draws a metric or the loss against the gradients spent: a line per optimizer and look-ahead.

    Args:
        points: line, batch (examples per step), evaluations (examples), mean, low, high (fraction for a
            metric, no unit for a loss), runs, metric (``frames.batches``).
        floor: value of a predictor that learnt nothing, None to leave it out.
        log: True for a logarithmic horizontal axis.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a panel per batch size, the smallest four, on one vertical scale; the same line has the same colour,
        symbol and dash in all of them.
    """
    known = base.finite(points, ["batch", "evaluations", "mean"])
    known = known.assign(batch=known["batch"].astype(float)) if len(known) else known
    sizes = sorted(known["batch"].unique())[:4] if len(known) else []
    fig = _canvas(known, sizes, title, dark, height)
    if known.empty:
        return base.nothing(fig, "No evaluated run yet: start some with different batch sizes.", dark=dark)
    names = sorted(known["line"].unique())[:MOST_LINES]
    shown = dict(zip(names, base.texts(names, 70), strict=True))
    named: set[str] = set()
    for column, size in enumerate(sizes, start=1):
        panel = known[known["batch"] == size]
        where = {"row": 1, "col": column} if len(sizes) > 1 else {}
        for place, name in enumerate(names):
            part = panel[panel["line"] == name].sort_values("evaluations")
            if len(part):
                style = theme.line_style(place)
                _line(fig, base.thin(part, MOST_POINTS), shown[name], style, where, shown[name] not in named)
                named.add(shown[name])
        if floor is not None and np.isfinite(floor):
            faint = {"color": theme.ink(dark).faint, "dash": "dot", "width": 1.5}
            fig.add_hline(y=float(floor), line=faint, **where)
    if log:
        fig.update_xaxes(type="log")
    base.legend_above(fig)
    if len(sizes) > 1:  # above the headings of the panels
        fig.update_layout(legend={"y": 1.09}, margin={"t": 104 if title else 78})
    return fig


def _canvas(known: pd.DataFrame, sizes: list[float], title: str, dark: bool, height: int) -> go.Figure:
    metric = str(known["metric"].iloc[0]) if len(known) else "metric"
    loss = "loss" in metric
    quantity = f"{metric} (no unit)" if loss else f"{metric} on the validation split (fraction)"
    how = (
        "Compare lines at the same number of gradients: a look-ahead that needs one of its own spends two "
        "per example and step. Panels are batch sizes, bands reach from the worst seed to the best."
    )
    if loss:
        how += " With a look-ahead the loss is that of the weights it looks at."
    fig = base.start(
        x=SPENT,
        y=base.text(quantity, 80),
        title=title,
        dark=dark,
        height=height,
        alt=f"{base.text(metric)} against gradients evaluated, for {len(sizes)} batch sizes.",
        how=how,
    )
    if len(sizes) > 1:
        layout = fig.layout
        fig = make_subplots(
            rows=1,
            cols=len(sizes),
            shared_yaxes=True,
            horizontal_spacing=0.04,
            subplot_titles=[f"{size:g} examples per step" for size in sizes],
        )
        fig.update_layout(template=theme.template(dark), height=height, meta=layout.meta, title=layout.title)
        fig.update_annotations(font={"size": 13})
        fig.update_xaxes(title={"text": SPENT})
        fig.update_yaxes(title={"text": base.text(quantity, 80)}, col=1)
    return fig


def _line(
    fig: go.Figure, part: pd.DataFrame, name: str, style: theme.Style, where: dict[str, int], legend: bool
) -> None:
    x = base.short(part["evaluations"])
    if (part["runs"] > 1).any():
        fig.add_trace(
            go.Scatter(
                x=np.concatenate([x, x[::-1]]),
                y=np.concatenate([base.short(part["high"]), base.short(part["low"])[::-1]]),
                fill="toself",
                fillcolor=theme.fade(style.color, 0.18),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            ),
            **where,
        )
    spread = np.stack([part["low"], part["high"], part["runs"], part["step"]], axis=-1).astype(np.float32)
    fig.add_trace(
        go.Scatter(
            x=x,
            y=base.short(part["mean"]),
            mode="lines+markers" if len(part) <= 30 else "lines",
            line={"color": style.color, "dash": style.dash, "width": 2.2},
            marker={"symbol": style.symbol, "color": style.color, "size": 8},
            name=name,
            legendgroup=name,
            showlegend=legend,
            customdata=spread,
            hovertemplate="%{x:.4g} examples, step %{customdata[3]:.0f}: %{y:.4f}<br>%{customdata[0]:.4f} to "
            "%{customdata[1]:.4f}, n = %{customdata[2]:.0f}<extra>" + name + "</extra>",
        ),
        **where,
    )
