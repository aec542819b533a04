"""What every figure shares: axes with quantity and unit, the words beside it, and its look when empty."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import theme

NOTHING = "Nothing to show yet: start a run, or choose another one."
SHORT = 40


def text(value: object, limit: int = SHORT) -> str:
    """Makes a name harmless and short: plotly reads a subset of HTML, and names come from strangers."""
    plain = "".join(c if c.isprintable() else "�" for c in str(value))
    if len(plain) > limit:
        plain = plain[: limit // 2] + "…" + plain[len(plain) - limit // 2 + 1 :]
    return html.escape(plain, quote=False).replace("%{", "% {")  # plotly fills in what stands in %{…}


def texts(values: Iterable[object], limit: int = SHORT) -> list[str]:
    """Makes every name harmless and short; equal ones get a number, so that none hides another."""
    seen: dict[str, int] = {}
    out = []
    for value in values:
        name = text(value, limit)
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def percent(value: float, digits: int = 1) -> str:
    """Writes a fraction as per cent of something; unknown is a dash."""
    if not np.isfinite(value):
        return "–"
    shown = f"{100 * value:.{digits}f}"
    return "<0.1 %" if value > 0 and float(shown) == 0 and digits == 1 else f"{shown} %"


def short(values: pd.Series | np.ndarray | Sequence[float]) -> np.ndarray:
    """Casts to float32: half the bytes, and still base64 (float16 and bool would go as JSON lists)."""
    return np.asarray(values, dtype=np.float64).astype(np.float32)


def start(
    *,
    x: str,
    y: str,
    title: str = "",
    alt: str,
    how: str,
    dark: bool = False,
    height: int = 420,
    legend: bool = True,
) -> go.Figure:
    """Builds an empty figure with axes, template and the two sentences that go with it.

    Args:
        x: quantity and unit of the horizontal axis.
        y: quantity and unit of the vertical axis.
        title: short heading inside the figure, "" for none.
        alt: what the figure shows, in one sentence, for those who cannot see it.
        how: how to read it, in one or two sentences, shown under it.
        dark: True for the dark page.
        height: height in pixels.
        legend: False when there is nothing to name.

    Returns:
        a figure to which traces are added.
    """
    fig = go.Figure()
    fig.update_layout(
        template=theme.template(dark),
        height=height,
        meta={"alt": alt, "how_to_read": how},
        showlegend=legend,
        xaxis={"title": {"text": x}},
        yaxis={"title": {"text": y}},
    )
    if title:
        fig.update_layout(title={"text": text(title, 120)})
    else:
        fig.update_layout(margin={"t": 28})
    return fig


def legend_above(fig: go.Figure) -> go.Figure:
    """Puts the legend in a row over the plot, where it takes no width from a narrow page."""
    fig.update_layout(
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        margin={"t": 84 if fig.layout.title.text else 48},
    )
    return fig


def nothing(fig: go.Figure, sentence: str = NOTHING, *, dark: bool = False) -> go.Figure:
    """Leaves the axes of an empty figure and writes in the middle what would fill it."""
    fig.add_annotation(
        text=text(sentence, 160),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 14, "color": theme.ink(dark).faint},
    )
    fig.update_xaxes(range=[0, 1], showticklabels=False)
    fig.update_yaxes(range=[0, 1], showticklabels=False)
    return fig


def finite(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Keeps the rows in which all of the named columns are finite numbers."""
    if frame.empty:
        return frame
    values = frame[list(columns)].to_numpy(dtype=np.float64)
    return frame[np.isfinite(values).all(axis=1)]


def thin(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """Takes at most ``most`` rows, evenly spread, first and last included; always the same ones."""
    if len(frame) <= most:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, most).round().astype(np.int64)]


def level(fig: go.Figure, at: float, label: str, *, color: str, dash: str = "dot") -> None:
    """Draws a labelled horizontal line, such as the majority floor or the dense score."""
    fig.add_hline(
        y=float(at),
        line={"color": color, "dash": dash, "width": 1.5},
        annotation={"text": text(label, 80), "font": {"color": color, "size": 12}, "showarrow": False},
        annotation_position="top right",
    )


def column(frame: pd.DataFrame, name: str, default: Any = "") -> pd.Series:
    """Returns a column, or a constant one when the frame has none of that name."""
    if name in frame.columns:
        return frame[name]
    return pd.Series([default] * len(frame), index=frame.index)


def panels(known: pd.DataFrame, facet: str) -> list[object]:
    """At most four panels; learning rates come smallest first, names in the order of the frame."""
    panels: list[object] = list(pd.unique(known[facet]))[:4] if facet and len(known) else [None]
    return sorted(panels, key=lambda panel: panel if isinstance(panel, float) else 0.0)
