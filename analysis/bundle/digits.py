"""The bundled digits task: a tiny vision transformer that knows 0 to 4 and has to learn 5 to 9.

The images are the 1,797 handwritten digits that come with scikit-learn.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

log = logging.getLogger(__name__)

SIDE, CLASSES, FIRST_TASK_CLASS = 8, 5, 5
SIZES = MappingProxyType({"train": 540, "validation": 136, "test": 220})
SPLIT_SEED = 20
SHAPE: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 2,
    "num_channels": 1,
    "num_labels": CLASSES,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "attn_implementation": "eager",
}
BATCH, RATE, WARM_UP = 32, 1e-3, 0.1
STEPS = 600
HELD_BACK = 101
"""Images of 0 to 4 kept apart, to say in the model card what pre-training reached."""


@cache
def _images(task: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Shuffled images (n, 8, 8) in [0, 1] and classes 0 to 4, of digits 5 to 9 (task) or 0 to 4."""
    from sklearn.datasets import load_digits

    everything = load_digits()
    rows = np.flatnonzero((everything.target >= FIRST_TASK_CLASS) == task)
    rows = np.random.default_rng(SPLIT_SEED).permutation(rows)
    return (everything.images[rows] / 16).astype(np.float32), everything.target[rows] % CLASSES


@cache
def digits(split: str) -> tuple[MappingProxyType[str, Any], ...]:
    """The rows of one split of digits 5 to 9; the splits share no image.

    Args:
        split: "train", "validation" or "test".

    Returns:
        Read-only rows with keys image (8 lists of 8 floats in [0, 1]) and label (digit minus 5).
    """
    images, labels = _images(task=True)
    start = sum(size for name, size in SIZES.items() if list(SIZES).index(name) < list(SIZES).index(split))
    rows = slice(start, start + SIZES[split])
    return tuple(
        MappingProxyType({"image": image.tolist(), "label": int(label)})
        for image, label in zip(images[rows], labels[rows], strict=True)
    )


def build_digits(
    out: Path, seed: int, steps: int = STEPS, progress: Callable[[int, int, float], None] | None = None
) -> float:
    """Pre-train the vision transformer on digits 0 to 4 and save it as a Hugging Face folder.

    Args:
        out: folder to fill; made when missing.
        seed: the same seed, steps and number of threads give the same weights.
        steps: at least 1.
        progress: called after each step with (steps done, steps, loss).

    Returns:
        Accuracy on the 0-to-4 images kept apart, in [0, 1].
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    from analysis.bundle.saving import save

    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ViTForImageClassification(ViTConfig(**SHAPE))
    images, labels = (torch.from_numpy(part) for part in _images(task=False))
    pixels = images[:, None]  # (n, 1, 8, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    for step in range(steps):
        rows = torch.randint(HELD_BACK, len(labels), (BATCH,), generator=generator)
        rate = RATE * min((step + 1) / max(1.0, WARM_UP * steps), (steps - step) / steps)
        loss = _learn(model, optimizer, rate, pixels[rows], labels[rows])
        if progress:
            progress(step + 1, steps, loss)
    with torch.no_grad():
        guesses = model(pixel_values=pixels[:HELD_BACK]).logits.argmax(-1)
    accuracy = float((guesses == labels[:HELD_BACK]).float().mean())
    # Without the head: what says 0 must not be the start of what says 5.
    seconds = round(time.monotonic() - started)
    save(
        "digits",
        model.vit,
        out,
        {
            "seed": seed,
            "steps": steps,
            "seconds": seconds,
            "accuracy": accuracy,
            "held_back": HELD_BACK,
        },
    )
    log.info("pre-trained on digits 0 to 4 in %d s, accuracy %.3f", seconds, accuracy)
    return accuracy


def _learn(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    rate: float,
    pixels: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss: torch.Tensor = model(pixel_values=pixels, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()
