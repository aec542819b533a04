"""How is it going?"""

from __future__ import annotations

import streamlit as st

from analysis import frames
from analysis.figures import live as figures
from analysis.ui import cached, charts, live, nav, pick, runs, story, url

CLAIM = (
    "**Every run, its state, and how its loss, quality and keep developed.** "
    "Zoom stays while new points arrive."
)


def table() -> bool:
    """All runs, newest first."""
    infos = cached.runs(nav.runs_dir())
    runs.table(infos, cached.results(nav.runs_dir()))
    return live.busy(infos)


def curves() -> bool:
    """The chosen runs over each other."""
    chosen = pick.names([info for info in cached.runs(nav.runs_dir()) if info.id in st.session_state["runs"]])
    if not chosen:
        st.info("No run is chosen for the figures.")
        return False
    paths = {label: info.path for label, info in chosen.items()}
    recipes = {label: info.recipe for label, info in chosen.items()}
    losses, evals, keeps = (frames.many(paths, kind) for kind in ("losses", "evals", "keeps"))
    common = {"recipes": recipes, "dark": charts.dark()}
    smooth = st.session_state.get("smooth", 5)
    left, right = st.columns(2)
    with left:
        charts.chart(figures.metric(evals, **common), key="metric")
    with right:
        charts.chart(figures.loss(losses, smooth=smooth, **common), key="loss")
    left, right = st.columns(2)
    with left:
        charts.chart(figures.keep(keeps, **common), key="keep")
    with right:
        charts.chart(figures.flips(keeps, **common), key="flips")
    return live.busy(list(chosen.values()))


with story.page("Monitor", CLAIM):
    infos = cached.runs(nav.runs_dir())
    runs.undo_bar()
    live.follow(table, live.busy(infos))
    runs.limit(live.busy(infos))
    readable = [info for info in infos if info.state != "unreadable"]
    chosen = pick.several(readable, "Runs in the figures", "runs", runs.recent(readable))
    url.switch(
        "Loss averaged over",
        [1, 5, 15],
        key="smooth",
        default=5,
        name=lambda n: f"{n} values" if n > 1 else "nothing",
    )
    live.follow(curves, live.busy(chosen))

    st.subheader("One run")
    own = [info for info in infos if not info.recorded]
    if not own:
        story.stop_empty(
            "You have started no run yet; the figures above show recorded ones.",
            to="launch",
            label="Launch runs",
        )
    by_id = {info.id: info for info in own}
    run_id = url.select(
        "Run", list(by_id), key="own", default=runs.first(own), name=lambda i: pick.label(by_id[i])
    )
    info = by_id[run_id]
    live.follow(lambda: runs.state_line(run_id), not info.over)
    runs.buttons(info)
    live.follow(lambda: runs.log(run_id), not info.over)
    paths = {run_id: info.path}
    charts.data(frames.many(paths, "losses"), name=f"{run_id}-losses", title="Losses and downloads")
    charts.data(frames.many(paths, "evals"), name=f"{run_id}-evaluations", title="Evaluations and downloads")
