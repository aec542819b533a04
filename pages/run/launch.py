"""What shall I run?"""

from __future__ import annotations

from analysis.figures.schedule import schedule
from analysis.ui import charts, launching, preview, story

CLAIM = "**Choose a model, a task and recipes; see schedule, cost and command line; then press one button.**"

with story.page("Launch", CLAIM):
    wanted = launching.built(launching.ask())
    launching.summary(wanted)
    launching.button(wanted)

    spec = launching.one(wanted)
    frame = preview.schedule(spec)
    figure = schedule(frame, dark=charts.dark())
    charts.chart(figure, key="schedule-figure", revision=spec.recipe)
    charts.data(frame, figure, name="schedule")
    launching.commands(wanted)
