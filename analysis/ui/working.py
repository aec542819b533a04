"""Work on the side, on a page: how far it is, cancel, and what to do when it ended early."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import streamlit as st

from analysis.store import jobs
from analysis.ui import guard, live

TICK = 0.4  # seconds between two looks: most work is over within a few
PATIENCE = 0.6  # seconds a page waits before it shows what is there so far
_DIVIDE = {"bytes": (1e6, "MB"), "values": (1e6, "million values")}


def finish(
    out: Path,
    what: str,
    again: Callable[[], None],
    meanwhile: Callable[[], None] | None = None,
    called: Mapping[str, str] | None = None,
) -> None:
    """Returns when the work in a folder is done; until then shows how far it is and ends the page.

    Args:
        out: folder of the work.
        what: what is being done, for the sentence, such as "Reading 'model.safetensors'".
        again: begins it once more, after it failed, was cancelled or died.
        meanwhile: draws what is there already, once a second.
        called: names of our own in a sentence, and what the visitor calls them.
    """
    end = time.monotonic() + PATIENCE
    while not (note := jobs.read(out)).over and time.monotonic() < end:
        time.sleep(0.03)
    if note.state == "done":
        return
    if note.state == "working":
        live.follow(lambda: _draw(out, what, meanwhile), active=True, every=TICK)
        st.stop()
    if meanwhile is not None:
        with guard.guarded():
            meanwhile()
    if note.state == "failed":
        reason = note.reason
        for name, shown in (called or {}).items():
            reason = reason.replace(name, shown)
        st.error(guard.escape(reason), icon=":material/error:")
    elif note.state == "cancelled":
        st.info(f"{guard.escape(what)} was cancelled; what was read is kept.", icon=":material/info:")
    else:
        st.warning(
            f"{guard.escape(what)}: its process ended early, perhaps for want of memory; what was done is "
            "kept.",
            icon=":material/warning:",
        )
    label = "Go on" if note.state != "failed" else "Try again"
    st.button(label, on_click=guard.action(again), icon=":material/play_arrow:")
    st.stop()


def _draw(out: Path, what: str, meanwhile: Callable[[], None] | None) -> bool:
    note = jobs.read(out)
    divide, unit = _DIVIDE.get(note.unit, (1.0, note.unit))
    words = f"{guard.escape(what)} …"
    if note.total:
        words += f" {note.done / divide:,.0f} of {note.total / divide:,.0f} {unit}"
    if note.left is not None:
        words += f", {live.duration(note.left)} left"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(min(1.0, note.done / note.total) if note.total else 0.0, text=words)
        st.button(
            "Cancel",
            on_click=guard.action(lambda: jobs.cancel(out)),
            icon=":material/cancel:",
            width="content",
        )
    if meanwhile is not None:
        meanwhile()
    return not note.over
