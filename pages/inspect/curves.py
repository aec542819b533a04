"""What does sparsity cost?"""

from __future__ import annotations

import streamlit as st

from analysis.figures import curves as figures
from analysis.figures.front import accuracy_compute
from analysis.ui import cached, charts, guard, nav, printed, story, studies, url

CLAIM = (
    "**Quality against how much is kept: one line per recipe, a band from the worst seed to the best.** "
    "The dashed floor is what a predictor that learnt nothing scores. Against training compute, it is what a "
    "budget buys."
)

with story.page("Curves", CLAIM):
    study = studies.choose(cached.results(nav.runs_dir()))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = url.switch("Against", list(studies.VIEWS), key="x", name=studies.VIEWS.__getitem__)
        if view == "keep":
            axis = url.switch("Kept of", list(studies.AXES), key="of", name=studies.AXES.__getitem__)
            facet = url.switch("Panels", list(studies.PANELS), key="panels", name=studies.PANELS.__getitem__)
            rate = studies.rate(study) if facet != "lr" else ""
            log = url.value("Logarithmic", key="log", default=True, widget=st.toggle)
            single = url.value("Single runs", key="single", default=True, widget=st.toggle)
            published, source = printed.overlay(study, axis)
    if view == "compute":
        front = studies.front(study)
        figure = accuracy_compute(front.trials, metric=study.metric, floor=study.floor, dark=charts.dark())
        charts.chart(figure, key="front")
        st.markdown("\n".join(f"- {guard.escape(sentence)}" for sentence in front.sentences))
        charts.data(front.trials, figure, name="front")
        charts.data(front.areas, name="areas", title="One number per recipe")
    else:
        found = studies.curves(study, axis, rate, facet)
        figure = figures.accuracy_keep(
            found.curves,
            found.points if single else None,
            x_title=studies.title(axis),
            metric=study.metric,
            floor=study.floor,
            dense=found.dense,
            published=published,
            facet=facet,
            log=log,
            dark=charts.dark(),
        )
        charts.chart(figure, key="curves", revision=f"{axis}{log}{facet}{source}")
        if source:
            st.caption(source)
        st.markdown("\n".join(f"- {guard.escape(sentence)}" for sentence in found.sentences))
        charts.data(found.curves, figure, name="curves")
        charts.data(found.points, name="runs", title="Single runs and downloads")
