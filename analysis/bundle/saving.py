"""Saving a bundled model: small, and with a card that says how it was made."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel

from analysis.bundle.cards import write_card
from analysis.engine.sites import find_sites


def save(name: str, model: PreTrainedModel, out: Path, facts: dict[str, int | float]) -> None:
    """Save a model in half precision, to be loaded in single precision, and its card.

    Args:
        name: "text" or "digits".
        model: converted in place.
        out: folder to fill; made when missing.
        facts: what the card says about the training; sizes and threads are added here.
    """
    layers = model.config.num_hidden_layers
    sizes = {
        "layers": layers,
        "width": model.config.hidden_size,
        "threads": torch.get_num_threads(),
        "parameters": model.num_parameters(),
        "prunable": sum(site.weight.numel() for site in find_sites(model)),
    }
    model.half().save_pretrained(out)
    # The writer of safetensors lets nobody but the owner read them.
    (out / "model.safetensors").chmod(0o644)
    # Without this the Auto classes would load the weights as they lie on disk, in half precision.
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_card(name, out, {**sizes, **facts})
