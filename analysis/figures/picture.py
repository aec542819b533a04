"""One mask as an image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme


def mask_picture(
    frame: pd.DataFrame,
    *,
    heads: int = 0,
    heads_along: str = "rows",
    value: str = "keep",
    shape: tuple[int, int] | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 480,
) -> go.Figure:
    """Draws one mask as an image: dark where weights are kept.

    Args:
        frame: row, col, keep of its blocks (``frames.mask_picture``); size too for ``value`` "size".
        value: "keep", or "size": the mean |w| of each block, of a single weight w with its sign.
        heads: number of attention heads, whose borders are drawn; 0 for none.
        heads_along: "rows" for query, key and value, "columns" for the attention output.
        shape: rows and columns of the matrix, None to take the last block as the end.
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        a heat map with the first row on top.
    """
    fig = base.start(
        x="column of the matrix (input number)",
        y="row of the matrix (output number)",
        title=title,
        dark=dark,
        height=height,
        legend=False,
        alt="Picture of one matrix: the "
        + ("size of the weights" if value == "size" else "share of weights kept")
        + " in each block of it.",
        how=(
            "A pixel is a block of the matrix, its size on hover. Stripes are rows or columns that live or "
            "die together, an even grain is single weights; dotted lines are the borders of attention heads."
        ),
    )
    known = base.finite(frame, ["row", "col", value])
    if known.empty:
        return base.nothing(fig, "No mask of this matrix yet.", dark=dark)
    rows, i = np.unique(known["row"].to_numpy(), return_inverse=True)
    cols, j = np.unique(known["col"].to_numpy(), return_inverse=True)
    if value == "size":
        sizes = np.zeros((len(rows), len(cols)), dtype=np.float32)
        sizes[i, j] = known["size"].to_numpy(dtype=np.float32)
        fig.add_trace(_sizes(rows, cols, sizes, shape, dark))
    else:
        z = np.zeros((len(rows), len(cols)), dtype=np.uint8)
        z[i, j] = np.round(100 * known["keep"].to_numpy(dtype=np.float64)).clip(0, 100)
        fig.add_trace(_heat(rows, cols, z, shape, dark))
    _borders(fig, heads, heads_along, shape or (int(rows[-1]) + 1, int(cols[-1]) + 1), dark)
    fig.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    fig.update_xaxes(showgrid=False, zeroline=False)
    return fig


def _heat(
    rows: np.ndarray, cols: np.ndarray, z: np.ndarray, shape: tuple[int, int] | None, dark: bool
) -> go.Heatmap:
    block = _block(rows, cols)
    return go.Heatmap(
        x=_edges(cols, shape[1] if shape else None),
        y=_edges(rows, shape[0] if shape else None),
        z=z,
        zmin=0,
        zmax=max(1, int(z.max())),
        colorscale=theme.sequential(dark),
        colorbar={"title": {"text": "weights kept<br>(% of the block)", "font": {"size": 11}}},
        hovertemplate="row %{y:.0f}, column %{x:.0f}<br>%{z} % of " + f"{block} kept<extra></extra>",
    )


def _sizes(
    rows: np.ndarray, cols: np.ndarray, z: np.ndarray, shape: tuple[int, int] | None, dark: bool
) -> go.Heatmap:
    signed = bool((z < 0).any())
    words = "w (no unit)" if signed else "mean |w|<br>(no unit)"
    where = _block(rows, cols)
    limit = float(np.quantile(np.abs(z), 0.99)) or float(np.abs(z).max()) or 1.0
    return go.Heatmap(
        x=_edges(cols, shape[1] if shape else None),
        y=_edges(rows, shape[0] if shape else None),
        z=z,
        zmin=-limit if signed else 0,
        zmax=limit,
        colorscale=theme.diverging(dark) if signed else theme.sequential(dark),
        colorbar={"title": {"text": words, "font": {"size": 11}}},
        hovertemplate=f"row %{{y:.0f}}, column %{{x:.0f}}<br>%{{z:.4g}} in {where}<extra></extra>",
    )


def _block(rows: np.ndarray, cols: np.ndarray) -> str:
    down, across = (int(v[1] - v[0]) if len(v) > 1 else 1 for v in (rows, cols))
    return "this weight" if down == across == 1 else f"{down} x {across} weights"


def _edges(starts: np.ndarray, end: int | None) -> np.ndarray:
    step = int(starts[-1] - starts[-2]) if len(starts) > 1 else 1
    return np.append(starts, int(end) if end else int(starts[-1]) + step).astype(np.float32) - 0.5


def _borders(fig: go.Figure, heads: int, along: str, shape: tuple[int, int], dark: bool) -> None:
    line = {"color": theme.ink(dark).text, "width": 1, "dash": "dot"}
    for head in range(1, min(heads, 65)):
        if along == "rows":
            fig.add_hline(y=head * shape[0] / heads - 0.5, line=line)
        else:
            fig.add_vline(x=head * shape[1] / heads - 0.5, line=line)
