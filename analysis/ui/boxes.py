"""Boxes drawn in a plane: kept in the address, drawn again on the next visit, and told in words."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.ui import charts, pick, url

COLUMNS = {
    "layer": st.column_config.NumberColumn("layer", width="small"),
    "weights": st.column_config.NumberColumn("weights in the box", format="localized"),
    "kept": st.column_config.NumberColumn("of them kept", format="localized"),
    "share": st.column_config.ProgressColumn("share kept", format="percent", min_value=0, max_value=1),
}
_SIDES = ("x0", "x1", "y0", "y1")
Box = dict[str, float]


def parse(texts: list[str]) -> Box | None:
    """The box written in an address as four numbers between commas; None when it is not one."""
    try:
        numbers = [float(word) for word in texts[0].split(",")] if texts else []
    except ValueError:
        return None
    return (
        dict(zip(_SIDES, numbers, strict=True))
        if len(numbers) == 4 and all(map(math.isfinite, numbers))
        else None
    )


def chart(figure: go.Figure, *, key: str) -> Box | None:
    """Draws a figure in which a box can be drawn, and returns the box that is in force.

    Args:
        figure: a plane.
        key: name of the box in the address; another plane has another one.

    Returns:
        the box in the units of the axes, None without one.
    """
    held = parse(url.read(key))

    def drawn() -> None:
        box = st.session_state[f"chart-{key}"].get("box")
        texts = ",".join(f"{box[side]:.6g}" for side in _SIDES) if box else None
        url.write(key, texts)

    charts.chart(figure, key=key, select=True, box=held, on_box=drawn)
    return held


def table(inside: pd.DataFrame) -> pd.DataFrame:
    """The counts per site with the share kept, fullest first, sites without any weight left out."""
    found = inside[inside["weights"] > 0]
    return found.assign(
        role=found["role"].map(pick.role_name), share=found["kept"] / found["weights"]
    ).sort_values("weights", ascending=False)


def sentence(inside: pd.DataFrame, points: str = "box") -> str:
    """What lies in a box, in one sentence with exact numbers."""
    weights, kept = int(inside["weights"].sum()), int(inside["kept"].sum())
    if not weights:
        return f"No weight lies in this {points}; draw it where the figure has colour."
    by_layer = inside.groupby("layer")["weights"].sum().sort_values(ascending=False)
    by_role = inside.groupby("role")["weights"].sum().sort_values(ascending=False)
    return (
        f"The {points} holds {weights:,} weights, {kept:,} of them kept ({100 * kept / weights:.1f} %). "
        f"Most lie in layer {by_layer.index[0]} ({100 * by_layer.iloc[0] / weights:.0f} %) and in the role "
        f"{pick.role_name(str(by_role.index[0]))} ({100 * by_role.iloc[0] / weights:.0f} %)."
    )
