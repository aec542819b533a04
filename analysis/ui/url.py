"""Widgets whose value lives in the address bar, so that a copied link restores the view.

Streamlit's own binding writes the label of an option into the address; here it is the value (a run's id), it
may be shared between pages, and a page can be opened with values of another page's form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

LARGEST = 2**53


def _memory(kind: str) -> dict[str, Any]:
    """What this session remembers: "shared" choices that pages hand on, "written" texts we put into the
    address.
    """
    memory: dict[str, Any] = st.session_state.setdefault(f"lab.{kind}", {})
    return memory


def read(key: str) -> list[str]:
    """The texts that the address gives for a key; [] when it names none."""
    return [text[:4096] for text in st.query_params.get_all(key)[:64]]


def write(key: str, value: Any, default: Any = None) -> None:
    """Puts a value into the address, or takes it out when it is the default; an unchanged address is not sent
    again.
    """
    texts = [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]
    if value == default or value is None:
        if key in st.query_params:
            del st.query_params[key]
    elif st.query_params.get_all(key) != texts:
        st.query_params[key] = texts if isinstance(value, (list, tuple)) else texts[0]
    _memory("written")[key] = st.query_params.get_all(key)


def _seed(key: str, default: Any, parse: Callable[[list[str]], Any], shared: bool) -> None:
    """Gives a widget its first value: from the address, else what it was, else from another page, else the
    default.

    An address that differs from what we wrote last came from a link, and wins over the state left by another
    page.
    """
    texts = read(key)
    linked = bool(texts) and texts != _memory("written").get(key)
    if key in st.session_state and not linked:
        # Assigned to itself: the same key on another page is another widget, which would start from nothing.
        st.session_state[key] = st.session_state[key]
        return
    value = parse(texts) if texts else None
    if value is None and shared:
        value = parse([str(v) for v in _memory("shared").get(key, [])])
    if value is not None or key not in st.session_state:
        st.session_state[key] = default if value is None else value


def _keep(key: str, value: Any, default: Any, shared: bool) -> None:
    if shared:
        _memory("shared")[key] = value if isinstance(value, list) else [value]
    write(key, value, None if shared else default)


def select(
    label: str,
    options: Sequence[Any],
    *,
    key: str,
    default: Any = None,
    name: Callable[[Any], str] = str,
    widget: Callable[..., Any] = st.selectbox,
    shared: bool = False,
    **more: Any,
) -> Any:
    """One choice out of several.

    Args:
        label: what is chosen.
        options: allowed values.
        key: name in the address bar.
        default: value when the address names none or a wrong one; None takes the first.
        name: how an option is written.
        widget: the streamlit widget, a select box unless told otherwise.
        shared: True carries the choice to the other pages that use the same key.
        **more: passed on to the widget.

    Returns:
        the chosen option, None when there are none.
    """
    options = list(options)
    default = default if default in options else (options[0] if options else None)
    by_text = {str(option): option for option in options}
    _seed(key, default, lambda texts: by_text.get(texts[0]) if texts else None, shared)
    if st.session_state[key] not in options:
        st.session_state[key] = default
    value = widget(label, options, key=key, format_func=name, **more)
    _keep(key, value, default, shared)
    return value


def switch(label: str, options: Sequence[Any], *, key: str, default: Any = None, **more: Any) -> Any:
    """One choice out of a few, all of them visible."""
    return select(
        label, options, key=key, default=default, widget=st.segmented_control, required=True, **more
    )


def many(
    label: str,
    options: Sequence[Any],
    *,
    key: str,
    default: Sequence[Any] = (),
    name: Callable[[Any], str] = str,
    widget: Callable[..., Any] = st.multiselect,
    shared: bool = False,
    **more: Any,
) -> list[Any]:
    """Several choices out of several; the arguments are those of `select`."""
    options = list(options)
    default = [option for option in default if option in options]
    by_text = {str(option): option for option in options}
    known = lambda texts: [by_text[t] for t in dict.fromkeys(texts) if t in by_text] or None  # noqa: E731
    _seed(key, default, known, shared)
    st.session_state[key] = [v for v in st.session_state[key] if v in options]
    value = list(widget(label, options, key=key, format_func=name, **more))
    _keep(key, value, default, shared)
    return value


def value(label: str, *, key: str, default: Any, widget: Callable[..., Any], **more: Any) -> Any:
    """A text, a number or a switch; the type of the default is the type of the value."""

    def parse(texts: list[str]) -> Any:
        try:
            found = texts[0] == "True" if isinstance(default, bool) else type(default)(texts[0])
        except (IndexError, ValueError, OverflowError):
            return None
        # JavaScript holds whole numbers up to 2**53 only, and streamlit refuses larger ones with a traceback.
        return None if isinstance(found, (int, float)) and not abs(found) < LARGEST else found

    _seed(key, default, parse, False)
    low, high = more.get("min_value"), more.get("max_value")
    if (low is not None and st.session_state[key] < low) or (
        high is not None and st.session_state[key] > high
    ):
        st.session_state[key] = default
    chosen = widget(label, key=key, **more)
    _keep(key, chosen, default, False)
    return chosen
