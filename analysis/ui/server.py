"""Routes served beside the pages: plotly.js, compressed once and cached by the browser for a year."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path

import streamlit
import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PLOTLY_PATH = f"/lab/plotly-{metadata.version('plotly')}.js"


@lru_cache(maxsize=1)
def _plotly_js() -> bytes:
    """plotly.js as the installed package ships it, gzipped: 4.8 MB becomes 1.4 MB."""
    return gzip.compress(
        resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes(), 6, mtime=0
    )


def _serve_plotly(request: Request) -> Response:
    """Answer with plotly.js, plain for the rare client that does not take gzip."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    body = _plotly_js()
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Response(body, media_type="text/javascript; charset=utf-8", headers=headers)


def routes() -> list[Route]:
    """The routes `app.py` mounts beside Streamlit's own."""
    return [Route(PLOTLY_PATH, _serve_plotly, methods=["GET"])]


def middleware() -> list[Middleware]:
    """What every request passes first: only the names in ``server.allowedHosts`` are answered.

    Streamlit itself asks that of the WebSocket alone; a page of another name that points here would still get
    the pages, the downloads and the place for uploads.
    """
    allowed = st.get_option("server.allowedHosts") or ["*"]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=list(allowed), www_redirect=False)]


@lru_cache(maxsize=1)
def bundled_plotly() -> str:
    """Path of the plotly.js inside Streamlit, used when our own route is not mounted; empty when not
    found.
    """
    folder = Path(streamlit.__file__).parent / "static" / "static" / "js"
    found = sorted(folder.glob("PlotlyChart.*.js"))
    return f"static/js/{found[0].name}" if found else ""
