"""Which weights were kept, and why?"""

from __future__ import annotations

import streamlit as st

from analysis import frames
from analysis.figures import scatter
from analysis.ui import boxes, cached, charts, guard, pick, story, url

CLAIM = (
    "**Every weight has a size and a score; the score decides.** Magnitude keeps what lies far left and "
    "right, movement what lies high. Draw a box to see in which layers and roles its weights live."
)
PLANES = {"score": "Weight × score", "start": "Pre-trained × final weight", "growth": "Growth × score"}

with story.page("Weights and scores", CLAIM):
    info = pick.run(pick.masked_runs())
    names = pick.sites(info)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = url.switch("Plane", list(PLANES), key="plane", name=PLANES.__getitem__)
        show = url.switch("Show", ["both", "kept", "pruned"], key="show", name=str.capitalize)
        lines = quarters = False
        if kind == "score":  # the other planes have neither
            lines = url.value(
                "Threshold",
                key="threshold",
                default=True,
                widget=st.toggle,
                help="Score above which weights stayed.",
            )
            quarters = url.value(
                "Quarters",
                key="quarters",
                default=False,
                widget=st.toggle,
                help="Counts large and small, rising and falling.",
            )
    step = pick.snapshot(info, "histograms")

    said = cached.frame("factors_sentence", info.path)
    if said and kind != "start":
        st.info(
            guard.escape(f"{said} So no weight has a score; the plane {PLANES['start']} shows the weights.")
        )
    elif kind == "growth":
        points = cached.frame("growth", info.path, number=step, sites=names)
        figure = scatter.growth(points, frames.growth_agreement(points), show=show, dark=charts.dark())
        charts.chart(figure, key="growth")
        charts.data(points, figure, name=f"{info.id}-growth")
    else:
        plane = cached.frame("plane", info.path, kind=kind, number=step, sites=names)
        points = cached.frame("points", info.path, number=step, sites=names)
        if kind == "score":
            levels = cached.frame("thresholds", info.path, number=step, sites=names)
            figure = scatter.weight_score(
                plane,
                points,
                threshold=levels["threshold"].dropna().tolist() if lines else None,
                quadrants=frames.quadrants(plane) if quarters else None,
                split=frames.large(plane) if quarters else None,
                show=show,
                dark=charts.dark(),
            )
        else:
            figure = scatter.start_final(plane, points, show=show, dark=charts.dark())
        box = boxes.chart(figure, key=f"box.{kind}")

        if box:
            inside = cached.frame("box", info.path, kind=kind, number=step, sites=names, **box)
            st.markdown(guard.escape(boxes.sentence(inside)))
            st.dataframe(boxes.table(inside), hide_index=True, column_config=boxes.COLUMNS)
        else:
            st.caption("No box is drawn: drag one in the figure, and a table says where its weights live.")
        charts.data(plane, figure, name=f"{info.id}-{kind}", title="Bins of the figure and downloads")
        charts.data(points, name=f"{info.id}-points", title="Sampled weights and downloads")
