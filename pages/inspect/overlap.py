"""Do two methods keep the same weights?"""

from __future__ import annotations

import streamlit as st

from analysis import frames
from analysis.figures import overlap as figures
from analysis.ui import cached, charts, guard, pick, story, url

CLAIM = (
    "**Two masks share weights even by chance, so every overlap stands beside what chance gives.** "
    "Overlap is the share kept by both among those kept by either (Jaccard)."
)
VIEWS = {"pair": "Two runs", "matrix": "Many runs", "ranks": "Ranks of the scores"}

with story.page("Overlap", CLAIM):
    every = pick.masked_runs()
    infos = [info for info in every if not pick.factored(info)]
    if len(infos) < len(every):
        st.caption("Runs that store matrices as two factors have no masks and are left out.")
    view = url.switch("View", list(VIEWS), key="view", name=VIEWS.__getitem__)
    if view == "matrix":
        chosen = pick.names(pick.several(infos, "Runs", "runs", pick.rivals(infos, None)))
        frame = frames.overlap_matrix({label: (one.path, None) for label, one in chosen.items()})
        excess = url.value("Colour what exceeds chance", key="excess", default=False, widget=st.toggle)
        figure = figures.matrix(frame, excess=excess, dark=charts.dark())
        name = "overlap-matrix"
    else:
        left, right = st.columns(2)
        with left:
            first = pick.run(infos, "First run")
        with right:
            second = pick.other(infos, first)
        a, b = pick.names([first, second])
        name = f"overlap-{first.id}-{second.id}"
        if view == "pair":
            frame = cached.pair("overlap", first.path, second.path)
            st.markdown(guard.escape(pick.overlap_sentence(frame, a, b)))
            figure = figures.bars(frame, a=a, b=b, dark=charts.dark())
        else:
            frame = cached.pair("rank_agreement", first.path, second.path)
            figure = figures.ranks(frame, dark=charts.dark())
    charts.chart(figure, key=f"overlap-{view}")
    charts.data(frame, figure, name=name)
