"""A torch that is imported at its first use.

Parts describe their fields to the server (forms, cards, command line), which must stay free of torch; the
same classes compute with torch inside a worker. The proxy below lets one class do both: reading fields costs
nothing, the first attribute taken from ``torch`` pays for the import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """Stands for a module and imports it when an attribute is first taken."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")
