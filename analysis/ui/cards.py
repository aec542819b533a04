"""Cards of recipes: rendered markdown, their first heading left to the page."""

from __future__ import annotations

import streamlit as st

from analysis import recipes
from analysis.bundle import demo
from analysis.spec import RunSpec


def show(text: str) -> None:
    """Renders a card; its headings become one size smaller than the page's."""
    lines = text.splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    inside_code, shown = False, []
    for line in lines:
        inside_code ^= line.startswith("```")
        shown.append(f"##{line}" if line.startswith("#") and not inside_code else line)
    st.markdown("\n".join(shown))


def example(recipe: str) -> RunSpec:
    """The recipe as it runs on the bundled task."""
    return recipes.build(recipe, demo.MODEL, demo.TASK)
