"""The views of the checkpoint page: each draws the figure that answers its question, and its table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis import frames
from analysis.engine.inspect import exact, plane, window
from analysis.figures import checkpoint, layers, picture, scatter, tensors
from analysis.store import jobs
from analysis.ui import boxes, cached, charts, guard, pick, story, url, working

VIEWS = {
    "layers": "Layers",
    "units": "Rows, heads, blocks",
    "sizes": "Sizes",
    "cut": "A further cut",
    "picture": "Picture",
    "plane": "Weight × score",
    "tensors": "Tensors",
    "shares": "Denominators and bytes",
}
Drawn = tuple[go.Figure, pd.DataFrame]


def findings(folder: Path) -> None:
    """What was found, one sentence each, with the view whose figure backs it."""
    found = cached.frame("findings", folder)
    lines = [
        f"- {guard.escape(s)} *({VIEWS[v]})*" for s, v in zip(found["sentence"], found["view"], strict=True)
    ]
    st.markdown("\n".join(lines))


def choose(folder: Path) -> str:
    """Lets the visitor choose a view; the plane is offered where scores are stored."""
    known = [view for view in VIEWS if view != "plane" or len(cached.frame("scored", folder))]
    return str(url.switch("View", known, key="view", name=VIEWS.__getitem__))


def draw(folder: Path, view: str) -> None:
    """Draws a view with its controls, its figure, how to read it, and its table."""
    dark = charts.dark()
    if view == "picture":
        return _picture(folder, dark)
    if view == "plane":
        return _plane(folder, dark)
    if view == "units":
        return _units(folder, dark)
    if view == "cut":
        return _cut(folder, dark)
    if view == "tensors":
        return _tensors(folder, dark)
    if view == "shares":
        return _shares(folder, dark)
    if view == "layers":
        table = cached.frame("layers", folder)
        figure = layers.heat(table, "sparsity", dark=dark)
    else:
        table = cached.frame("sizes", folder)
        figure = checkpoint.sizes(table, dark=dark)
    charts.chart(figure, key=f"checkpoint-{view}", revision=folder.name)
    charts.data(table, figure, name=view)


def _units(folder: Path, dark: bool) -> None:
    cut = cached.frame("units", folder)
    if len(cut):
        figure = checkpoint.units(cut, dark=dark)
        charts.chart(figure, key="checkpoint-units", revision=folder.name)
        charts.data(cut, figure, name="units", title="Heads and neurons, and downloads")
    table = cached.frame("matrix_structure", folder)
    figure = layers.structure(table, dark=dark)
    charts.chart(figure, key="checkpoint-structure", revision=folder.name)
    charts.data(table, figure, name="structure", title="Rows, columns, heads, blocks, and downloads")
    patterns = cached.frame("patterns", folder)
    if len(patterns):
        st.dataframe(patterns, hide_index=True, column_config=PATTERNS)
    else:
        st.caption("The zeros keep to no pattern: no row, column, head or block is empty, and no N:M holds.")


def _shares(folder: Path, dark: bool) -> None:
    table = cached.frame("denominators", folder)
    figure = tensors.denominators(table, dark=dark)
    charts.chart(figure, key="checkpoint-shares", revision=folder.name)
    charts.data(table, figure, name="shares")
    sizes = cached.frame("storage", folder)
    figure = checkpoint.storage(sizes, dark=dark)
    charts.chart(figure, key="checkpoint-storage", revision=folder.name)
    charts.data(sizes, figure, name="storage", title="Bytes and downloads")


PATTERNS = {
    "pattern": st.column_config.TextColumn("pattern", help="N:M: no more than N of M neighbours along a row"),
    "matrices": st.column_config.NumberColumn("matrices in which it occurs"),
    "of": st.column_config.NumberColumn("of matrices"),
    "share": st.column_config.NumberColumn("share of their weights in it", format="percent"),
}


def _cut(folder: Path, dark: bool) -> None:
    by = "magnitude"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(cached.frame("scored", folder)):
            by = url.switch("By", ["magnitude", "scores"], key="by", name=str.capitalize)
        scope = url.switch(
            "Ranked",
            ["global", "matrix"],
            key="scope",
            name={"global": "Over all matrices", "matrix": "In each matrix"}.__getitem__,
        )
        percent = url.value(
            "Sparsity after the cut (% of prunable weights)",
            key="cut",
            default=50.0,
            widget=st.slider,
            min_value=0.0,
            max_value=100.0,
            step=0.5,
            format="%.1f %%",
        )
    table = cached.frame("cut", folder, sparsity=percent / 100, by=by, scope=scope)
    threshold = table.attrs["threshold"]
    if table.empty:
        st.info(frames.cut_sentence(table, percent / 100, by), icon=":material/info:")
        return
    st.markdown(guard.escape(frames.cut_sentence(table, percent / 100, by)))
    if by == "magnitude" and table.attrs["single"]:
        _exactly(folder, float(threshold[0]), table.attrs["rank"])
    figure = layers.heat(table, "sparsity", of="weights" if by == "magnitude" else "scores", dark=dark)
    charts.chart(figure, key="checkpoint-cut", revision=folder.name)
    charts.data(table, figure, name="cut", title="What every matrix would lose, and downloads")
    if by == "magnitude" and scope == "global":
        bins = cached.frame("sizes", folder)
        figure = checkpoint.sizes(bins, threshold, dark=dark)
        charts.chart(figure, key="checkpoint-cut-sizes", revision=folder.name)


def _exactly(folder: Path, edge: float, rank: int) -> None:
    """Finds the threshold to the last bit on request: that takes a second look at the file."""
    out = folder / "exact" / f"{edge:.9g}-{rank}"

    def begin() -> None:
        jobs.begin(out, exact.MODULE, str(folder), repr(edge), str(rank), str(out))

    if jobs.read(out).state == "absent":
        st.button(
            "Find the exact threshold",
            on_click=guard.action(begin),
            icon=":material/my_location:",
            help="The histogram of 32-bit weights resolves 0.4 %; this reads them once more.",
        )
        return
    working.finish(out, "Looking at the weights near the threshold", begin)
    found = frames.exact_threshold(out)
    if found:
        st.markdown(
            f"Exactly: |w| up to **{found['threshold']:.9g}** goes; {found['at']:,.0f} weights have that "
            "very value."
        )


def _tensors(folder: Path, dark: bool) -> None:
    table = cached.frame("tensors", folder)
    figure = tensors.sparsity(table, dark=dark)
    charts.chart(figure, key="checkpoint-tensors", revision=folder.name)
    charts.data(table, figure, name="tensors", title="All tensors and downloads")
    known = table[table["zeros"].notna()].sort_values("prunable", ascending=False, kind="stable")
    if known.empty:
        return
    name = str(url.select("Tensor", list(known["tensor"]), key="tensor", help="Its values are drawn below."))
    bins = cached.frame("tensor_histogram", folder, tensor=name)
    log = url.value("Logarithmic count", key="log", default=True, widget=st.toggle)
    histogram = tensors.values(bins, name=name, log=log, dark=dark)
    charts.chart(histogram, key="checkpoint-values", revision=name)
    charts.data(bins, histogram, name="values", title="Histogram and downloads")


def _picture(folder: Path, dark: bool) -> None:
    table = cached.frame("tensors", folder)
    known = table[table["rows"].notna() & (table["numel"] > 0)]
    if known.empty:
        return story.empty(
            "There is no matrix to draw in this checkpoint.", to="launch", label="Launch a run"
        )
    known = known.sort_values("prunable", ascending=False, kind="stable").set_index("tensor")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        cut = known[(known["zeros"] > 0) & (known["zeros"] < known["numel"]) & known["prunable"]]
        fullest = cut["sparsity"].idxmax() if len(cut) else None
        name = str(url.select("Matrix", list(known.index), key="matrix", default=fullest))
        value = url.switch(
            "Show", ["keep", "size"], key="show", name={"keep": "Not zero", "size": "Value"}.__getitem__
        )
    row = known.loc[name]
    rows, width = int(row["rows"]), int(row["numel"] // row["rows"])
    held = boxes.parse(url.read("zoom")) or {}
    sides = _sides(held, rows, width)
    out = folder / "pictures" / hashlib.sha256(repr((name, sides)).encode()).hexdigest()[:16]

    def begin() -> None:
        jobs.begin(out, window.MODULE, str(folder), name, *map(str, sides), str(out))

    if jobs.read(out).state == "absent":
        begin()
    working.finish(out, f"Drawing {name!r}", begin)
    tiles = cached.frame("window", out)
    figure = picture.mask_picture(
        tiles,
        value=value,
        heads=int(row["heads"]) if sides == (0, rows, 0, width) else 0,
        heads_along="columns" if row["head_axis"] else "rows",
        shape=(sides[1], sides[3]),
        dark=dark,
    )

    def drawn() -> None:
        box = st.session_state["chart-zoom"].get("box")
        url.write("zoom", ",".join(f"{box[side]:.6g}" for side in ("x0", "x1", "y0", "y1")) if box else None)

    charts.chart(figure, key="zoom", revision=f"{name}{sides}", select=True, on_box=drawn)
    tile = tiles.attrs["tile"]
    grain = "a pixel is one weight" if tile == 1 else f"a pixel is {tile} × {tile} weights"
    st.caption(
        f"Rows {sides[0]:,} to {sides[1] - 1:,} of {rows:,}, columns {sides[2]:,} to {sides[3] - 1:,} "
        f"of {width:,}; {grain}. Drag a box in the figure to zoom, down to single weights."
    )
    if held:
        st.button("Whole matrix", on_click=lambda: url.write("zoom", None), icon=":material/zoom_out_map:")
    charts.data(tiles, figure, name="picture", title="Tiles and downloads")


def _sides(box: dict[str, float], rows: int, width: int) -> tuple[int, int, int, int]:
    """First row and the one after the last, first column and the one after the last, of a box drawn."""
    if not box:
        return 0, rows, 0, width
    top, bottom = sorted((box["y0"], box["y1"]))
    left, right = sorted((box["x0"], box["x1"]))
    first, start = max(0, min(round(top), rows - 1)), max(0, min(round(left), width - 1))
    return (
        first,
        max(first + 1, min(round(bottom) + 1, rows)),
        start,
        max(start + 1, min(round(right) + 1, width)),
    )


def _plane(folder: Path, dark: bool) -> None:
    out = folder / "plane"

    def begin() -> None:
        jobs.begin(out, plane.MODULE, str(folder), str(out))

    if jobs.read(out).state == "absent":
        begin()
    working.finish(out, "Counting weights and scores", begin)
    bins = cached.frame("plane", out)
    figure = scatter.weight_score(bins, cached.frame("points", out), dark=dark)
    box = boxes.chart(figure, key="box.plane")
    if box:
        inside = cached.frame("box", out, kind="score", **box)
        st.markdown(guard.escape(boxes.sentence(inside)))
        st.dataframe(boxes.table(inside), hide_index=True, column_config=boxes.COLUMNS)
    else:
        st.caption("No box is drawn: drag one in the figure, and a table says where its weights live.")
    charts.data(bins, figure, name="plane", title="Bins of the figure and downloads")


def shares(folder: Path) -> None:
    """The sparsity under each denominator, as numbers on top of the page."""
    rows = cached.frame("denominators", folder).to_dict("records")
    for column, row in zip(st.columns(4), rows, strict=False):
        column.metric(f"Zero, of {row['denominator']}", pick.percent(row["sparsity"]), border=True)
