"""What is in this file?"""

from __future__ import annotations

import streamlit as st

from analysis import frames
from analysis.ui import checkpoint_views, checkpoints, guard, story

CLAIM = (
    "**Sparsity is a share, and a share needs its denominator.** Open any checkpoint and see what is zero, "
    "where, in what pattern, and what a further cut would remove. A process of its own reads it; nothing in "
    "it is ever executed."
)

with story.page("Checkpoint", CLAIM):
    folder = checkpoints.inspected(checkpoints.ask())
    for problem in frames.file_problems(folder):
        st.warning(guard.escape(problem), icon=":material/warning:")
    checkpoint_views.shares(folder)
    checkpoint_views.findings(folder)
    checkpoint_views.draw(folder, checkpoint_views.choose(folder))
