"""The two-colour picture of a plane: hue is the share of a bin that was kept, depth the weights in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import theme

LEVELS = 12
BANDS = ("none kept", "under ⅓", "about ½", "over ⅔", "all kept")
EMPTY = 255


def grid(plane: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places the bins of a plane on a grid.

    Args:
        plane: non-empty bins with centre x, y, width dx, dy, and counts kept, pruned.

    Returns:
        edges of the columns, edges of the rows, and the kept and pruned counts, int64 [rows, columns].
    """
    x, columns = _axis(plane["x"].to_numpy(), plane["dx"].to_numpy())
    y, rows = _axis(plane["y"].to_numpy(), plane["dy"].to_numpy())
    shape = (len(y) - 1, len(x) - 1)
    counts = np.zeros((2, *shape), dtype=np.int64)
    np.add.at(counts[0], (rows, columns), plane["kept"].to_numpy())
    np.add.at(counts[1], (rows, columns), plane["pruned"].to_numpy())
    return x, y, counts[0], counts[1]


def _axis(centre: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = centre - width / 2, centre + width / 2
    least = float(width.min()) / 4
    edges = np.unique(np.concatenate([low, high]))
    edges = edges[
        np.concatenate([[True], np.diff(edges) > least])
    ]  # the same edge from two sides differs by rounding
    return edges, np.abs(edges[None, :] - low[:, None]).argmin(axis=1) if len(low) < 64 else _nearest(
        edges, low
    )


def _nearest(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    right = np.searchsorted(edges, values).clip(1, len(edges) - 1)
    return np.where(values - edges[right - 1] <= edges[right] - values, right - 1, right)


def codes(kept: np.ndarray, pruned: np.ndarray, show: str = "both") -> np.ndarray:
    """Codes every cell as band × LEVELS + depth in uint8, 255 where it is empty.

    Args:
        kept: kept weights per cell.
        pruned: pruned weights per cell, same shape.
        show: "both", or only the "kept" or the "pruned" ones.

    Returns:
        uint8 of the same shape; the band grows with the share kept, the depth with the logarithm of the
        count.
    """
    kept, pruned = (kept, pruned * (show != "kept")) if show != "pruned" else (kept * 0, pruned)
    total = kept + pruned
    most = max(2, int(total.max(initial=0)))
    depth = np.log(total.clip(1)) / np.log(most)
    share = kept / total.clip(1)
    band = np.digitize(share, [1e-12, 1 / 3, 2 / 3, 1.0])
    code = band * LEVELS + (depth * LEVELS).astype(np.int64).clip(0, LEVELS - 1)
    return np.where(total > 0, code, EMPTY).astype(np.uint8)


def scale(dark: bool = False) -> list[list[Any]]:
    """Builds the colour scale of ``codes``: one flat step for each of the 5 bands × LEVELS depths."""
    hues = (theme.PRUNED, "#C98A5E", theme.MIXED, "#5D93B8", theme.KEPT)
    if dark:
        hues = ("#FF8A3D", "#C79A78", "#A8A8A8", "#7FB2D6", "#4DB1F2")
    page = theme.ink(dark).paper
    steps = len(BANDS) * LEVELS
    out: list[list[Any]] = []
    for band, hue in enumerate(hues):
        for level in range(LEVELS):
            share = 0.28 + 0.72 * level / (LEVELS - 1)
            color = theme.mix(page, hue, share)
            if level > LEVELS * 0.6 and not dark:  # the fullest cells go past the hue, towards ink
                color = theme.mix(color, "#101828", 0.35 * (level / (LEVELS - 1) - 0.6) / 0.4)
            at = band * LEVELS + level
            out += [[at / steps, color], [(at + 1) / steps, color]]
    out[0][0], out[-1][0] = 0, 1
    return out


def heatmap(plane: pd.DataFrame, show: str, dark: bool) -> go.Heatmap:
    """Draws a plane as one heat map whose hover gives the exact counts of a bin."""
    x, y, kept, pruned = grid(plane)
    z = codes(kept, pruned, show).astype(np.float32)
    z[z == EMPTY] = np.nan
    middle = [band * LEVELS + LEVELS / 2 - 0.5 for band in range(len(BANDS))]
    counts = np.stack([kept, pruned], axis=-1)
    narrow = np.uint16 if counts.max(initial=0) < 65536 else np.uint32
    return go.Heatmap(
        x=x,
        y=y,
        z=z,
        customdata=counts.astype(narrow),
        zmin=-0.5,
        zmax=len(BANDS) * LEVELS - 0.5,
        colorscale=scale(dark),
        hoverongaps=False,
        hovertemplate="%{x:.4g}, %{y:.4g}<br>%{customdata[0]:,} kept, %{customdata[1]:,} pruned"
        "<extra></extra>",
        colorbar={
            "title": {
                "text": "share of the bin kept<br>(stronger = more weights)",
                "side": "top",
                "font": {"size": 11},
            },
            "tickvals": middle,
            "ticktext": list(BANDS),
            "thickness": 16,
            "len": 0.85,
        },
        name="bins",
    )
