"""What is the difference between these two?"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from analysis import frames
from analysis.figures import compare as figures
from analysis.figures import compare_zeros as zeros
from analysis.figures import overlap
from analysis.ui import cached, charts, guard, pairs, story, url

CLAIM = (
    "**Two checkpoints, tensor by tensor: what moved, what became zero, and whether large weights stayed.** "
    "Names are matched whatever is in front of them, masks are multiplied in, and nothing is executed."
)
VIEWS = {
    "distance": "Distance",
    "values": "A × B",
    "zeros": "Zeros",
    "overlap": "Overlap",
    "tensors": "Tensors",
}
MEASURES = {"relative": "Distance", "cosine": "Cosine", "flipped": "Changed signs"}


def draw(folder: Path, view: str) -> None:
    """The figure of one view, with its choices and its numbers."""
    if view == "distance":
        left, right = st.columns([2, 1], vertical_alignment="bottom")
        with left:
            value = url.switch("Measure", list(MEASURES), key="measure", name=MEASURES.__getitem__)
        with right:
            only = url.value("Only prunable matrices", key="prunable", default=True, widget=st.toggle)
        frame = cached.frame("distances", folder, only_prunable=only)
        figure = figures.distance(frame, value, dark=charts.dark())
    elif view == "values":
        layers, roles = pairs.narrow(folder)
        frame = cached.frame("kept_by_size", folder, layers=layers, roles=roles)
        plane = cached.frame("two_values", folder, layers=layers, roles=roles)
        charts.chart(figures.values(plane, dark=charts.dark()), key="compare-plane", revision=folder.name)
        st.subheader("Did large weights stay?")
        figure = zeros.kept(frame, dark=charts.dark())
    elif view == "zeros":
        frame = cached.frame("tensor_pairs", folder)
        figure = zeros.zeros(frame, dark=charts.dark())
    else:
        frame = cached.frame("zero_overlap", folder)
        figure = overlap.bars(frame, a="A", b="B", dark=charts.dark())
    charts.chart(figure, key=f"compare-{view}", revision=folder.name)
    charts.data(frame, figure, name=f"compare-{view}")


with story.page("Compare two", CLAIM):
    found = pairs.compared(*pairs.ask())
    for problem in pairs.problems(found):
        st.warning(guard.escape(problem), icon=":material/warning:")
    for column, (label, value) in zip(st.columns(4), pairs.numbers(found).items(), strict=True):
        column.metric(label, value, border=True)
    with st.container(border=True):
        st.markdown("\n".join(f"- {guard.escape(text)}" for text in frames.difference(found)))
    view = url.switch("View", list(VIEWS), key="view", name=VIEWS.__getitem__)
    if view == "tensors":
        frame = cached.frame("tensor_pairs", found)
        shown = frame.head(charts.TABLE_ROWS)
        st.dataframe(shown, hide_index=True, key="pairs", column_order=pairs.SHOWN)
        charts.data(frame, name="compare-pairs", title="All columns and downloads")
        for title, table in pairs.tables(found).items():
            charts.data(table, name=f"compare-{title.split()[0].lower()}", title=title)
    else:
        draw(found, view)
