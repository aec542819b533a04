"""Frames to figures: pure functions from a tidy DataFrame to a plotly figure, with no file access and no state."""

from __future__ import annotations
