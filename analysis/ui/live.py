"""Parts of a page that follow running runs: redrawn once a second while something runs, and not at all
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from analysis.store.runs import RunInfo
from analysis.ui.guard import escape, guarded
from analysis.ui.pick import ICONS, share, short_name

TICK = 1.0
LOG_BYTES = 16_384


def follow(draw: Callable[[], bool], active: bool, every: float = TICK) -> None:
    """Draws part of a page, again and again while something runs.

    Args:
        draw: draws it, and says whether something still runs; the page is drawn anew when that ends.
        active: whether something runs now; without it the part is drawn once and no timer is left in the
            browser.
        every: seconds between two drawings.
    """

    @st.fragment(run_every=every if active else None)
    def part() -> None:
        still = active
        with guarded():
            still = draw()
        if active and not still:
            st.rerun()

    part()


def time_left(info: RunInfo) -> str:
    """How long a running run will take if it goes on as it did; "" when that cannot be told."""
    if info.state != "running" or not 0.02 < info.progress < 1 or info.seconds <= 0:
        return ""
    return duration(info.seconds * (1 - info.progress) / info.progress)


def duration(seconds: float) -> str:
    """A time span in the two largest units a person would use."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def bar(info: RunInfo, title: str, result: str = "") -> None:
    """One run as a progress bar with its state, what is left, and its result once there is one.

    Args:
        info: the run.
        title: what it is called; "" where the heading above says it, and only the keep is named.
        result: what it measured, "" for not yet.
    """
    icon = f":material/{ICONS.get(info.state, 'help')}:"
    kept = share(info)
    words = [f"{icon} **{escape(title)}**", kept] if title else [f"{icon} {kept}"]
    words += [escape(f"{short_name(info.task)}, seed {info.seed}")] if info.task and title else []
    if result:
        words.append(escape(result))
    elif info.state == "running":
        words.append(f"step {info.step} of {info.steps}")
        words += [f"{left} left"] if (left := time_left(info)) else []
    else:
        words.append(info.state)
    st.progress(min(1.0, max(0.0, info.progress)), " · ".join(words))
    if info.reason and info.state not in ("queued", "running"):
        st.caption(escape(info.reason))


def log_tail(path: Path) -> str:
    """The end of a run's log, as text; "" when it has none."""
    try:
        with open(path / "log.txt", "rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def busy(infos: Sequence[RunInfo]) -> bool:
    """Whether any run waits or works."""
    return any(not info.over for info in infos)
