"""What changed for the user: how many answers changed, in which class, and how sure the model was."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme

KINDS = {  # kind of change: (place in the palette, pattern)
    "still right": (2, 0),
    "became right": (0, 1),
    "became wrong": (1, 2),
    "wrong in another way": (4, 3),
    "still wrong": (9, 4),
}
MOST_CLASSES = 40
MOST_POINTS = 4000


def changes(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 380) -> go.Figure:
    """Draws for each class what pruning did to its answers.

    Args:
        frame: label, change (``frames.changes``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        stacked bars in per cent of the examples of a class.
    """
    fig = base.start(
        x="true class (label)",
        y="examples (% of the class)",
        title=title,
        dark=dark,
        height=height,
        alt=f"What happened to the answers on {len(frame)} examples, by class.",
        how="Equal accuracy can hide exchange: compare the middle parts, answers gained and answers lost.",
    )
    if frame.empty:
        return base.nothing(
            fig, "Choose two finished runs on the same task to compare their answers.", dark=dark
        )
    table = frame.groupby(["label", "change"]).size().unstack("change", fill_value=0).iloc[:MOST_CLASSES]
    share = 100 * table.div(table.sum(axis=1), axis=0)
    for kind, (place, pattern) in KINDS.items():
        if kind not in share.columns:
            continue
        fig.add_trace(
            go.Bar(
                x=base.texts(share.index),
                y=base.short(share[kind]),
                name=kind,
                marker={"color": theme.COLORS[place], "pattern": theme.texture(pattern, dark)},
                customdata=base.short(table[kind]),
                hovertemplate="%{x}: %{customdata:,.0f} examples, %{y:.1f} %<extra>" + kind + "</extra>",
            )
        )
    fig.update_layout(barmode="stack")
    fig.update_xaxes(type="category")
    return base.legend_above(fig)


def confidence(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 460) -> go.Figure:
    """Draws every example by the confidence of its answer before and after pruning (``frames.changes``)."""
    fig = base.start(
        x="confidence before (probability of the given answer)",
        y="confidence after (probability of the given answer)",
        title=title,
        dark=dark,
        height=height,
        alt=f"Confidence before and after pruning for {len(frame)} examples.",
        how="Under the diagonal the model is less sure; answers lost at high confidence deserve a look.",
    )
    known = base.finite(frame, ["confidence_before", "confidence_after"])
    if known.empty:
        return base.nothing(fig, "No confidences to compare.", dark=dark)
    for order, (kind, (place, _)) in enumerate(KINDS.items()):
        part = base.thin(known[known["change"] == kind], MOST_POINTS // len(KINDS))
        if part.empty:
            continue
        fig.add_trace(
            go.Scattergl(
                x=base.short(part["confidence_before"]),
                y=base.short(part["confidence_after"]),
                mode="markers",
                marker={
                    "symbol": theme.SYMBOLS[order],
                    "size": 6,
                    "color": theme.COLORS[place],
                    "opacity": 0.6,
                },
                customdata=part["row"].to_numpy(dtype="int32"),
                name=kind,
                hovertemplate="example %{customdata}: %{x:.3f} → %{y:.3f}<extra>" + kind + "</extra>",
            )
        )
    line = {"color": theme.ink(dark).faint, "dash": "dot", "width": 1}
    fig.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line=line)
    return base.legend_above(fig)
