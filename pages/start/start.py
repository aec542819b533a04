"""What is this, what can I see in one click, and what ran last?"""

from __future__ import annotations

import streamlit as st

from analysis.figures import curves as figures
from analysis.ui import cached, charts, compare, guard, live, nav, pick, story, url

CLAIM = (
    "**Pruning removes weights from a trained network; the question is which ones.** Below, measured with this program: "
    "a small language model fine-tuned while *magnitude* keeps its largest weights and *movement* those that grow."
)


def press() -> None:
    """Starts the comparison; a callback runs once per press, whatever the page does afterwards."""
    ids = compare.start(nav.runs_dir(), st.session_state.get("further", True))
    st.session_state["pair"] = ids
    url.write("pair", ids)


def progress() -> bool:
    """The visitor's comparison as it lands: a bar per run, then what the pairs say."""
    infos = compare.known(nav.runs_dir(), url.read("pair"))
    results = cached.results(nav.runs_dir())
    done = compare.values(results, [info.id for info in infos])
    for info in infos:
        live.bar(info, pick.title(info), done.get(info.id, ""))
    for sentence in compare.outcome(results, list(done)):
        st.success(guard.escape(sentence), icon=":material/insights:")
    return live.busy(infos)


with story.page("Which weights can go?", CLAIM):
    results = cached.results(nav.runs_dir())
    own = url.read("pair")
    found = compare.comparison(results, own)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Run magnitude against movement",
            type="primary",
            icon=":material/play_arrow:",
            shortcut="Ctrl+Enter",
            on_click=guard.action(press),
            help="Trains both on this machine, first with 3 % of the weights kept. About 20 seconds for the first pair.",
        )
        url.value(
            "and then the other keeps",
            key="further",
            default=True,
            widget=st.toggle,
            help="After the pair at 3 % kept: the dense model, then 10 %, 20 % and 30 % kept.",
        )
    mine = compare.known(nav.runs_dir(), own)
    if mine:
        with st.container(border=True):
            st.subheader("Your comparison")
            live.follow(progress, live.busy(mine))

    figure = figures.accuracy_keep(
        found.curves,
        found.points,
        metric=found.metric,
        floor=found.floor,
        dense=found.dense,
        facet=compare.PANEL,
        dark=charts.dark(),
        height=430,
    )
    for column, (side, sentence) in zip(st.columns(2), found.headlines.items(), strict=False):
        column.markdown(f"**With {side}.** {guard.escape(sentence)}")
    charts.chart(figure, key="start")
    with st.expander("All that the curves show, in sentences", icon=":material/insights:"):
        for side, sentences in found.sentences.items():
            st.markdown(f"**With {side}**\n" + "\n".join(f"- {guard.escape(text)}" for text in sentences))
    charts.data(found.curves, figure, name="magnitude-movement")
    nav.link("weights", "See which weights were kept")

    st.subheader("What ran last")
    done = compare.values(results, results["run"])
    last = [info for info in cached.runs(nav.runs_dir()) if not info.recorded][:5]
    for info in last:
        live.bar(info, pick.title(info), done.get(info.id, ""))
    if last:
        nav.link("monitor", "All runs")
    else:
        st.caption("Nothing of your own yet. The curves above are recorded runs that ship with the project.")
