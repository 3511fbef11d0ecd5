"""Order of the images: a pure function of seed and step, so a resumed run reads the same batches.

No order is stored, so the memory needed does not depend on the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROUNDS = 8
Mixture = Sequence[tuple[int, int]]
"""(images, weight) of several sets that lie end to end. Each block of sum(weights) images holds
`weight` images of a set."""


def batch_indices(sets: int | Mixture, size: int, step: int, seed: int) -> np.ndarray:
    """Positions of the images of one batch.

    The batches cut an endless stream of permutations into pieces, so every image is read once an
    epoch. In a mixture, each block of the stream holds as many images of a set as its weight says,
    and each set has its own stream of permutations.

    Args:
      sets: Number of images in the split, or a mixture.
      size: Number of images in a batch.
      step: Number of the batch, from 0.
      seed: Random seed of the permutations.

    Returns:
      int64 [size].
    """
    places = np.arange(step * size, (step + 1) * size)
    if isinstance(sets, int):
        return _stream(places, sets, [seed])
    if len(sets) == 1:
        return _stream(places, sets[0][0], [seed])
    weights = [weight for _, weight in sets]
    # Set of each place in a block, and rank of the place among those of its set.
    owner = np.repeat(np.arange(len(sets)), weights)
    rank = np.concatenate([np.arange(weight) for weight in weights])
    blocks, within = np.divmod(places, len(owner))
    indices = np.empty(size, np.int64)
    first = 0
    for number, (images, weight) in enumerate(sets):
        chosen = owner[within] == number
        places_in_set = blocks[chosen] * weight + rank[within[chosen]]
        indices[chosen] = first + _stream(places_in_set, images, [seed, number])
        first += images
    return indices


def _stream(places: np.ndarray, count: int, key: Sequence[int]) -> np.ndarray:
    """Images at `places` of an endless stream of permutations."""
    epochs, positions = np.divmod(places, count)
    images = np.empty(len(places), np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        images[chosen] = permuted(positions[chosen], count, [*key, int(epoch)])
    return images


def permuted(positions: np.ndarray, count: int, key: Sequence[int]) -> np.ndarray:
    """Apply a random permutation of 0..count-1 to some positions; the key determines it.

    A Feistel network over the smallest even number of bits that holds `count`, applied again to
    every result outside the range. So it is a permutation, and only its key is stored.

    Args:
      positions: int [n], each 0..count-1.
      count: Length of the permutation, at most 2**62.
      key: Integers, each at least 0.

    Returns:
      int64 [n].

    Source: Black & Rogaway 2002 (cycle walking).
    """
    half = np.uint64(max((count - 1).bit_length() + 1, 2) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    x = positions.astype(np.uint64)
    outside = np.ones(len(x), bool)
    while outside.any():
        left = x[outside] >> half
        right = x[outside] & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        x[outside] = (left << half) | right
        outside = x >= np.uint64(count)
    return x.astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
