"""Errors as one sentence on the page, and names from strangers shown as they are written."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from analysis.errors import LabError

log = logging.getLogger(__name__)
FLASH = "lab.flash"
UNEXPECTED = (
    "Something unexpected happened here; the server's log has the details. "
    "Reload the page or go to another one."
)
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&=\"'^])")


def escape(text: object, limit: int = 600) -> str:
    """Writes any text so that markdown shows it literally, on one line and of bounded length.

    Args:
        text: a name, path or sentence from a file, a form or an address bar.
        limit: characters shown before the rest becomes an ellipsis.

    Returns:
        markdown in which every special character is escaped.
    """
    plain = " ".join(str(text).split())
    if len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    return _SPECIAL.sub(r"\\\1", plain)


def sentence(error: Exception) -> str:
    """The sentence shown for an error: its own when it is one of ours, a general one (and a log entry)
    otherwise.
    """
    if isinstance(error, LabError):
        return str(error)
    log.error("unexpected error on a page", exc_info=error)
    return UNEXPECTED


@contextmanager
def guarded() -> Iterator[None]:
    """Runs part of a page; an error inside becomes one sentence in its place and the rest of the page goes
    on.
    """
    try:
        yield
    except (
        Exception
    ) as error:  # control flow of streamlit (stop, rerun) is not an Exception and passes through
        st.error(escape(sentence(error)), icon=":material/error:")


def action(work: Callable[..., None]) -> Callable[..., None]:
    """Wraps a button's callback, which runs before the page: an error waits in the session and is shown on
    top.
    """

    def run(*args: object, **kwargs: object) -> None:
        try:
            work(*args, **kwargs)
        except Exception as error:
            st.session_state[FLASH] = ("error", sentence(error))

    return run


def say(text: str) -> None:
    """Leaves a sentence to be shown as a short notice when the page is drawn next."""
    st.session_state[FLASH] = ("note", text)


def show_flash() -> None:
    """Shows what a callback left: an error in a red box that stays, a note as a toast that goes."""
    kind, text = st.session_state.pop(FLASH, ("", ""))
    if kind == "error":
        st.error(escape(text), icon=":material/error:")
    elif kind == "note":
        st.toast(escape(text), icon=":material/check:")


def on_script_error(error: Exception) -> bool:
    """The last net, for errors outside any guarded block: logs the error and shows one sentence."""
    st.error(escape(sentence(error)), icon=":material/error:")
    return True
