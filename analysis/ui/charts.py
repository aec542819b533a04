"""One chart widget for every page: zoom, box and legend survive new data, and the browser applies the
theme.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from plotly.io.json import to_json_plotly

from analysis.figures.theme import TEMPLATES
from analysis.ui.guard import escape
from analysis.ui.server import PLOTLY_PATH, bundled_plotly

log = logging.getLogger(__name__)
LARGEST = 1_000_000
TABLE_ROWS = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ASSETS = Path(__file__).resolve().parent / "assets"
_TEMPLATES = {name: template.to_plotly_json() for name, template in TEMPLATES.items()}

_mount = st.components.v2.component(
    "pruning_lab_chart",
    css=(_ASSETS / "chart.css").read_text(encoding="utf-8"),
    js=(_ASSETS / "chart.js").read_text(encoding="utf-8"),
    # plotly.js puts its styles into the document's head, which a shadow root would not see.
    isolate_styles=False,
)


def dark() -> bool:
    """Whether the visitor sees the dark theme."""
    return st.context.theme.type == "dark"


def payload(
    figure: go.Figure,
    name: str = "figure",
    revision: str = "",
    select: bool = False,
    box: dict[str, float] | None = None,
) -> dict[str, Any]:
    """What the browser needs to draw a figure, its template left out because the browser chooses that."""
    spec = figure.to_dict()
    meta = spec.get("layout", {}).pop("meta", None) or {}
    spec.get("layout", {}).pop("template", None)
    text = to_json_plotly(spec)
    if len(text) > LARGEST:
        log.warning("figure %s holds %d bytes, more than the %d a view may send", name, len(text), LARGEST)
    return {
        "figure": text,
        "alt": str(meta.get("alt", name)),
        "name": re.sub(r"[^a-z0-9-]+", "-", name.lower()),
        "revision": f"{name}|{revision}",
        "select": select,
        "box": box,
        "source": PLOTLY_PATH.lstrip("/"),
        "bundle": bundled_plotly(),
        "templates": _TEMPLATES,
    }


def chart(
    figure: go.Figure,
    *,
    key: str,
    revision: str = "",
    select: bool = False,
    box: dict[str, float] | None = None,
    on_box: Callable[[], None] | None = None,
) -> None:
    """Draws a figure, and under it how to read it.

    Args:
        figure: from `analysis.figures`; its meta carries the alternative text and the reading help.
        key: name of the chart on its page; the same key keeps the same drawing.
        revision: changes when the axes mean something else, and zoom and box are then given up.
        select: True lets the visitor draw a box.
        box: the box drawn at first, {"x0", "x1", "y0", "y1"} in the figure's units.
        on_box: called before the page is drawn again after a new box; the state of the chart then holds it.
    """
    _mount(
        key=f"chart-{key}",
        data=payload(figure, key, revision, select, box),
        on_box_change=on_box or (lambda: None),
        default={"box": None},
    )
    how = (figure.layout.meta or {}).get("how_to_read", "")
    if how:
        st.caption(f"**How to read it.** {escape(how)}")


def csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV that a spreadsheet opens as text: a name that begins like a formula gets a quote."""
    texts = frame.select_dtypes(include=["object", "string"]).columns
    harmless = {c: frame[c].map(lambda v: f"'{v}" if str(v)[:1] in _FORMULA else v) for c in texts}
    return frame.assign(**harmless).to_csv(index=False).encode("utf-8")


def data(
    frame: pd.DataFrame, figure: go.Figure | None = None, *, name: str, title: str = "Data and downloads"
) -> None:
    """The numbers behind a figure as a table, with a CSV of all of them and the figure as one HTML file.

    Args:
        frame: what the figure was drawn from.
        figure: offered as a page of its own that opens without a network; None offers none.
        name: start of the file names.
        title: heading of the fold.
    """
    with st.expander(title, icon=":material/table:"):
        st.dataframe(frame.head(TABLE_ROWS), hide_index=True, key=f"table-{name}")
        more = (
            f"The first {TABLE_ROWS:,} of {len(frame):,} rows; the CSV holds all. "
            if len(frame) > TABLE_ROWS
            else ""
        )
        st.caption(f"{more}SVG and PNG: the buttons in the figure's upper right corner.")
        with st.container(horizontal=True):
            st.download_button(
                "Table as CSV",
                lambda: csv(frame),
                f"{name}.csv",
                "text/csv",
                key=f"csv-{name}",
                on_click="ignore",
                icon=":material/download:",
            )
            if figure is not None:
                st.download_button(
                    "Figure as HTML",
                    lambda: _page(figure),
                    f"{name}.html",
                    "text/html",
                    key=f"html-{name}",
                    on_click="ignore",
                    icon=":material/download:",
                    help="One file with plotly.js inside (5 MB); opens anywhere, without a network.",
                )


def _page(figure: go.Figure) -> bytes:
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html.encode("utf-8")
