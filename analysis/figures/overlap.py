"""Do two methods keep the same weights? Overlap of masks, always beside what chance would give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.figures.layers import ROLES

MOST = 120
JACCARD = "overlap (Jaccard index, no unit)"


def bars(
    overlap: pd.DataFrame,
    *,
    title: str = "",
    a: str = "the first",
    b: str = "the second",
    dark: bool = False,
    height: int = 420,
) -> go.Figure:
    """Draws the overlap of two masks per matrix, each bar with a mark at what random masks would share.

    Args:
        overlap: site, role, layer, kept_a, kept_b, jaccard, expected (``frames.overlap``).
        title: heading inside the figure.
        a: name of the first mask.
        b: name of the second mask.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        bars and markers.
    """
    fig = base.start(
        x="matrix (layer and role)",
        y=JACCARD,
        title=title,
        dark=dark,
        height=height,
        alt=f"Overlap of the masks of {a} and {b} in {max(0, len(overlap) - 1)} matrices, beside chance.",
        how="Overlap is kept by both / kept by either. The diamond is what two independent random masks that "
        "keep as much would share; only what rises above it is agreement.",
    )
    known = base.finite(overlap, ["jaccard"]).iloc[-MOST:]
    if known.empty:
        return base.nothing(fig, "No two masks to compare yet: choose two runs of the same model.", dark=dark)
    names = base.texts(_names(known))
    page = theme.ink(dark)
    overall = (known["site"] == "overall").to_numpy()
    colors = np.where(overall, page.faint, theme.COLORS[0]).tolist()
    fig.add_trace(_measured(known, names, colors))
    fig.add_trace(
        go.Scatter(
            x=names,
            y=base.short(known["expected"]),
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 9,
                "color": theme.COLORS[1],
                "line": {"color": page.paper, "width": 1},
            },
            name="chance at the same keep",
            hovertemplate="%{x}<br>chance %{y:.4f}<extra></extra>",
        )
    )
    fig.update_xaxes(type="category", tickangle=-90 if len(names) > 14 else -45)
    fig.update_yaxes(rangemode="tozero")
    return base.legend_above(fig)


def _measured(known: pd.DataFrame, names: list[str], colors: list[str]) -> go.Bar:
    counts = np.stack([known["kept_a"], known["kept_b"], known["both"]], axis=-1).astype(np.float32)
    return go.Bar(
        x=names,
        y=base.short(known["jaccard"]),
        marker={"color": colors},
        name="measured",
        customdata=counts,
        hovertemplate="%{x}<br>overlap %{y:.4f}<br>%{customdata[0]:,.0f} and %{customdata[1]:,.0f} kept, "
        "%{customdata[2]:,.0f} by both<extra></extra>",
    )


def matrix(
    frame: pd.DataFrame, *, excess: bool = False, title: str = "", dark: bool = False, height: int = 480
) -> go.Figure:
    """Draws the overlap of every pair of several masks, with the overlap by chance under each number.

    Args:
        frame: a, b, jaccard, expected (``frames.overlap_matrix``).
        excess: True to colour by what exceeds chance instead of by the overlap itself.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a square heat map.
    """
    fig = base.start(
        x="mask (run)",
        y="mask (run, same order)",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt=f"Overlap of {frame['a'].nunique() if len(frame) else 0} masks with each other.",
        how="The upper number is the measured overlap, the lower one what chance gives at those keeps.",
    )
    if frame.empty:
        return base.nothing(
            fig, "No masks to compare yet: choose at least two runs of the same model.", dark=dark
        )
    labels = [str(v) for v in pd.unique(frame["a"])][:40]
    names = base.texts(labels, 28)
    measured, chance = _square(frame, labels, "jaccard"), _square(frame, labels, "expected")
    words = [
        [_cell(m, c, i == j, len(labels)) for j, (m, c) in enumerate(zip(*rows, strict=True))]
        for i, rows in enumerate(zip(measured, chance, strict=True))
    ]
    shown = measured - chance if excess else measured
    fig.add_trace(
        go.Heatmap(
            x=names,
            y=names,
            z=np.where(np.eye(len(labels), dtype=bool), np.nan, shown).astype(np.float32),
            text=words,
            texttemplate="%{text}",
            customdata=np.stack([measured, chance], axis=-1).astype(np.float32),
            hovertemplate="%{y} and %{x}<br>overlap %{customdata[0]:.4f}, chance %{customdata[1]:.4f}"
            "<extra></extra>",
            colorscale=theme.diverging(dark) if excess else theme.sequential(dark),
            zmid=0 if excess else None,
            zmin=None if excess else 0,
            colorbar={"title": {"text": "above chance<br>(Jaccard)" if excess else "overlap<br>(Jaccard)"}},
            hoverongaps=False,
            xgap=2,
            ygap=2,
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return fig


def _square(frame: pd.DataFrame, labels: list[str], column: str) -> np.ndarray:
    cells = frame.drop_duplicates(["a", "b"]).set_index(["a", "b"])[column]
    full = pd.MultiIndex.from_product([labels, labels], names=["a", "b"])
    square = cells.reindex(full).to_numpy(dtype=np.float64).reshape(len(labels), len(labels))
    return np.where(np.isfinite(square), square, np.nan)


def ranks(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 400) -> go.Figure:
    """Draws the rank agreement of two runs' scores per matrix.

    Args:
        frame: site, role, layer, points, spearman (``frames.rank_agreement``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        bars between −1 and 1.
    """
    fig = base.start(
        x="matrix (layer and role)",
        y="rank agreement of scores (Spearman ρ)",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt="Spearman rank correlation of two runs' scores for each matrix.",
        how="1: both rank the weights alike; 0: they have nothing in common; −1: they disagree throughout.",
    )
    known = base.finite(frame, ["spearman"]).iloc[-MOST:]
    if known.empty:
        return base.nothing(fig, "No scores of the same weights to compare yet.", dark=dark)
    colors = np.where(known["site"] == "overall", theme.ink(dark).faint, theme.COLORS[0]).tolist()
    fig.add_trace(
        go.Bar(
            x=base.texts(_names(known)),
            y=base.short(known["spearman"]),
            marker={"color": colors},
            customdata=base.short(known["points"]),
            hovertemplate="%{x}<br>%{y:.3f} on %{customdata:,.0f} sampled weights<extra></extra>",
        )
    )
    fig.update_xaxes(type="category", tickangle=-90 if len(known) > 14 else -45)
    fig.update_yaxes(range=[-1.05, 1.05], zeroline=True)
    return fig


def _names(frame: pd.DataFrame) -> list[str]:
    out = []
    for site, role, layer in zip(frame["site"], frame["role"], frame["layer"], strict=True):
        named = f"{layer} {ROLES.get(role, role)}" if layer >= 0 and role else str(site)
        out.append("all together" if site == "overall" else named)
    return out


def _cell(measured: float, chance: float, same: bool, count: int) -> str:
    if same or not np.isfinite(measured) or count > 12:
        return ""
    return f"{measured:.3f}<br>({chance:.3f})" if np.isfinite(chance) else f"{measured:.3f}"
