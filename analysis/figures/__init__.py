"""Frames to figures: pure functions from a DataFrame to a plotly figure, without file access or state."""

from __future__ import annotations
