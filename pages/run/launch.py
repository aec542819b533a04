"""What shall I run?"""

from __future__ import annotations

import streamlit as st

from analysis.figures.schedule import schedule
from analysis.ui import charts, launching, plans, preview, story

CLAIM = "**Choose a model, a task and recipes; see schedule, cost and command line; then press one button.**"

with story.page("Launch", CLAIM):
    wanted = launching.built(launching.ask())
    launching.summary(wanted)
    launching.button(wanted)

    spec = launching.one(wanted)
    frame = preview.schedule(spec)
    figure = schedule(frame, dark=charts.dark())
    charts.chart(figure, key="schedule-figure", revision=spec.recipe)
    if spec.stages:
        st.caption(f"Stages: {plans.stages(spec)}.")
    charts.data(frame, figure, name="schedule")
    launching.commands(wanted)
