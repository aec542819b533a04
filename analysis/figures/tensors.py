"""What is in a checkpoint: exact zeros per tensor, and the values of one tensor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme

MOST = 150


def sparsity(tensors: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 420) -> go.Figure:
    """Draws the share of exact zeros of every analysed tensor, in the order of the file.

    Args:
        tensors: tensor, role, numel, zeros, analysed (``frames.tensors``); the 150 with most zeros are drawn.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        bars; prunable matrices filled, everything else hatched.
    """
    fig = base.start(
        x="tensor (name)",
        y="exact zeros (% of the tensor's values)",
        title=title,
        dark=dark,
        height=height,
        alt=f"Share of exact zeros in {len(tensors)} tensors.",
        how="Zeros in prunable matrices are pruning; zeros elsewhere mostly are not, such as fresh biases.",
    )
    known = base.finite(tensors, ["zeros"])
    known = known[known["numel"] > 0] if len(known) else known
    if known.empty:
        return base.nothing(fig, "No analysed tensor here.", dark=dark)
    share = 100 * known["zeros"] / known["numel"]
    chosen = share.sort_values(ascending=False, kind="stable").index[:MOST]
    order = [i for i in known.index if i in set(chosen)]
    names = dict(zip(order, base.texts(known.loc[order, "tensor"], 48), strict=True))
    for place, (prunable, words) in enumerate(((True, "prunable matrices"), (False, "everything else"))):
        mine = [i for i in order if bool(known.at[i, "prunable"]) == prunable]
        if not mine:
            continue
        style = theme.line_style(place)
        fig.add_trace(
            go.Bar(
                x=[names[i] for i in mine],
                y=base.short(share.loc[mine]),
                name=words,
                marker={"color": style.color, "pattern": theme.texture(place, dark)},
                customdata=np.stack([known.loc[mine, "zeros"], known.loc[mine, "numel"]], -1).astype(
                    np.float32
                ),
                hovertemplate="%{x}<br>%{y:.3f} %: %{customdata[0]:,.0f} of %{customdata[1]:,.0f}"
                "<extra></extra>",
            )
        )
    fig.update_layout(barmode="overlay")
    long = len(order) > 24
    fig.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=[names[i] for i in order],
        showticklabels=not long,
        tickangle=-45,
    )
    fig.update_yaxes(range=[0, 101] if float(share.max()) > 50 else None, rangemode="tozero")
    return base.legend_above(fig)


def values(
    bins: pd.DataFrame,
    *,
    name: str = "",
    log: bool = False,
    title: str = "",
    dark: bool = False,
    height: int = 360,
) -> go.Figure:
    """Draws the histogram of one tensor's values, exact zeros left out.

    Args:
        bins: low, high, count (``frames.tensor_histogram``); the outermost two reach to infinity.
        name: name of the tensor, for the description.
        log: True for a logarithmic count axis.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        bars; the two outermost are hatched, because they hold everything beyond.
    """
    fig = base.start(
        x="value, exact zeros left out (no unit)",
        y="values (count per bin" + (", log scale)" if log else ")"),
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt=f"Histogram of the values of {base.text(name) or 'a tensor'} without its exact zeros.",
        how="An empty gap around zero, cut off sharply, is a trace of pruning by size; pruning by movement "
        "leaves a dip. The hatched outer bars hold the rest.",
    )
    if bins.empty or not int(bins["count"].sum()):
        return base.nothing(fig, "No value other than zero.", dark=dark)
    low, high = bins["low"].to_numpy(dtype=np.float64), bins["high"].to_numpy(dtype=np.float64)
    inner = np.isfinite(low) & np.isfinite(high)
    if not inner.any():
        return base.nothing(fig, "No value other than zero.", dark=dark)
    width = float(np.median((high - low)[inner]))
    low, high = np.where(np.isfinite(low), low, high - width), np.where(np.isfinite(high), high, low + width)
    count = bins["count"].to_numpy(dtype=np.float64)
    fig.add_trace(
        go.Bar(
            x=base.short((low + high) / 2),
            width=base.short(high - low),
            y=base.short(np.where(count > 0, count, np.nan) if log else count),
            marker={
                "color": theme.COLORS[0],
                "line": {"width": 0},
                "pattern": {**theme.texture(1, dark), "shape": ["" if i else "/" for i in inner]},
            },
            hovertemplate="%{x:.4g}: %{y:,.0f}<extra></extra>",
        )
    )
    fig.update_layout(bargap=0)
    if log:
        fig.update_yaxes(type="log", dtick=1)
    return fig


def denominators(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 240) -> go.Figure:
    """Draws one checkpoint's sparsity under each denominator (``frames.denominators``)."""
    fig = base.start(
        x="exact zeros (% of the denominator)",
        y="what counts as all",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt="Sparsity of a checkpoint in % of its prunable weights, encoder, whole model, and bytes on disk.",
        how="One and the same file is sparser or denser depending on what counts as all of it.",
    )
    known = base.finite(frame, ["sparsity"])
    if known.empty:
        return base.nothing(fig, "No checkpoint inspected yet.", dark=dark)
    fig.add_trace(
        go.Bar(
            x=base.short(100 * known["sparsity"]),
            y=base.texts(known["denominator"]),
            orientation="h",
            marker={"color": theme.COLORS[0]},
            text=[base.percent(v, 2) for v in known["sparsity"]],
            textposition="auto",
            customdata=np.stack([known["zeros"], known["total"]], -1).astype(np.float64),
            hovertemplate="%{y}: %{x:.4f} %<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f}<extra></extra>",
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(rangemode="tozero")
    return fig
