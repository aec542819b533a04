"""The table of runs, and what can be done with one: stop, resume, clone, delete, undo."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.errors import LabError
from analysis.spec import from_dict
from analysis.store import launch, trash
from analysis.store.queue import HIGHEST_LIMIT
from analysis.store.runs import RunInfo, find_run
from analysis.ui import cached, compare, guard, live, nav, pick, plans

_DELETED = "lab.deleted"
_COLUMNS = {
    "progress": st.column_config.ProgressColumn(
        "progress", format="percent", min_value=0, max_value=1, width="small"
    ),
    "result": st.column_config.TextColumn("result", width=150),
    "keep": st.column_config.NumberColumn(
        "asked", format="percent", help="Asked share of prunable weights kept."
    ),
    "seed": st.column_config.NumberColumn("seed", width=50),
    "left": st.column_config.TextColumn("left", width=70),
    "took": st.column_config.TextColumn("took", width=70),
    "reason": st.column_config.TextColumn("reason", width="medium"),
}


def table(infos: Sequence[RunInfo], results: pd.DataFrame) -> None:
    """All runs as a table: state, progress, time left, result, reason."""
    values = compare.values(results, [info.id for info in infos])
    rows = [
        {
            "run": info.id,
            "recipe": pick.title(info) if info.recipe else "",
            "state": info.state + (" (recorded)" if info.recorded else ""),
            "progress": info.progress,
            "left": live.time_left(info),
            "result": values.get(info.id, ""),
            "keep": info.keep if math.isfinite(info.keep) else None,
            "task": pick.short_name(info.task),
            "model": pick.short_name(info.model),
            "seed": info.seed,
            "name": info.name,
            "took": live.duration(info.seconds) if info.seconds else "",
            "reason": info.reason,
        }
        for info in infos
    ]
    if not rows:
        st.caption("There is no run yet, neither your own nor a recorded one.")
        return
    height = min(38 + 35 * len(rows), 320)
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config=_COLUMNS,
        height=height,
        key="all-runs",
        alt="All runs.",
    )


def _limit() -> None:
    launch.set_queue_limit(nav.runs_dir(), int(st.session_state["at-once"]))


def limit(busy: bool) -> None:
    """How many runs may work at a time, the others wait in the line; and a way to stop all of them."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Runs at a time",
            1,
            HIGHEST_LIMIT,
            value=launch.queue_limit(nav.runs_dir()),
            key="at-once",
            on_change=guard.action(_limit),
            width=160,
            help="The others wait. Fewer at a time leave each more memory and more cores.",
        )
        st.button(
            "Stop all",
            icon=":material/stop_circle:",
            on_click=guard.action(_stop_all),
            disabled=not busy,
            key="stop-all",
            help="Everything that works or waits; what works saves a checkpoint and can be resumed.",
        )


def first(own: Sequence[RunInfo]) -> str | None:
    """The run to look at when nobody chose: one at work, else the newest."""
    working = [info.id for info in own if info.state == "running"]
    return working[0] if working else None


def recent(infos: Sequence[RunInfo]) -> list[str]:
    """The runs shown at first: those at work, else the visitor's last two, else recorded ones that
    compare.
    """
    working = [info.id for info in infos if info.state == "running"]
    own = [info.id for info in infos if not info.recorded and info.progress > 0]
    return (working or own[:2])[:6] or pick.rivals(infos, None, 2)


def _now(run_id: str) -> RunInfo | None:
    """A run as it is now; None when it was deleted meanwhile."""
    try:
        return find_run(nav.runs_dir(), run_id)
    except LabError:
        return None


def state_line(run_id: str) -> bool:
    """State, progress and reason of one run, in words, and whether it still waits or works."""
    info = _now(run_id)
    if info is None:
        return False
    live.bar(info, pick.title(info))
    facts = (
        f"Model {info.model}, task {info.task}, seed {info.seed}, attempt {info.attempt}, folder {info.path}"
    )
    st.caption(guard.escape(facts))
    if info.spec.get("stages"):
        at = None if info.over else info.step
        st.caption(f"Stages: {plans.stages(from_dict(info.spec), at)}")
    return not info.over


def _stop(run_id: str) -> None:
    waiting = find_run(nav.runs_dir(), run_id).state == "queued"
    launch.stop_run(nav.runs_dir(), run_id)
    guard.say(
        f"Run {run_id} {'left the line' if waiting else 'was asked to stop; it saves a checkpoint first'}."
    )


def _stop_all() -> None:
    # Those at work last: each that ends would otherwise let the next one in the line begin.
    infos = [info for info in cached.runs(nav.runs_dir()) if not info.over and not info.recorded]
    for info in sorted(infos, key=lambda info: info.state == "running"):
        launch.stop_run(nav.runs_dir(), info.id)
    guard.say(f"{len(infos)} run{'s' if len(infos) != 1 else ''} stopped or taken out of the line.")


def _resume(run_id: str) -> None:
    launch.resume_run(nav.runs_dir(), run_id)
    guard.say(f"Run {run_id} goes on from its last checkpoint.")


def _delete(run_id: str) -> None:
    st.session_state[_DELETED] = (trash.delete_run(nav.runs_dir(), run_id), run_id)


def _restore() -> None:
    token, run_id = st.session_state.pop(_DELETED, ("", ""))
    trash.restore_run(nav.runs_dir(), token)
    guard.say(f"Run {run_id} is back.")


def undo_bar() -> None:
    """After a delete: what was deleted, and the button that brings it back."""
    _, run_id = st.session_state.get(_DELETED, ("", ""))
    if run_id:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(
                guard.escape(f"Run {run_id} was deleted; it can be brought back for a day."),
                icon=":material/delete:",
            )
            st.button("Undo", icon=":material/undo:", on_click=guard.action(_restore), key="undo")


def buttons(info: RunInfo) -> None:
    """What can be done with a run, greyed out where its state does not allow it."""
    working, resumable = not info.over, info.state in launch.RESUMABLE
    with st.container(horizontal=True, vertical_alignment="center"):
        _button("Stop", "stop_circle", _stop, info, disabled=not working, shortcut="Alt+S")
        _button("Resume", "play_circle", _resume, info, disabled=not resumable, shortcut="Alt+G")
        if st.button(
            "Clone and edit",
            icon=":material/content_copy:",
            disabled=not info.spec,
            key=f"clone-{info.id}",
            shortcut="Alt+E",
        ):
            nav.go("launch", **plans.address(info.spec))
        _button("Delete", "delete", _delete, info, disabled=working)
        if pick.has_masks(info):  # without one these pages would show another run
            nav.link("weights", "Weights and scores", run=info.id)
            nav.link("layers", "Layers", run=info.id)


def _button(
    label: str, icon: str, work: object, info: RunInfo, *, disabled: bool, shortcut: str | None = None
) -> None:
    st.button(
        label,
        icon=f":material/{icon}:",
        on_click=guard.action(work),  # type: ignore[arg-type]
        args=(info.id,),
        disabled=disabled,
        key=f"{label.lower()}-{info.id}",
        shortcut=shortcut,
    )


def log(run_id: str) -> bool:
    """The end of a run's log, and whether it still works."""
    info = _now(run_id)
    if info is None:
        return False
    with st.expander(
        "Log", icon=":material/article:", expanded=info.state in ("failed", "crashed", "diverged")
    ):
        st.code(live.log_tail(info.path) or "The log is empty.", language=None, height=220)
    return not info.over
