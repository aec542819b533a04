"""Where did the sparsity go?"""

from __future__ import annotations

import streamlit as st

from analysis.figures import layers as figures
from analysis.ui import cached, charts, guard, pick, story, url

CLAIM = (
    "**The same sparsity can be spread in many ways.** Ranking inside each matrix (local top-k) cuts all of "
    "them alike, only rows, columns and heads differ; a threshold or a global ranking also chooses layers."
)
VIEWS = {"map": "Map", "bars": "Several runs", "structure": "Emptied structures", "mask": "One mask"}

with story.page("Layers", CLAIM):
    infos = pick.masked_runs()
    info = pick.run(infos)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = url.switch("View", list(VIEWS), key="view", name=VIEWS.__getitem__)
        value = (
            url.switch("Number", ["keep", "sparsity"], key="value", name=str.capitalize)
            if view in ("map", "bars")
            else ""
        )
    step = pick.snapshot(info) if view != "bars" else None

    if view == "map":
        frame = cached.frame("sites", info.path, number=step)
        figure = figures.heat(frame, value, dark=charts.dark())
    elif view == "bars":
        chosen = pick.several(infos, "Runs side by side", "runs", pick.rivals(infos, info))
        by = url.switch("Bars per", ["layer", "role", "site"], key="by")
        labelled = pick.names(chosen)
        tables = {label: cached.frame("sites", one.path) for label, one in labelled.items()}
        styles = {label: one.recipe for label, one in labelled.items()}
        figure = figures.bars(tables, value, by=by, recipes=styles, dark=charts.dark())
        frame = pick.stack(tables)
    elif view == "structure":
        frame = cached.frame("structure", info.path, number=step)
        figure = figures.structure(frame, dark=charts.dark())
        removal = cached.frame("removal_sentence", info.path)
    else:
        site = pick.site(info)
        frame = cached.frame("mask_picture", info.path, site=site.name, number=step)
        figure = figures.mask_picture(
            frame, heads=site.heads, heads_along=site.heads_along, shape=site.shape, dark=charts.dark()
        )
    said = cached.frame("factors_sentence", info.path)
    if said and view in ("structure", "mask"):
        st.info(
            guard.escape(f"{said} So there is no mask to draw; the map shows what is left of each matrix.")
        )
    else:
        charts.chart(figure, key=f"layers-{view}", revision=f"{value}")
    if view == "structure" and removal:
        st.markdown(guard.escape(removal))
        charts.data(
            cached.frame("removed", info.path), name=f"{info.id}-removed", title="What is left of each layer"
        )
    if view == "bars":
        for one in chosen:
            if thin := cached.frame("factors_sentence", one.path):
                st.markdown(guard.escape(f"{pick.title(one)}: {thin}"))
    elif said and view == "map":
        st.markdown(guard.escape(said))
    charts.data(frame, figure, name=f"{info.id}-{view}")
