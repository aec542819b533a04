"""Start the laboratory with `streamlit run app.py`, from any working directory.

This file only launches `analysis/shell.py`: a folder called `pages` beside the script that Streamlit runs
would otherwise be taken for its old multipage mode, and the first deep link after a restart would bypass the
navigation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from analysis.ui.guard import on_script_error  # noqa: E402  the import needs the line above
from analysis.ui.server import middleware, routes  # noqa: E402

app = st.App(
    ROOT / "analysis" / "shell.py",
    routes=routes(),
    middleware=middleware(),
    on_script_error=on_script_error,
)
