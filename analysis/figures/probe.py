"""What a further cut would cost: quality against keep, estimated and verified, and the time of a forward."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.frames.probe import VERIFIED, probe_best, probe_line

KEPT = "weights kept (% of prunable weights)"
LINES = (("magnitude", "global"), ("magnitude", "local"), ("scores", "global"), ("scores", "local"))


def cost(
    points: pd.DataFrame,
    *,
    metric: str = "test accuracy (fraction)",
    floor: float | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 460,
) -> go.Figure:
    """Draws quality against keep after one-shot cuts: verified points filled, estimated ones hollow.

    Args:
        points: keep, sparsity, by, scope, state, value, error and rows (``frames.probe_points``).
        metric: quantity and unit of the vertical axis.
        floor: value of a predictor that learnt nothing.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a line a way of cutting, with a logarithmic horizontal axis; error bars of one standard error.
    """
    known = base.finite(points, ["keep", "value"])
    known = probe_best(known[known["keep"] > 0]) if len(known) else known
    # A model that is sparse as opened keeps less than was asked: the axis is what is there.
    left = (1 - known["sparsity"]).fillna(1).round(12)
    known = known.assign(keep=np.minimum(known["keep"], left))
    fig = base.start(
        x=KEPT,
        y=metric,
        title=title,
        dark=dark,
        height=height,
        alt=f"{metric} against {KEPT} after one-shot cuts, {len(known)} points.",
        how=(
            "Hollow marks are estimates on a few rows, with one standard error; a mark is filled when it has "
            "been measured on all rows. Nothing was trained after the cut: training usually wins part of "
            "the loss back, so read a fall as the least that pruning this far has to repair."
        ),
    )
    if known.empty:
        return base.nothing(fig, "Nothing measured yet: press the button above.", dark=dark)
    dense, cuts = known[known["by"] == ""], known[known["by"] != ""]
    for (by, scope), line in cuts.groupby(["by", "scope"], sort=True):
        _line(fig, str(by), str(scope), pd.concat([dense, line]).sort_values("keep"))
    if cuts.empty:
        _line(fig, "", "", dense)
    if len(dense):
        _opened(fig, float(dense["value"].iloc[0]), dark)
    if floor is not None and np.isfinite(floor):
        base.level(fig, floor, "floor: learnt nothing", color=theme.ink(dark).faint)
    ticks = base.thin(pd.DataFrame({"at": sorted(set(100 * known["keep"]))}), 12)["at"].tolist()
    fig.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{t:.3g}" for t in ticks])
    return base.legend_above(fig)


def _opened(fig: go.Figure, value: float, dark: bool) -> None:
    # Its mark is at the right end of the line, so that the words stand at the left one.
    color = theme.ink(dark).text
    words = {"annotation_text": "as opened", "annotation_position": "top left"}
    fig.add_hline(y=value, line={"color": color, "dash": "dash", "width": 1.2}, **words)


def _line(fig: go.Figure, by: str, scope: str, line: pd.DataFrame) -> None:
    place = LINES.index((by, scope)) if (by, scope) in LINES else len(LINES)
    style = theme.line_style(place) if by else theme.recipe_style("dense")
    name = base.text(probe_line(by, scope), 60)
    line = base.thin(line, 500)
    sure = (line["state"] == VERIFIED).to_numpy()
    error = line["error"].to_numpy(dtype=np.float64)
    bars = base.short(np.where(np.isfinite(error) & ~sure, error, 0))
    told = np.stack([base.short(line[c]) for c in ("rows", "sparsity", "error")], axis=-1)
    fig.add_trace(
        go.Scatter(
            x=base.short(100 * line["keep"]),
            y=base.short(line["value"]),
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2},
            marker={
                "symbol": [style.symbol + ("" if s else "-open") for s in sure],
                "size": 10,
                "color": style.color,
                "line": {"width": 1.5, "color": style.color},
            },
            error_y={"array": bars, "color": style.color, "thickness": 1.2, "width": 4},
            name=name,
            showlegend=True,
            customdata=told,
            text=[base.text(state) for state in line["state"]],
            hovertemplate="%{x:.3g} % kept: %{y:.4f} (%{text})<br>%{customdata[0]:,.0f} rows, standard error "
            "%{customdata[2]:.4f}<br>zeros: %{customdata[1]:.1%}<extra>" + name + "</extra>",
        )
    )


def latency(times: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 240) -> go.Figure:
    """Draws the time of a forward pass for every form of the model, with its spread.

    Args:
        times: variant, seconds, low, high, ratio, parameters and kernel (``frames.probe_latency``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a bar a form, median with lower and upper quartile; forms that do not exist have none.
    """
    known = base.finite(times, ["seconds", "low", "high"])
    fig = base.start(
        x="one forward pass (ms)",
        y="form of the model",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt=f"Time of one forward pass for {len(known)} forms of the model.",
        how=(
            "Medians with quartiles, all forms timed in turns on this machine; the number in a bar is its "
            "time as a share of dense. Masked and dense differ in their values alone, so the difference of "
            "their times is what this machine's noise amounts to."
        ),
    )
    if known.empty:
        return base.nothing(fig, "Nothing timed yet: that comes last.", dark=dark)
    known = base.thin(known, 12)
    middle = 1000 * known["seconds"].to_numpy(dtype=np.float64)
    fig.add_trace(
        go.Bar(
            x=base.short(middle),
            y=base.texts(known["variant"]),
            orientation="h",
            marker={"color": [theme.COLORS[0 if v == "dense" else 5] for v in known["variant"]]},
            error_x={
                "array": base.short(1000 * known["high"] - middle),
                "arrayminus": base.short(middle - 1000 * known["low"]),
                "symmetric": False,
                "color": theme.ink(dark).text,
                "thickness": 1.4,
                "width": 5,
            },
            text=[f"{ratio:.2f} ×" if np.isfinite(ratio) else "" for ratio in known["ratio"]],
            textposition="inside",
            insidetextanchor="start",
            customdata=[base.text(kernel, 120) for kernel in known["kernel"]],
            hovertemplate="%{y}: %{x:.3g} ms<br>%{customdata}<extra></extra>",
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(rangemode="tozero")
    return fig
