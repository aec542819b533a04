"""What to run: frozen dataclasses and their JSON."""

from __future__ import annotations

from analysis.spec.codec import computed, fingerprint, from_dict, hashed, to_dict
from analysis.spec.core import SCHEMA_VERSION, LineUp, RunSpec, TaskSpec, Training, installed_versions
from analysis.spec.probe import ProbeSpec
from analysis.spec.settings import with_settings
from analysis.spec.stages import Leg, Stage, legs

__all__ = [
    "SCHEMA_VERSION",
    "Leg",
    "LineUp",
    "ProbeSpec",
    "RunSpec",
    "Stage",
    "TaskSpec",
    "Training",
    "computed",
    "fingerprint",
    "from_dict",
    "hashed",
    "installed_versions",
    "legs",
    "to_dict",
    "with_settings",
]
