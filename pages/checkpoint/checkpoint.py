"""What is in this file?"""

from __future__ import annotations

import streamlit as st

from analysis import frames
from analysis.figures import layers, tensors
from analysis.ui import charts, checkpoints, guard, pick, story, url

CLAIM = (
    "**Sparsity is a share, and a share needs its denominator.** Open any checkpoint in safetensors and see "
    "what is zero, where, and out of what. A process of its own reads it; nothing in it is ever executed."
)
VIEWS = {"layers": "Layers", "tensors": "Tensors", "shares": "Denominators"}

with story.page("Checkpoint", CLAIM):
    folder = checkpoints.inspected(checkpoints.ask())
    for problem in frames.file_problems(folder):
        st.warning(guard.escape(problem), icon=":material/warning:")
    shares = frames.denominators(folder)
    for column, row in zip(st.columns(4), shares.to_dict("records"), strict=False):
        column.metric(f"Zero, of {row['denominator']}", pick.percent(row["sparsity"]), border=True)

    view = url.switch("View", list(VIEWS), key="view", name=VIEWS.__getitem__)
    table = frames.tensors(folder)
    if view == "layers":
        figure = layers.heat(frames.layers(folder), "sparsity", dark=charts.dark())
    elif view == "tensors":
        figure = tensors.sparsity(table, dark=charts.dark())
    else:
        figure = tensors.denominators(shares, dark=charts.dark())
    charts.chart(figure, key=f"checkpoint-{view}", revision=folder.name)
    charts.data(table, figure, name="tensors", title="All tensors and downloads")

    known = table[table["analysed"]].sort_values("prunable", ascending=False, kind="stable")
    name = checkpoints.tensor(list(known["tensor"]))
    bins = frames.tensor_histogram(folder, name)
    log = url.value("Logarithmic count", key="log", default=True, widget=st.toggle)
    histogram = tensors.values(bins, name=name, log=log, dark=charts.dark())
    charts.chart(histogram, key="checkpoint-values", revision=name)
    charts.data(bins, histogram, name="values", title="Histogram and downloads")
