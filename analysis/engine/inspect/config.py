"""What of a model's ``config.json`` is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LARGEST = 100_000


def heads_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Gives the numbers of query heads and of key and value heads; None where the config does not say."""

    def whole(*names: str) -> int:
        found = next((config[n] for n in names if n in config), 0)
        return found if type(found) is int and 0 < found <= LARGEST else 0

    heads = whole("num_attention_heads", "n_heads", "n_head")
    return (heads, whole("num_key_value_heads") or heads) if heads else None
