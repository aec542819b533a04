"""The order of the training examples: a pure function of seed and step, so that a resumed run sees the same
batches.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLUR = 0.4  # a length counts as up to so much more when batches are formed


def epoch_batches(lengths: np.ndarray, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Shuffled batches of similar length.

    Examples are shuffled, sorted by length inside windows of 16 batches, cut, and the batches shuffled again:
    padding shrinks by a third or more while every window stays a random sample.

    Args:
        lengths: tokens per example, shape [n].
        batch: examples per batch, at least 1; the last incomplete batch of an epoch is dropped unless it is
            the only one.
        seed: seed of the run.
        epoch: number of the pass over the data, from 0.

    Returns:
        index arrays of shape [batch] (or [n] when n < batch).
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    if len(order) <= batch:
        return [order]
    window = batch * 16
    blurred = lengths * (1 + BLUR * rng.random(len(lengths)))
    parts = [order[i : i + window] for i in range(0, len(order), window)]
    ordered = np.concatenate([p[np.argsort(blurred[p], kind="stable")] for p in parts])
    count = len(ordered) // batch
    batches = [ordered[i * batch : (i + 1) * batch] for i in range(count)]
    return [batches[i] for i in rng.permutation(count)]


def batches_from(lengths: np.ndarray, batch: int, seed: int, step: int) -> Iterator[np.ndarray]:
    """Endless batches beginning with the one that belongs to a step."""
    per_epoch = len(epoch_batches(lengths, batch, seed, 0))
    epoch, start = divmod(step, per_epoch)
    while True:
        yield from epoch_batches(lengths, batch, seed, epoch)[start:]
        epoch, start = epoch + 1, 0
