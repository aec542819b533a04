"""What is this, what can I see in one click, and what ran last?"""

from __future__ import annotations

import streamlit as st

from analysis.figures import curves as figures
from analysis.ui import cached, charts, compare, guard, live, nav, pick, story, url

CLAIM = (
    "**Pruning removes weights from a trained network; the question is which ones.** Measured with this "
    "program: a small language model, fine-tuned while *magnitude* keeps its largest weights and *movement* "
    "those that grow."
)


def press() -> None:
    """Starts the comparison; a callback runs once per press, whatever the page does afterwards."""
    url.write("pair", compare.start(nav.runs_dir(), st.session_state.get("further", True)))


def shown() -> bool:
    """The visitor's own comparison as it lands, and the curves with its points over them."""
    own = url.read("pair")
    results = cached.results(nav.runs_dir())
    mine = compare.known(nav.runs_dir(), own)
    if mine:
        compare.progress(mine, results)
    found = compare.comparison(results, own)
    for column, (side, sentence) in zip(st.columns(2), found.headlines.items(), strict=False):
        column.markdown(f"**With {side}.** {guard.escape(sentence)}")
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
    charts.chart(figure, key="start")
    if found.sentences:
        with st.expander("All that the curves show, in sentences", icon=":material/insights:"):
            for side, sentences in found.sentences.items():
                st.markdown(f"**With {side}**\n" + "\n".join(f"- {guard.escape(text)}" for text in sentences))
    charts.data(found.curves, figure, name="magnitude-movement")
    return live.busy(mine)


with story.page("Which weights can go?", CLAIM):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Run magnitude against movement",
            type="primary",
            icon=":material/play_arrow:",
            shortcut="Ctrl+Enter",
            on_click=guard.action(press),
            help="Trains both on this machine, first with 3 % of the weights kept.",
        )
        url.value(
            "and then the other keeps",
            key="further",
            default=True,
            widget=st.toggle,
            help="After the pair at 3 % kept: the dense model, then 10 %, 20 % and 30 % kept.",
        )
    live.follow(shown, live.busy(compare.known(nav.runs_dir(), url.read("pair"))))
    compare.warm(nav.runs_dir())
    nav.link("weights", "See which weights were kept")

    st.subheader("What ran last")
    results = cached.results(nav.runs_dir())
    own = [info for info in cached.runs(nav.runs_dir()) if not info.recorded]
    last = sorted(own, key=lambda info: info.state == "queued")[:5]  # what waits comes after what ran
    done = compare.values(results, [info.id for info in last])
    for info in last:
        live.bar(info, pick.title(info), done.get(info.id, ""))
    if last:
        nav.link("monitor", "All runs")
    else:
        st.caption(
            "Nothing of your own yet; recorded runs ship with the project and are named so on every page."
        )
