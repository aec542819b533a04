"""How does it work?"""

from __future__ import annotations

import streamlit as st

from analysis import recipes
from analysis.figures.schedule import schedule
from analysis.ui import cards, charts, forms, nav, plans, preview, story, url

CLAIM = "**A recipe is what differs: one score, one selection, one schedule.** Read its card, then run it."

with story.page("Methods", CLAIM):
    name = url.switch(
        "Recipe",
        list(recipes.RECIPES),
        key="card",
        default="movement",
        name=lambda r: recipes.RECIPES[r].title,
    )
    recipe = recipes.RECIPES[name]
    spec = cards.example(name)
    frame = preview.schedule(spec)
    figure = schedule(frame, dark=charts.dark())
    charts.chart(figure, key="methods", revision=name)
    charts.data(frame, figure, name=f"schedule-{name}", title="The schedule as a table, and downloads")

    st.caption(f"{recipe.summary} Source: {recipe.paper}.")
    if spec.stages:
        st.caption(f"Stages: {plans.stages(spec)}.")
    nav.link("launch", f"Launch {recipe.title}", recipes=name)
    cards.show(recipes.card(name))
    st.subheader("All its knobs, read from the code")
    st.caption(
        f"The defaults here are those for {spec.task.source}; the card gives those for models of usual size."
    )
    st.dataframe(
        forms.table(forms.slots(spec)), hide_index=True, height="content", column_config=forms.COLUMNS
    )
