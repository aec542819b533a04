"""The pages, their sections and addresses, and where the runs are."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.store.layout import ROOT, default_runs_dir

_PNG = (Path(__file__).resolve().parent / "assets" / "icon.png").read_bytes()
# Inside the page: a file that streamlit serves for a session is gone when it happens to be asked for late.
ICON = f"data:image/png;base64,{base64.b64encode(_PNG).decode()}"
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 168 32" width="168" height="32">
<g fill="#1674FF"><rect x="0" y="2" width="8" height="8" rx="2"/>
<rect x="10" y="12" width="8" height="8" rx="2"/>
<rect x="20" y="22" width="8" height="8" rx="2"/><rect x="20" y="2" width="8" height="8" rx="2"/></g>
<g fill="none" stroke="#8A93A5" stroke-width="1.4"><rect x="10.7" y="2.7" width="6.6" height="6.6" rx="1.6"/>
<rect x=".7" y="12.7" width="6.6" height="6.6" rx="1.6"/>
<rect x="20.7" y="12.7" width="6.6" height="6.6" rx="1.6"/>
<rect x=".7" y="22.7" width="6.6" height="6.6" rx="1.6"/>
<rect x="10.7" y="22.7" width="6.6" height="6.6" rx="1.6"/></g>
<text x="38" y="22" font-family="Source Sans, Helvetica, Arial, sans-serif" font-size="17" font-weight="600"
fill="#7A8394">Pruning lab</text></svg>"""

HOME = "start"
SIDEBAR = 228  # pixels: what the longest entry needs; figures get the rest


@dataclass(frozen=True)
class Entry:
    """One page: section in the sidebar, file below `pages/`, name, icon and the question it answers."""

    section: str
    file: str
    title: str
    icon: str
    question: str

    @property
    def address(self) -> str:
        """The page's path in the address bar."""
        return Path(self.file).stem

    @property
    def path(self) -> Path:
        """The page's script, absolute: only then does a cold deep link find it."""
        return ROOT / "pages" / self.file


ENTRIES: dict[str, Entry] = {
    entry.address: entry
    for entry in (
        Entry("Start", "start/start.py", "Start", "home", "What is this, and what ran last?"),
        Entry("Run", "run/launch.py", "Launch", "rocket_launch", "What shall I run?"),
        Entry("Run", "run/monitor.py", "Monitor", "monitoring", "How is it going?"),
        Entry(
            "Inspect",
            "inspect/weights.py",
            "Weights and scores",
            "scatter_plot",
            "Which weights were kept, and why?",
        ),
        Entry("Inspect", "inspect/layers.py", "Layers", "layers", "Where did the sparsity go?"),
        Entry(
            "Inspect", "inspect/overlap.py", "Overlap", "join_inner", "Do two methods keep the same weights?"
        ),
        Entry("Inspect", "inspect/curves.py", "Curves", "show_chart", "What does sparsity cost?"),
        Entry("Checkpoint", "checkpoint/checkpoint.py", "Checkpoint", "folder_open", "What is in this file?"),
        Entry(
            "Checkpoint",
            "checkpoint/compare.py",
            "Compare two",
            "compare_arrows",
            "What is the difference between these two?",
        ),
        Entry(
            "Checkpoint",
            "checkpoint/evaluate.py",
            "Evaluate",
            "speed",
            "What is it worth, and what would a further cut cost?",
        ),
        Entry("Learn", "learn/methods.py", "Methods", "menu_book", "How does it work?"),
    )
}


def runs_dir() -> Path:
    """The folder of the runs that this server shows and starts."""
    return default_runs_dir()


def page(address: str) -> Any:
    """The page object behind an address, made anew: two equal objects are one page to streamlit."""
    entry = ENTRIES[address]
    default = address == HOME
    return st.Page(
        entry.path,
        title=entry.title,
        icon=f":material/{entry.icon}:",
        # The default page lives at the bare address, whatever its path; "start" is left to what leads there.
        url_path="home" if default else entry.address,
        default=default,
        help=entry.question,
    )


def navigate() -> Any:
    """Sets up the window and the sidebar, and returns the page to run."""
    st.set_page_config(page_title="Pruning lab", page_icon=ICON, layout="wide", initial_sidebar_state=SIDEBAR)
    st.logo(LOGO, size="large")
    sections: dict[str, list[Any]] = {}
    for address, entry in ENTRIES.items():
        sections.setdefault(entry.section, []).append(page(address))
    sections[ENTRIES[HOME].section].append(
        st.Page(_to_start, title="To the start", url_path=HOME, visibility="hidden")
    )
    return st.navigation(sections)


def _to_start() -> None:
    st.switch_page(page(HOME))


def link(address: str, label: str, icon: str = "", **params: Any) -> None:
    """A link to another page that opens it with the given choices."""
    st.page_link(
        page(address),
        label=label,
        icon=f":material/{icon or ENTRIES[address].icon}:",
        query_params={k: v for k, v in params.items() if v is not None} or None,
    )


def go(address: str, **params: Any) -> None:
    """Leaves for another page, opened with the given choices."""
    st.switch_page(page(address), query_params={k: v for k, v in params.items() if v is not None} or None)
