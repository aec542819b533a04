"""The schedule of a run before a second of it is spent: every curve over progress, one small panel each."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures import base, theme

KEEP = "keep (% of prunable weights)"
MOST = 400


def schedule(
    frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int | None = None
) -> go.Figure:
    """Draws every scheduled quantity against progress.

    Args:
        frame: progress in [0, 1], curve, value; keep as a fraction.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels, None to follow the number of curves.

    Returns:
        one panel a curve, all over the same progress.
    """
    alt = "Planned keep, learning rate and penalty over the progress of the run."
    how = "All panels share the progress axis: read a cut against the learning rate left to recover from it."
    known = base.finite(frame, ["progress", "value"])
    names = [str(c) for c in pd.unique(known["curve"])][:8] if len(known) else []
    if not names:
        fig = base.start(
            x="progress (% of the run)",
            y="scheduled value (no unit)",
            title=title,
            alt=alt,
            how=how,
            dark=dark,
        )
        return base.nothing(fig, "Nothing is scheduled.", dark=dark)
    order = sorted(names, key=lambda name: name != "keep")
    columns = 2 if len(order) > 1 else 1
    rows = -(-len(order) // columns)
    fig = make_subplots(rows=rows, cols=columns, horizontal_spacing=0.12, vertical_spacing=0.24 / rows)
    for place, name in enumerate(order):
        row, column = place // columns + 1, place % columns + 1
        fig.add_trace(_line(known[known["curve"] == name], name, place), row=row, col=column)
        axis = KEEP if name == "keep" else f"{base.text(name)} (no unit)"
        fig.update_xaxes(title={"text": "progress (% of the run)"}, range=[0, 100], row=row, col=column)
        fig.update_yaxes(title={"text": axis, "font": {"size": 11}}, rangemode="tozero", row=row, col=column)
    fig.update_layout(
        template=theme.template(dark),
        height=height or 60 + 220 * rows,
        showlegend=False,
        meta={"alt": alt, "how_to_read": how},
        margin={"t": 48 if title else 20},
    )
    if title:
        fig.update_layout(title={"text": base.text(title, 120)})
    return fig


def _line(part: pd.DataFrame, name: str, place: int) -> go.Scatter:
    part = base.thin(part, MOST)
    times = 100 if name == "keep" else 1
    return go.Scatter(
        x=base.short(100 * part["progress"]),
        y=base.short(times * part["value"]),
        mode="lines",
        line={"color": theme.line_style(place).color, "width": 2.2},
        name=base.text(name),
        hovertemplate="%{x:.0f} %: %{y:.4g}<extra>" + base.text(name) + "</extra>",
    )
