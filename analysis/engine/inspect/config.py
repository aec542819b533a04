"""What config.json says of a model, as far as it can be believed.

A config can come from anywhere: its numbers decide how much a library builds, so they are held against what
the weights show before anything is built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.engine.inspect.files import member
from analysis.engine.inspect.header import Entry, clean, json_object, open_regular
from analysis.errors import ModelError

MAX_CONFIG = 2**20
MAX_SIZE = 100_000
MAX_LAYERS = 1_000
HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads")
KV_HEADS = ("num_key_value_heads", "n_kv_heads")
LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
# What the largest dimension of some tensor has to reach, or the weights of this config are elsewhere.
_HELD = (
    "hidden_size",
    "d_model",
    "n_embd",
    "dim",
    "vocab_size",
    "intermediate_size",
    "d_ff",
    "ffn_dim",
    "n_inner",
    "hidden_dim",
)


def read_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Reads config.json beside a checkpoint.

    Args:
        folder: where it may be.

    Returns:
        its content, empty where there is none or it is not believed; why not, in a sentence.
    """
    try:
        path = member(folder, "config.json")
        return (load(path), []) if path else ({}, [])
    except ModelError as error:
        return {}, [str(error)]


def load(path: Path) -> dict[str, Any]:
    """Reads one config strictly: at most 1 MB of a JSON object, no name twice and no NaN in it.

    Raises:
        ModelError: it is not that.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_CONFIG:
            raise ModelError(
                f"config.json has {size} bytes; no real one has more than {MAX_CONFIG}: it is not read."
            )
        return json_object(file.read(MAX_CONFIG), "config.json")


def whole(config: Mapping[str, Any], names: Sequence[str], most: int = MAX_SIZE) -> int | None:
    """Finds a size in a config.

    Args:
        config: the config; what it says of its text part counts where it says nothing itself.
        names: what families call it, the first that is there is taken.
        most: largest value that is believed.

    Returns:
        the size, None where it is absent or no whole number from 1 to ``most``.
    """
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for name in names:
            if (value := part.get(name)) is not None:
                good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
                return value if good else None
    return None


def heads_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Finds how many heads of queries, and of keys and values, a layer has; None where it is not said."""
    heads = whole(config, HEADS)
    shared = whole(config, KV_HEADS) or heads
    return None if heads is None or shared is None or heads % shared else (heads, shared)


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """Names the method that quantised the weights, such as "gptq"; None where none did."""
    found = config.get("quantization_config")
    return clean(found.get("quant_method", "unknown"), 40) if isinstance(found, dict) and found else None


def require_credible(config: Mapping[str, Any], entries: Sequence[Entry], name: str) -> None:
    """Holds a config against the weights beside it, so that nothing is built that they cannot fill.

    Args:
        config: the config.
        entries: what the headers of the weights list.
        name: of the model in sentences.

    Raises:
        ModelError: it asks for more layers than there are tensors or for larger ones than the largest.
    """
    for key in LAYERS:
        value, most = config.get(key), min(MAX_LAYERS, max(1, len(entries)))
        if isinstance(value, int | float) and not 0 <= value <= most:
            raise ModelError(
                f"The weights of {name} do not fit its config.json: it asks for {key} {clean(value, 40)} and "
                f"they are {len(entries)} tensors (at most {MAX_LAYERS} layers are built); copy it again."
            )
    largest = max((n for entry in entries for n in entry.shape), default=0)
    for key in _HELD:
        value = config.get(key)
        if isinstance(value, int | float) and not 0 <= value <= largest:
            raise ModelError(
                f"The weights of {name} do not fit its config.json: it asks for {key} {clean(value, 40)} and "
                f"none of their dimensions is larger than {largest}; copy the model again."
            )
