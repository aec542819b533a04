"""What compute buys: quality against the multiply-adds of training, a staircase per recipe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.frames.front import amount

MACS = "training compute (multiply-adds)"
MOST = 500  # trials drawn of one recipe


def accuracy_compute(
    trials: pd.DataFrame,
    *,
    metric: str = "test accuracy",
    floor: float | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 480,
) -> go.Figure:
    """Draws quality against training compute: every trial a hollow mark, the front of a recipe a staircase.

    Args:
        trials: recipe, macs, test, validation, keep, lr, runs and front (``frames.trials``).
        metric: quantity of the vertical axis.
        floor: value of a predictor that learnt nothing.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a figure with a logarithmic horizontal axis; a staircase is level up to the next point that is better.
    """
    known = base.finite(trials, ["macs", "test"])
    known = known[known["macs"] > 0] if len(known) else known
    recipes = known["recipe"].nunique() if len(known) else 0
    fig = base.start(
        x=MACS,
        y=metric,
        title=title,
        dark=dark,
        height=height,
        alt=f"{metric} against {MACS} for {recipes} recipes.",
        how=(
            "A filled mark is a setting that did better on the validation split than every cheaper one of "
            "its recipe; hollow marks are the others. Read a budget on the axis: the staircase above it is "
            "what that budget buys, runs to find the setting not counted. Zeros in a mask save nothing here; "
            "only what was removed before training does."
        ),
    )
    if known.empty:
        return base.nothing(fig, "No finished run says what it computed: start one.", dark=dark)
    for recipe, part in known.groupby("recipe", sort=True):
        _recipe(fig, str(recipe), part.sort_values("macs", kind="stable"))
    if floor is not None and np.isfinite(floor):
        base.level(fig, floor, "floor: learnt nothing", color=theme.ink(dark).faint)
    _ticks(fig, known["macs"].to_numpy(dtype=np.float64))
    return base.legend_above(fig)


def _recipe(fig: go.Figure, recipe: str, part: pd.DataFrame) -> None:
    style, name = theme.recipe_style(recipe), base.text(theme.recipe_title(recipe))
    chosen = base.column(part, "front", False).astype(bool)
    others = base.thin(part[~chosen], MOST)
    if len(others):
        look = {"symbol": f"{style.symbol}-open", "size": 7, "opacity": 0.6}
        fig.add_trace(_marks(others, "markers", name, style, look, bool(chosen.any())))
    if chosen.any():
        look = {"symbol": style.symbol, "size": 9}
        fig.add_trace(_marks(base.thin(part[chosen], MOST), "lines+markers", name, style, look, False))


def _marks(
    part: pd.DataFrame, mode: str, name: str, style: theme.Style, look: dict[str, object], silent: bool
) -> go.Scatter:
    told = np.stack([base.short(base.column(part, c, np.nan)) for c in ("validation", "keep", "lr")], axis=-1)
    return go.Scatter(
        x=part["macs"].to_numpy(dtype=np.float64),  # float32 ends at 3e38, but loses whole multiply-adds
        y=base.short(part["test"]),
        mode=mode,
        line={"shape": "hv", "color": style.color, "dash": style.dash, "width": 2.2},
        marker={"color": style.color, **look},
        name=name,
        legendgroup=name,
        showlegend=not silent,
        customdata=told,
        hovertemplate="%{x:.3s}: %{y:.4f}<br>validation %{customdata[0]:.4f}, keep %{customdata[1]:.3g}, "
        "learning rate %{customdata[2]:.3g}<extra>" + name + "</extra>",
    )


def _ticks(fig: go.Figure, macs: np.ndarray) -> None:
    """Writes 1, 2, 5, 10, … with a prefix; powers of ten alone where there are many."""
    low, high = int(np.floor(np.log10(macs.min()))), int(np.ceil(np.log10(macs.max() * 1.0001)))
    digits = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [float(d * 10.0**e) for e in range(low, high + 1) for d in digits]
    fig.update_xaxes(type="log", tickvals=ticks, ticktext=[amount(t) for t in ticks])
