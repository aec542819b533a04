"""How a run is going: loss, metric and keep against progress, several runs over each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme

PROGRESS = "progress (% of the run)"
MOST = 1500
MOST_LINES = 24


def loss(
    losses: pd.DataFrame,
    *,
    terms: tuple[str, ...] = ("loss",),
    recipes: dict[str, str] | None = None,
    smooth: int = 1,
    log: bool = False,
    title: str = "",
    dark: bool = False,
    height: int = 340,
) -> go.Figure:
    """Draws the loss, or some of its terms, against progress.

    Args:
        losses: progress in [0, 1], term, value, and "run" when there are several (``frames.losses``).
        terms: terms to draw; "loss" is the total.
        recipes: run label to recipe, for its colour.
        smooth: number of neighbouring values averaged, 1 for none; said in the axis title.
        log: True for a logarithmic vertical axis.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a line per run and term.
    """
    fig = base.start(
        x=PROGRESS,
        y="training loss, all terms (no unit)" + (f", mean of {smooth} values" if smooth > 1 else ""),
        title=title,
        dark=dark,
        height=height,
        alt="Training loss against progress.",
        how="Compare runs at the same progress; a jump upwards is a cut that hurt, or a new stage with other "
        "losses.",
    )
    chosen = losses[losses["term"].isin(list(terms))] if len(losses) else losses
    drawn = 0
    for place, run, name, part in _runs(chosen):
        for order, term in enumerate(terms):
            line = base.finite(part[part["term"] == term], ["progress", "value"])
            if line.empty:
                continue
            value = (
                line["value"].rolling(smooth, min_periods=1, center=True).mean()
                if smooth > 1
                else line["value"]
            )
            words = name if term == "loss" else f"{name}: {base.text(term)}".strip(": ")
            style = _style(run, place, recipes)
            dash = style.dash if order == 0 else theme.DASHES[(order + 1) % len(theme.DASHES)]
            _add(fig, line.assign(value=value), "value", words or "loss", style.color, dash)
            drawn += 1
    if not drawn:
        return base.nothing(fig, "No loss yet: the first values come a few steps after the start.", dark=dark)
    if log:
        fig.update_yaxes(type="log")
    return _finish(fig)


def metric(
    evals: pd.DataFrame,
    *,
    split: str = "validation",
    name: str = "",
    recipes: dict[str, str] | None = None,
    floor: float | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 340,
) -> go.Figure:
    """Draws the metric against progress: with the mask of the moment and with the mask cut to its final keep.

    Args:
        evals: progress, split, cut, metric, value, and "run" when there are several (``frames.evals``).
        split: split of the data to draw.
        name: name of the metric, "" to take it from the frame.
        recipes: run label to recipe, for its colour.
        floor: value of a predictor that learnt nothing, None to take it from the frame.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a filled marker for the current cut, a hollow one for the final cut.
    """
    rows = evals[evals["split"] == split] if len(evals) else evals
    metrics = [m for m in pd.unique(rows["metric"]) if m] if len(rows) else []
    quantity = base.text(name or (str(metrics[0]).replace("_", " ") if metrics else "metric"))
    fig = base.start(
        x=PROGRESS,
        y=f"{quantity} on the {base.text(split)} split",
        title=title,
        dark=dark,
        height=height,
        alt=f"{quantity} on the {split} split against progress.",
        how="Filled: the model as it is cut at that moment. Hollow: cut to its final keep at once.",
    )
    drawn = 0
    for place, run, label, part in _runs(rows):
        style = _style(run, place, recipes)
        for cut, words in (("current", "cut now"), ("final", "cut to the final keep")):
            line = base.finite(part[part["cut"] == cut], ["progress", "value"]).sort_values("progress")
            if line.empty:
                continue
            symbol = style.symbol + ("" if cut == "current" else "-open")
            shown = f"{label}, {words}" if label else words
            _add(fig, line, "value", shown, style.color, style.dash if cut == "current" else "dot", symbol)
            drawn += 1
    if not drawn:
        return base.nothing(fig, f"No evaluation on the {split} split yet.", dark=dark)
    if floor is None and len(rows):
        known = rows["floor"].to_numpy(dtype=np.float64)
        floors = np.unique(known[np.isfinite(known)])
        floor = float(floors[0]) if len(floors) == 1 else None
    if floor is not None and np.isfinite(floor):
        base.level(fig, floor, "floor: learnt nothing", color=theme.ink(dark).faint)
    return _finish(fig)


def keep(
    keeps: pd.DataFrame,
    *,
    recipes: dict[str, str] | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 340,
) -> go.Figure:
    """Draws the scheduled and the measured share of kept weights against progress.

    Args:
        keeps: progress, keep (scheduled), kept (measured), and "run" when there are several
            (``frames.keeps``).
        recipes: run label to recipe, for its colour.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a solid line for what was measured and a dotted one for the schedule.
    """
    fig = base.start(
        x=PROGRESS,
        y="weights kept (% of prunable weights)",
        title=title,
        dark=dark,
        height=height,
        alt="Share of prunable weights kept against progress, scheduled and measured.",
        how=(
            "The thin dotted line is the schedule, the other what the masks keep; a keep that is learnt "
            "freely has none."
        ),
    )
    drawn = 0
    for place, run, label, part in _runs(keeps):
        style = _style(run, place, recipes)
        for column, words, dash in (("kept", "measured", style.dash), ("keep", "scheduled", "dot")):
            line = base.finite(part, ["progress", column])
            if line.empty:
                continue
            shown = f"{label}, {words}" if label else words
            line = line.assign(value=100 * line[column])
            _add(fig, line, "value", shown, style.color, dash, width=2.2 if column == "kept" else 1.2)
            drawn += 1
    if not drawn:
        return base.nothing(
            fig, "No masks measured yet: the first values come a few steps after the start.", dark=dark
        )
    fig.update_yaxes(rangemode="tozero")
    return _finish(fig)


def flips(
    keeps: pd.DataFrame,
    *,
    recipes: dict[str, str] | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 340,
) -> go.Figure:
    """Draws the share of mask bits that changed between two loss lines against progress."""
    fig = base.start(
        x=PROGRESS,
        y="mask bits changed (% of weights)",
        title=title,
        dark=dark,
        height=height,
        alt="Share of mask bits that flipped against progress.",
        how=(
            "What changed in the hundredth of the run before a value; recorded runs hold only some values. "
            "High: the choice is still open; zero: it has been made. Runs on one schedule may hide another."
        ),
    )
    drawn = 0
    for place, run, label, part in _runs(keeps):
        line = base.finite(part, ["progress", "flips"])
        if line.empty:
            continue
        style = _style(run, place, recipes)
        _add(fig, line.assign(value=100 * line["flips"]), "value", label or "flips", style.color, style.dash)
        drawn += 1
    if not drawn:
        return base.nothing(fig, "No changes of the mask counted yet.", dark=dark)
    fig.update_yaxes(rangemode="tozero")
    return _finish(fig)


def _runs(frame: pd.DataFrame) -> Iterator[tuple[int, str, str, pd.DataFrame]]:
    """Gives place, run, label and rows of every run; the label is empty for a single unnamed run."""
    if frame.empty:
        return
    if "run" not in frame.columns:
        yield 0, "", "", frame
        return
    runs = [str(r) for r in pd.unique(frame["run"])][:MOST_LINES]
    for place, (run, name) in enumerate(zip(runs, base.texts(runs), strict=True)):
        yield place, run, name, frame[frame["run"] == run]


def _style(run: str, place: int, recipes: dict[str, str] | None) -> theme.Style:
    """The style of a run's recipe; a second run of a recipe gets other dashes and marks, the colour stays."""
    if not recipes or run not in recipes:
        return theme.line_style(place)
    style = theme.recipe_style(recipes[run])
    again = [name for name, recipe in recipes.items() if recipe == recipes[run]].index(run)
    if not again:
        return style
    dashes = [dash for dash in theme.DASHES if dash != "dot"]  # dotted is what was scheduled or cut at once
    start = dashes.index(style.dash) if style.dash in dashes else 0
    symbol = theme.SYMBOLS[(theme.SYMBOLS.index(style.symbol) + again) % len(theme.SYMBOLS)]
    return theme.Style(style.color, symbol, dashes[(start + again) % len(dashes)])


def _add(
    fig: go.Figure,
    line: pd.DataFrame,
    column: str,
    name: str,
    color: str,
    dash: str,
    symbol: str = "",
    width: float = 2.0,
) -> None:
    line = base.thin(line, MOST)
    marker = (
        {"symbol": symbol, "size": 8, "color": color, "line": {"width": 1.5, "color": color}}
        if symbol
        else None
    )
    fig.add_trace(
        go.Scatter(
            x=base.short(100 * line["progress"]),
            y=base.short(line[column]),
            mode="lines+markers" if symbol else "lines",
            line={"color": color, "dash": dash, "width": width},
            marker=marker,
            name=name,
            hovertemplate="%{x:.1f} %: %{y:.4g}<extra>" + name + "</extra>",
        )
    )


def _finish(fig: go.Figure) -> go.Figure:
    fig.update_xaxes(range=[0, 100.5])
    fig.update_layout(hovermode="closest", uirevision="keep")
    return base.legend_above(fig)
