"""What to run: frozen dataclasses and their JSON."""

from __future__ import annotations

from analysis.spec.codec import fingerprint, from_dict, to_dict
from analysis.spec.core import SCHEMA_VERSION, LineUp, RunSpec, TaskSpec, Training, installed_versions
from analysis.spec.settings import with_settings

__all__ = [
    "SCHEMA_VERSION",
    "LineUp",
    "RunSpec",
    "TaskSpec",
    "Training",
    "fingerprint",
    "from_dict",
    "installed_versions",
    "to_dict",
    "with_settings",
]
