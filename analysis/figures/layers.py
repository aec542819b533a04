"""Where the sparsity went: layer × role, bars of several runs, emptied structures, one mask as a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import base, theme
from analysis.figures.picture import mask_picture

__all__ = ["ROLES", "bars", "heat", "mask_picture", "role_order", "structure"]

ROLES = {
    "query": "query",
    "key": "key",
    "value": "value",
    "query_key_value": "query, key, value",
    "attention output": "attention output",
    "ffn in": "feed-forward in",
    "ffn out": "feed-forward out",
    "conv": "convolution",
    "other": "other linear",
}
MOST_ROWS = 200
MOST_CELLS = 400  # above this many, numbers in the cells cannot be read


def role_order(roles: pd.Series) -> list[str]:
    """Puts roles in reading order: query, key, value, attention output, feed-forward in and out, the rest."""
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
        sites: site, role, layer, weights, kept (``frames.sites``); several sites of one cell are added up;
            where there is a label, it names the layer.
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
        y="layer (first on top)",
        title=title,
        dark=dark,
        height=height or min(900, 190 + 30 * max(4, count)),
        legend=False,
        alt=f"{quantity.capitalize()} in % of {of} for {count} layers by role.",
        how=f"A cell is {'kept' if value == 'keep' else 'pruned'} weights in % of the weights of that layer "
        "and role; compare rows for depth and columns for role.",
    )
    if known.empty:
        return base.nothing(fig, "No prunable matrix with a mask or zeros to show yet.", dark=dark)
    fig.add_trace(_heat(_cells(known, value), known, value, of, dark))
    fig.update_yaxes(autorange="reversed", type="category", showgrid=False)
    fig.update_xaxes(type="category", showgrid=False)
    return fig


def _heat(table: pd.DataFrame, known: pd.DataFrame, value: str, of: str, dark: bool) -> go.Heatmap:
    quantity = "weights kept" if value == "keep" else "sparsity"
    z = 100 * table.to_numpy(dtype=np.float64)
    low, high = float(np.nanmin(z)), float(np.nanmax(z))
    return go.Heatmap(
        x=base.texts(ROLES.get(r, r or "unknown") for r in table.columns),
        y=_names_of(known, table.index),
        z=z.astype(np.float32),
        texttemplate="%{z:.3g}" if table.size <= MOST_CELLS else None,
        zmin=0 if value == "keep" or low >= 100 else low,
        zmax=100 if value != "keep" else max(high, 1e-3),
        colorscale=theme.sequential(dark),
        colorbar={"title": {"text": f"{quantity}<br>(% of {base.text(of)})", "font": {"size": 11}}},
        hoverongaps=False,
        hovertemplate="layer %{y}, %{x}<br>%{z:.3f} %<extra></extra>",
        xgap=2,
        ygap=2,
    )


def _names_of(known: pd.DataFrame, layers: pd.Index) -> list[str]:
    """What the rows are called: by number, or by their label where the frame has one."""
    if "label" not in known:
        return ["none" if layer < 0 else str(layer) for layer in layers]
    label = known.drop_duplicates("layer").set_index("layer")["label"]
    return base.texts(label[layer] or "none" for layer in layers)


def _cells(known: pd.DataFrame, value: str) -> pd.DataFrame:
    """Adds sites up to layers × roles and divides: the fraction kept, or one minus it."""
    cells = known.groupby(["layer", "role"])[["kept", "weights"]].sum()
    share = cells["kept"] / cells["weights"]
    table = (share if value == "keep" else 1 - share).unstack("role")
    return table.reindex(columns=role_order(known["role"])).sort_index().iloc[:MOST_ROWS]


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
        how="Level bars spread the cut evenly; bars that rise or fall say where a method keeps its weights.",
    )
    drawn = 0
    for place, ((label, sites), name) in enumerate(zip(runs.items(), base.texts(runs), strict=True)):
        known = base.finite(sites, ["kept"])
        if known.empty:
            continue
        share, style = _shares(known, by), _style(label, place, recipes)
        drawn += 1
        fig.add_trace(
            go.Bar(
                x=_ticks(share.index, by),
                y=base.short(100 * share) if value == "keep" else base.short(100 - 100 * share),
                name=name,
                marker={"color": style.color, "pattern": theme.texture(place, dark)},
                hovertemplate=f"{by} %{{x}}: %{{y:.3f}} %<extra>{name}</extra>",
            )
        )
    if not drawn:
        return base.nothing(fig, "No prunable matrix with a mask or zeros to show yet.", dark=dark)
    fig.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05)
    fig.update_xaxes(type="category")
    return base.legend_above(fig)


def _shares(known: pd.DataFrame, by: str) -> pd.Series:
    cells = known.groupby(by, sort=by == "layer")[["kept", "weights"]].sum()
    order = role_order(known["role"]) if by == "role" else list(cells.index)
    return (cells["kept"] / cells["weights"]).reindex(order[:MOST_ROWS])


def _style(label: str, place: int, recipes: dict[str, str] | None) -> theme.Style:
    return theme.recipe_style(recipes[label]) if recipes and label in recipes else theme.line_style(place)


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
        return base.nothing(fig, "No prunable matrix with a mask or zeros to show yet.", dark=dark)
    names = base.texts(
        (f"{'' if layer < 0 else layer} {ROLES.get(role, role)}".strip() if role != "conv" else "")
        or str(site).removesuffix(".weight")  # several convolutions share a layer and a role
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
                marker={"color": style.color, "pattern": theme.texture(place, dark)},
                customdata=np.stack([known[f"{kind}_empty"], known[kind]], axis=-1).astype(np.float32),
                hovertemplate="%{x}<br>%{customdata[0]:,.0f} of %{customdata[1]:,.0f} "
                + word
                + " empty<extra></extra>",
            )
        )
    fig.update_layout(barmode="group")
    fig.update_xaxes(type="category", tickangle=-45)
    return base.legend_above(fig)


def _ticks(values: pd.Index, by: str) -> list[str]:
    if by == "layer":
        return ["none" if int(v) < 0 else str(v) for v in values]
    return base.texts(ROLES.get(str(v), str(v)) for v in values)
