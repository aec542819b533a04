"""Errors whose message is one sentence for a person: what, where, the value, what is allowed, what to do
next.
"""

from __future__ import annotations


class LabError(Exception):
    """Base of every error caused by input or circumstance rather than by a defect of ours."""


class SpecError(LabError):
    """A spec, a setting or a field has a value that is not allowed."""


class DataError(LabError):
    """A dataset, a column, a row or a label cannot be used."""


class ModelError(LabError):
    """A model is missing on this machine, damaged, or of a kind that cannot be used."""


class SiteError(LabError):
    """No prunable weight was found in a model."""


class RunError(LabError):
    """A run does not exist, or cannot do what was asked in the state it is in."""
