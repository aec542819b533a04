"""The model cards of the bundled models: how each was made, in the folder it was made into."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

TEXT = """---
license: apache-2.0
language: en
library_name: transformers
---
# The bundled language model

A BERT of {layers} layers and width {width} ({parameters:,} parameters, {prunable:,} of them prunable
weights) that knows {words} words, stored in half precision. It exists so that pruning can be watched in
seconds; it is of no other use.

It was trained from nothing by

    python -m analysis bundle build

with seed {seed} in {seconds} seconds on {threads} processor thread(s), in three steps:

1. {documents:,} pairs of sentences written by the grammar in `analysis/bundle/documents.py`;
2. word vectors from how often words stand near each other;
3. {steps:,} steps of guessing masked words (final loss {loss_words} nats per word) and of guessing, from the
   first sentence alone, the words of the second (final loss {loss_following} nats per word).

{opinions:.0%} of the pairs are opinions, and {reviews:.0%} of those are reviews of the same forms as the
fine-tuning task, followed by a consequence such as "So I will recommend it." No sentence of the fine-tuning
task occurs among them, and no label; still, transfer to that task is easier than between texts that were
written apart.

No text and no weights of anybody else went into it.
"""

DIGITS = """---
license: apache-2.0
library_name: transformers
---
# The bundled vision transformer

A ViT of {layers} layers and width {width} ({parameters:,} parameters, {prunable:,} of them prunable weights)
for images of 8 by 8 pixels with one channel and values in [0, 1], stored in half precision, without a head.

It was trained from nothing by

    python -m analysis bundle build

with seed {seed} in {seconds} seconds on {threads} processor thread(s): {steps:,} steps on the digits 0 to 4
among the handwritten digits that come with scikit-learn. Accuracy on {held_back} images of 0 to 4 kept apart:
{accuracy:.1%}. It has never seen a 5, 6, 7, 8 or 9.
"""

CARDS = MappingProxyType({"text": TEXT, "digits": DIGITS})


def write_card(name: str, folder: Path, facts: dict[str, int | float]) -> None:
    """Write README.md and pretraining.json beside a freshly made model.

    Args:
        name: "text" or "digits".
        folder: the model's folder.
        facts: every number that the card mentions.
    """
    (folder / "pretraining.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(CARDS[name].format(**facts), encoding="utf-8")
