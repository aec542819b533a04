"""Saving the bundled models small."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedModel


def save(model: PreTrainedModel, out: Path) -> None:
    """Save a model in half precision, to be loaded in single precision.

    Args:
        model: converted in place.
        out: folder to fill; made when missing.
    """
    model.half().save_pretrained(out)
    # Without this the Auto classes would load the weights as they lie on disk, in half precision.
    config = json.loads((out / "config.json").read_text())
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
