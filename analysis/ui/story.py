"""The words of a page: its claim on top, and what to do where there is nothing to show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from analysis.ui import nav
from analysis.ui.guard import escape, guarded, show_flash


@contextmanager
def page(title: str, claim: str) -> Iterator[None]:
    """Opens a page with its title and claim; whatever goes wrong below is shown as one sentence.

    Args:
        title: heading, sentence case.
        claim: the page in one sentence; our own text, markdown allowed.
    """
    st.title(title)
    st.markdown(claim)
    show_flash()
    with guarded():
        yield


def empty(sentence: str, *, to: str = "start", label: str = "Run the bundled comparison") -> None:
    """Says why there is nothing to show, and links to the page that changes that.

    Args:
        sentence: what is missing; escaped.
        to: address of the page that fills this one.
        label: text of the link.
    """
    st.info(escape(sentence), icon=":material/info:")
    nav.link(to, label)


def stop_empty(sentence: str, *, to: str = "start", label: str = "Run the bundled comparison") -> None:
    """As `empty`, and ends the page there."""
    empty(sentence, to=to, label=label)
    st.stop()
