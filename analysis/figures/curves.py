"""What sparsity costs: the measured quality against keep, one line per recipe, seeds as bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures import base, theme

KEPT = "weights kept (% of prunable weights)"


def accuracy_keep(
    curves: pd.DataFrame,
    points: pd.DataFrame | None = None,
    *,
    x_title: str = KEPT,
    metric: str = "accuracy",
    floor: float | None = None,
    dense: float | Mapping[object, float] | None = None,
    published: pd.DataFrame | None = None,
    facet: str = "",
    log: bool = True,
    percent: bool = True,
    title: str = "",
    dark: bool = False,
    height: int = 480,
) -> go.Figure:
    """Draws quality against keep: a line per recipe through the means of its seeds, a band over their range.

    Args:
        curves: recipe, keep in [0, 1], mean, low, high, runs, and the facet column (``frames.curves``); those
            with an optional "variant" are paler lines, those with True as "estimated" are drawn hollow.
        points: single runs: recipe, keep_prunable (or keep), value, recorded, seed, and the facet column
            (``frames.results``); recorded runs are small and filled, one's own larger with an outline.
        x_title: quantity and denominator of the horizontal axis.
        metric: quantity of the vertical axis, such as "test accuracy".
        floor: value of a predictor that learnt nothing.
        dense: value of the unpruned model; by panel where they have their own (None is all of them).
        published: recipe, keep, value, source and scope of printed results, hollow, global ones with a dot.
        facet: column that splits the figure into panels side by side, "" for one panel.
        log: True for a logarithmic horizontal axis.
        percent: True when the horizontal values are fractions to be shown in per cent.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a line figure; nothing is smoothed or extrapolated.
    """
    known = base.finite(curves.assign(variant=base.column(curves, "variant")), ["keep", "mean"])
    panels = base.panels(known, facet)
    fig = _canvas(known, panels, facet, x_title, metric, title, dark, height)
    if points is not None and not base.column(points, "recorded", False).astype(bool).all():
        fig.layout.meta["how_to_read"] += " Small outlined marks are your own runs, one each."
    if known.empty and (points is None or points.empty):
        return base.nothing(fig, "No finished run with a final evaluation yet: start one.", dark=dark)
    times, named = (100.0 if percent else 1.0), set[str]()
    for column, panel in enumerate(panels, start=1):
        part = known if panel is None else known[known[facet] == panel]
        _lines(fig, part, sorted(set(known["variant"]) - {""}), times, column, named)
        _singles(fig, points, facet, panel, times, column, dark)
        _published(fig, published, times, column, named)
        level = dense.get(panel, dense.get(None)) if isinstance(dense, Mapping) else dense
        _levels(fig, floor, level, column, column == len(panels), dark)
    if log:
        fig.update_xaxes(type="log")
        _log_ticks(fig, [known, points, published], times)
    base.legend_above(fig)
    if len(panels) > 1:  # above the headings of the panels
        fig.update_layout(legend={"y": 1.09}, margin={"t": 104 if title else 78})
    return fig


def _canvas(
    known: pd.DataFrame,
    panels: list[object],
    facet: str,
    x: str,
    metric: str,
    title: str,
    dark: bool,
    height: int,
) -> go.Figure:
    recipes = known["recipe"].nunique() if len(known) else 0
    how = (
        "Lines join the means of the seeds, bands reach from the worst to the best seed (n on hover). "
        "Where bands overlap, the order of two recipes is not settled."
    )
    if (known["variant"] != "").any():
        how += " Paler lines are runs of a recipe with other settings, never averaged with the rest."
    fig = base.start(
        x=x,
        y=metric,
        title=title,
        dark=dark,
        height=height,
        alt=f"{metric} against {x} for {recipes} recipes.",
        how=how,
    )
    if len(panels) > 1:
        layout = fig.layout
        names = [
            f"{facet.replace('_', ' ')} {base.text(f'{p:g}' if isinstance(p, float) else p or 'none')}"
            for p in panels
        ]
        fig = make_subplots(
            rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=names
        )
        fig.update_layout(template=theme.template(dark), height=height, meta=layout.meta, title=layout.title)
        fig.update_annotations(font={"size": 13})
        fig.update_xaxes(title={"text": x})
        fig.update_yaxes(title={"text": metric}, col=1)
    return fig


def _lines(
    fig: go.Figure, part: pd.DataFrame, variants: list[str], times: float, column: int, named: set[str]
) -> None:
    """Draws a line per recipe, and one more in its colour, with another dash, per variant of it."""
    for (recipe, variant), line in part.groupby(["recipe", "variant"], sort=True):
        style, title = theme.recipe_style(str(recipe)), theme.recipe_title(str(recipe))
        if variant:
            title = f"{title}, {variant}"
            place = theme.DASHES.index(style.dash) + 3 * (1 + variants.index(str(variant)))
            style = replace(style, dash=theme.DASHES[place % len(theme.DASHES)])
        opacity = 0.55 if variant else 1.0
        _line(fig, line.sort_values("keep"), base.text(title, 80), style, opacity, times, column, named)


def _line(
    fig: go.Figure,
    line: pd.DataFrame,
    name: str,
    style: theme.Style,
    opacity: float,
    times: float,
    column: int,
    named: set[str],
) -> None:
    x = base.short(line["keep"] * times)
    where = {"row": 1, "col": column} if fig._has_subplots() else {}
    if (line["runs"] > 1).any():
        band = np.concatenate([base.short(line["high"]), base.short(line["low"])[::-1]])
        fig.add_trace(
            go.Scatter(
                x=np.concatenate([x, x[::-1]]),
                y=band,
                fill="toself",
                fillcolor=theme.fade(style.color, 0.18 * opacity),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            ),
            **where,
        )
    estimated = base.column(line, "estimated", False).astype(bool).to_numpy()
    symbols = [style.symbol + ("-open" if e else "") for e in estimated]
    spread = np.stack([line["low"], line["high"], line["runs"]], axis=-1).astype(np.float32)
    fig.add_trace(
        go.Scatter(
            x=x,
            y=base.short(line["mean"]),
            mode="lines+markers",
            line={"color": style.color, "dash": "dot" if estimated.all() else style.dash, "width": 2.2},
            marker={
                "symbol": symbols,
                "color": style.color,
                "size": 9,
                "line": {"width": 1, "color": style.color},
            },
            opacity=opacity,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            customdata=spread,
            hovertemplate="%{x:.3g}: %{y:.4f}<br>%{customdata[0]:.4f} to %{customdata[1]:.4f}, "
            "n = %{customdata[2]:.0f}<extra>" + name + "</extra>",
        ),
        **where,
    )
    named.add(name)


def _singles(
    fig: go.Figure,
    points: pd.DataFrame | None,
    facet: str,
    panel: object,
    times: float,
    column: int,
    dark: bool,
) -> None:
    if points is None or points.empty:
        return
    x = "keep" if "keep" in points.columns else "keep_prunable"
    known = base.finite(points, [x, "value"])
    if facet and panel is not None and facet in known.columns:
        known = known[known[facet] == panel]
    where = {"row": 1, "col": column} if fig._has_subplots() else {}
    for recorded, word, size, width in ((True, "recorded run", 5, 0), (False, "your run", 7, 1.2)):
        mine = known[base.column(known, "recorded", False).astype(bool) == recorded]
        for recipe, part in mine.groupby("recipe", sort=True):
            style = theme.recipe_style(str(recipe))
            part = base.thin(part, 500)
            seeds = base.column(part, "seed", 0).to_numpy(dtype=np.float64)
            fig.add_trace(
                go.Scatter(
                    x=base.short(part[x] * times),
                    y=base.short(part["value"]),
                    mode="markers",
                    marker={
                        "symbol": style.symbol,
                        "size": size,
                        "color": style.color,
                        "opacity": 0.6 if recorded else 0.95,
                        "line": {"width": width, "color": theme.ink(dark).text},
                    },
                    legendgroup=base.text(theme.recipe_title(str(recipe))),
                    showlegend=False,
                    customdata=base.short(seeds),
                    hovertemplate=f"%{{x:.3g}}: %{{y:.4f}}<br>{word}, seed %{{customdata:.0f}}<extra>"
                    f"{base.text(theme.recipe_title(str(recipe)))}</extra>",
                ),
                **where,
            )


def _published(
    fig: go.Figure, published: pd.DataFrame | None, times: float, column: int, named: set[str]
) -> None:
    if published is None or published.empty:
        return
    where = {"row": 1, "col": column} if fig._has_subplots() else {}
    known = base.finite(published.assign(scope=base.column(published, "scope")), ["keep", "value"])
    both = {str(r): part["scope"].nunique() > 1 for r, part in known.groupby("recipe")}
    for (recipe, scope), part in known.groupby(["recipe", "scope"], sort=True):
        style = theme.recipe_style(str(recipe))
        whole = scope == "global" and both[str(recipe)]
        name = f"{base.text(theme.recipe_title(str(recipe)))}{', global' if whole else ''} (published)"
        part = base.thin(part.sort_values("keep"), 200)
        fig.add_trace(
            go.Scatter(
                x=base.short(part["keep"] * times),
                y=base.short(part["value"]),
                mode="markers",
                marker={
                    "symbol": style.symbol + ("-open-dot" if whole else "-open"),
                    "size": 10,
                    "color": style.color,
                    "line": {"width": 1.5},
                },
                name=name,
                showlegend=name not in named,
                text=[base.text(source, 120) for source in base.column(part, "source")],
                hovertemplate="%{x:.3g}: %{y:.4f}<br>%{text}<extra>" + name + "</extra>",
            ),
            **where,
        )
        named.add(name)


def _levels(
    fig: go.Figure, floor: float | None, dense: float | None, column: int, label: bool, dark: bool
) -> None:
    where = {"row": 1, "col": column} if fig._has_subplots() else {}
    page, style = theme.ink(dark), theme.recipe_style("dense")
    for value, words, color, dash, position in (
        (dense, "dense, nothing pruned", page.text, style.dash, "top left"),
        (floor, "floor: learnt nothing", page.faint, "dot", "bottom right"),
    ):
        if value is None or not np.isfinite(value):
            continue
        extra = {"annotation_text": words, "annotation_position": position} if label else {}
        fig.add_hline(y=float(value), line={"color": color, "dash": dash, "width": 1.5}, **extra, **where)


def _log_ticks(fig: go.Figure, drawn: list[pd.DataFrame | None], times: float) -> None:
    """Writes plain numbers on a logarithmic axis: the measured keeps when few, else 1, 2, 5, 10, …."""
    frames = [f for f in drawn if f is not None and len(f)]
    values = [f["keep" if "keep" in f.columns else "keep_prunable"].to_numpy(np.float64) for f in frames]
    seen = np.concatenate(values) * times if values else np.array([])
    if not len(seen := seen[np.isfinite(seen) & (seen > 0)]):
        return
    ticks = sorted({float(f"{v:.2g}") for v in seen})
    if len(ticks) > 9 or any(b < 1.3 * a for a, b in pairwise(ticks)):
        low, high = np.floor(np.log10(seen.min() * 0.9)), np.ceil(np.log10(seen.max()))
        ticks = [float(d * 10.0**e) for e in range(int(low), int(high) + 1) for d in (1, 2, 5)]
        if sum(seen.min() <= t <= seen.max() for t in ticks) < 2:  # a narrow range between two of them
            ticks = [float(f"{t:.2g}") for t in np.geomspace(seen.min(), seen.max(), 5)]
    fig.update_xaxes(tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
