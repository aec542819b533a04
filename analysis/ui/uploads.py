"""Small files sent by the browser: kept in a private folder under a generated name, gone with the session."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.engine.inspect.files import SUFFIXES
from analysis.engine.inspect.header import clean
from analysis.errors import ModelError
from analysis.ui import nav

FOLDER = ".uploads"
MOST = 8
DAY = 86_400.0


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@st.cache_resource(scope="session", on_release=_remove, show_spinner=False)
def private() -> Path:
    """A folder only this session uses, removed when the session ends; those of servers that died go too."""
    parent = nav.runs_dir() / FOLDER
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        if old.is_dir() and time.time() - old.stat().st_mtime > DAY:
            _remove(old)
    return Path(tempfile.mkdtemp(dir=parent))


def keep(name: str, data: Any, folder: Path) -> Path:
    """Writes what was sent under a name of our own.

    Args:
        name: the name the browser gave it; only its ending is used, and only a known one.
        data: a buffer of its bytes.
        folder: where to.

    Returns:
        the file.

    Raises:
        ModelError: the ending is unknown, nothing was sent, or there are too many already.
    """
    ending = next((s for s in SUFFIXES if name.lower().endswith(s)), None)
    if ending is None:
        raise ModelError(f"{clean(name, 80)!r} is no file of weights; allowed are {', '.join(SUFFIXES)}.")
    if not len(data):
        raise ModelError(f"{clean(name, 80)!r} is empty; choose the file again.")
    path = folder / (hashlib.sha256(data).hexdigest()[:24] + ending)
    if not path.exists():
        if len(list(folder.iterdir())) >= MOST:
            raise ModelError(f"{MOST} files were sent already; reload the page to begin anew.")
        path.write_bytes(data)
    return path


def offered() -> dict[str, str]:
    """The widget, and what was sent: path to the name it is shown under.

    Raises:
        ModelError: what was sent cannot be kept.
    """
    limit = st.get_option("server.maxUploadSize")
    with st.expander("Send a small file from this computer", icon=":material/upload_file:"):
        sent = st.file_uploader(
            f"A file of weights, at most {limit} MB",
            type=[s.removeprefix(".") for s in SUFFIXES],
            accept_multiple_files=True,
            key="upload",
            help="It is kept for this session only. Larger files: give their path above.",
        )
    return {str(keep(file.name, file.getbuffer(), private())): f"Sent · {clean(file.name)}" for file in sent}
