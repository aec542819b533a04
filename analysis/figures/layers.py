"""Where the sparsity went: layer × role heat map, bars of several runs, emptied structures, one mask as a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme

ROLES = {
    "query": "query",
    "key": "key",
    "value": "value",
    "query_key_value": "query, key, value",
    "attn_out": "attention output",
    "ffn_in": "feed-forward in",
    "ffn_out": "feed-forward out",
    "conv": "convolution",
    "linear": "other linear",
}
MOST_ROWS = 200


def role_order(roles: pd.Series) -> list[str]:
    """Puts roles in reading order: query, key, value, attention output, feed-forward in and out, convolution, others."""
    present = [str(r) for r in pd.unique(roles)]
    return [r for r in ROLES if r in present] + sorted(r for r in present if r not in ROLES)


def heat(
    sites: pd.DataFrame,
    value: str = "keep",
    *,
    title: str = "",
    of: str = "prunable weights",
    dark: bool = False,
    height: int | None = None,
) -> go.Figure:
    """Draws keep or sparsity of every layer and role as a table of coloured cells with numbers.

    Args:
        sites: site, role, layer, weights, kept (``frames.sites``); several sites of one cell are added up.
        value: "keep" or "sparsity".
        title: heading inside the figure.
        of: the denominator, in words.
        dark: True for the dark page.
        height: height in pixels, None to follow the number of layers.

    Returns:
        a heat map, first layer on top.
    """
    quantity = "weights kept" if value == "keep" else "sparsity"
    known = base.finite(sites, ["kept"])
    count = known["layer"].nunique() if len(known) else 0
    fig = base.start(
        x="role of the matrix in its layer",
        y="layer (number, first on top)",
        title=title,
        dark=dark,
        height=height or min(900, 190 + 30 * max(4, count)),
        legend=False,
        alt=f"{quantity.capitalize()} in % of {of} for {count} layers by role.",
        how=f"Each cell is {'kept' if value == 'keep' else 'zero'} weights in % of the weights of that layer and role; "
        "compare rows for depth and columns for role.",
    )
    if known.empty:
        return base.nothing(fig, "No masks yet: they are written when a run saves a snapshot.", dark=dark)
    roles = role_order(known["role"])
    cells = known.groupby(["layer", "role"])[["kept", "weights"]].sum()
    share = cells["kept"] / cells["weights"]
    table = (share if value == "keep" else 1 - share).unstack("role").reindex(columns=roles).sort_index()
    table = table.iloc[:MOST_ROWS]
    z = 100 * table.to_numpy(dtype=np.float64)
    fig.add_trace(
        go.Heatmap(
            x=base.texts(ROLES.get(r, r or "unknown") for r in roles),
            y=["none" if layer < 0 else str(layer) for layer in table.index],
            z=z.astype(np.float32),
            texttemplate="%{z:.3g}",
            colorscale=theme.sequential(dark),
            colorbar={"title": {"text": f"{quantity}<br>(% of {base.text(of)})", "font": {"size": 11}}},
            hoverongaps=False,
            hovertemplate="layer %{y}, %{x}<br>%{z:.3f} %<extra></extra>",
            xgap=2,
            ygap=2,
        )
    )
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return fig


def bars(
    runs: dict[str, pd.DataFrame],
    value: str = "keep",
    *,
    by: str = "layer",
    title: str = "",
    of: str = "prunable weights",
    recipes: dict[str, str] | None = None,
    dark: bool = False,
    height: int = 400,
) -> go.Figure:
    """Draws keep or sparsity per layer or role of several runs side by side.

    Args:
        runs: label to sites (``frames.sites``).
        value: "keep" or "sparsity".
        by: "layer", "role" or "site".
        title: heading inside the figure.
        of: the denominator, in words.
        recipes: label to recipe name, for its colour; other labels get colours by position.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        grouped bars.
    """
    quantity = "weights kept" if value == "keep" else "sparsity"
    axis = {"layer": "layer (number)", "role": "role of the matrix in its layer", "site": "matrix (name)"}[by]
    fig = base.start(
        x=axis,
        y=f"{quantity} (% of {base.text(of)})",
        title=title,
        dark=dark,
        height=height,
        alt=f"{quantity.capitalize()} in % of {of} by {by} for {len(runs)} runs.",
        how="A flat row of bars spreads the cut evenly; bars that rise or fall say where a method keeps its weights.",
    )
    drawn = 0
    for place, ((label, sites), name) in enumerate(zip(runs.items(), base.texts(runs), strict=True)):
        known = base.finite(sites, ["kept"])
        if known.empty:
            continue
        cells = known.groupby(by, sort=by == "layer")[["kept", "weights"]].sum()
        order = role_order(known["role"]) if by == "role" else list(cells.index)
        share = (cells["kept"] / cells["weights"]).reindex(order[:MOST_ROWS])
        style = (
            theme.recipe_style(recipes[label]) if recipes and label in recipes else theme.line_style(place)
        )
        drawn += 1
        fig.add_trace(
            go.Bar(
                x=_ticks(share.index, by),
                y=base.short(100 * (share if value == "keep" else 1 - share)),
                name=name,
                marker={
                    "color": style.color,
                    "pattern": {"shape": ("", "/", "x", ".", "-", "|", "+", "\\")[place % 8]},
                },
                hovertemplate=f"{by} %{{x}}: %{{y:.3f}} %<extra>{name}</extra>",
            )
        )
    if not drawn:
        return base.nothing(fig, "No masks yet: they are written when a run saves a snapshot.", dark=dark)
    fig.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05)
    fig.update_xaxes(type="category")
    return base.legend_above(fig)


def structure(frame: pd.DataFrame, *, title: str = "", dark: bool = False, height: int = 400) -> go.Figure:
    """Draws the share of rows, columns and heads of every matrix in which nothing is kept.

    Args:
        frame: rows, rows_empty, cols, cols_empty, heads, heads_empty (``frames.structure``).
        title: heading inside the figure.
        dark: True for the dark page.
        height: height in pixels.

    Returns:
        grouped bars per matrix.
    """
    fig = base.start(
        x="matrix (layer and role)",
        y="emptied (% of rows, columns or heads)",
        title=title,
        dark=dark,
        height=height,
        alt=f"Share of rows, columns and heads without any kept weight in {len(frame)} matrices.",
        how="Only what is empty as a whole can be cut out and make the model faster on ordinary hardware.",
    )
    known = base.finite(frame, ["rows_empty", "cols_empty"]).iloc[:MOST_ROWS]
    if known.empty:
        return base.nothing(fig, "No masks yet: they are written when a run saves a snapshot.", dark=dark)
    names = base.texts(
        f"{'' if layer < 0 else layer} {ROLES.get(role, role)}".strip() or site
        for layer, role, site in zip(known["layer"], known["role"], known["site"], strict=True)
    )
    for place, kind in enumerate(("rows", "cols", "heads")):
        total = known[kind].where(known[kind] > 0)
        share = 100 * known[f"{kind}_empty"] / total
        if not np.isfinite(share.to_numpy(dtype=np.float64)).any():
            continue
        word = "columns" if kind == "cols" else kind
        style = theme.line_style(place)
        fig.add_trace(
            go.Bar(
                x=names,
                y=base.short(share),
                name=word,
                marker={"color": style.color, "pattern": {"shape": ("", "/", "x")[place]}},
                customdata=np.stack([known[f"{kind}_empty"], known[kind]], axis=-1).astype(np.float32),
                hovertemplate="%{x}<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f} "
                + word
                + " empty<extra></extra>",
            )
        )
    fig.update_layout(barmode="group")
    fig.update_xaxes(type="category")
    return base.legend_above(fig)


def mask_picture(
    frame: pd.DataFrame,
    *,
    heads: int = 0,
    heads_along: str = "rows",
    shape: tuple[int, int] | None = None,
    title: str = "",
    dark: bool = False,
    height: int = 480,
) -> go.Figure:
    """Draws one mask as an image: dark where weights are kept.

    Args:
        frame: row, col, keep of its blocks (``frames.mask_picture``).
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
        alt="Picture of one mask: the share of weights kept in each block of the matrix.",
        how="Stripes are rows or columns that live or die together; an even grain means that single weights were chosen.",
    )
    known = base.finite(frame, ["row", "col", "keep"])
    if known.empty:
        return base.nothing(fig, "No mask of this matrix yet.", dark=dark)
    rows, i = np.unique(known["row"].to_numpy(), return_inverse=True)
    cols, j = np.unique(known["col"].to_numpy(), return_inverse=True)
    z = np.zeros((len(rows), len(cols)), dtype=np.uint8)
    z[i, j] = np.round(100 * known["keep"].to_numpy(dtype=np.float64)).clip(0, 100)
    fig.add_trace(
        go.Heatmap(
            x=_edges(cols, shape[1] if shape else None),
            y=_edges(rows, shape[0] if shape else None),
            z=z,
            zmin=0,
            zmax=max(1, int(z.max())),
            colorscale=theme.sequential(dark),
            colorbar={"title": {"text": "weights kept<br>(% of the block)", "font": {"size": 11}}},
            hovertemplate="row %{y:.0f}, column %{x:.0f}<br>%{z} % kept<extra></extra>",
        )
    )
    _borders(fig, heads, heads_along, shape or (int(rows[-1]) + 1, int(cols[-1]) + 1), dark)
    fig.update_yaxes(autorange="reversed", showgrid=False, zeroline=False)
    fig.update_xaxes(showgrid=False, zeroline=False)
    return fig


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


def _ticks(values: pd.Index, by: str) -> list[str]:
    if by == "layer":
        return ["none" if int(v) < 0 else str(v) for v in values]
    return base.texts(ROLES.get(str(v), str(v)) for v in values)
