"""Small files sent by the browser: kept in a private folder under a generated name, gone with the session."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import streamlit as st

from analysis.engine.inspect.files import SUFFIXES
from analysis.engine.inspect.header import clean
from analysis.errors import ModelError
from analysis.store import layout
from analysis.ui import nav

FOLDER = ".uploads"
MOST = 8
LARGEST = 512 * 2**20  # bytes of all sessions together
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
        ModelError: the ending is unknown, nothing was sent, or there is too much already.
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
        held = sum(f.stat().st_size for f in folder.parent.rglob("*") if f.is_file())
        if held + len(data) > LARGEST:
            raise ModelError(
                f"{LARGEST // 2**20} MB of files were sent already; give the path of a file on this machine."
            )
        with layout.replacing(path, durable=False) as file:  # half a file must not be taken for a whole one
            file.write(data)
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
    known: dict[str, str] = st.session_state.setdefault("lab.uploads", {})
    out = {}
    for file in sent:  # with every click: a file that is known is not hashed again
        if not os.path.isfile(known.get(file.file_id, "")):
            known[file.file_id] = str(keep(file.name, file.getbuffer(), private()))
        out[known[file.file_id]] = f"Sent · {clean(file.name)}"
    if out:
        os.utime(private())  # a session that is alive is not swept as an old one
    return out
