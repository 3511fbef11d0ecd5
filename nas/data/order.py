"""Which images a step reads: a pure function of seed and step, so that a resumed run reads on where it stopped."""

from __future__ import annotations

import functools

import numpy as np


def batch_indices(count: int, size: int, step: int, seed: int) -> np.ndarray:
    """Positions of the images of batch `step`, [size] int64.

    The batches cut an endless stream of permutations of 0..count-1 into pieces: every image comes once an epoch.

    Args:
      count: images in the split.
      size: images in a batch.
      step: number of the batch, from 0.
      seed: of the permutations.
    """
    positions = np.arange(step * size, (step + 1) * size)
    epochs = positions // count
    out = np.empty(size, np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = _permutation(count, seed, int(epoch))[positions[chosen] % count]
    return out


@functools.lru_cache(maxsize=8)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
