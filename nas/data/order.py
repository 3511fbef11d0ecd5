"""Which images a step reads: a pure function of seed and step, so that a resumed run reads on where it stopped.

Nothing is kept of an order, so it takes no memory however many images there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROUNDS = 8
Mixture = Sequence[tuple[int, int]]
"""(images, weight) of each of several sets that lie one after the other; a weight says how many of a block of
sum(weights) images come from a set."""


def batch_indices(sets: int | Mixture, size: int, step: int, seed: int) -> np.ndarray:
    """Positions of the images of batch `step`, [size] int64.

    The batches cut an endless stream into pieces: of permutations, so that every image comes once an
    epoch. Of a mixture, each block of the stream holds exactly its weights' numbers of images, each set in permutations
    of its own.

    Args:
      sets: images in the split, or a mixture.
      size: images in a batch.
      step: number of the batch, from 0.
      seed: of the permutations.
    """
    places = np.arange(step * size, (step + 1) * size)
    if isinstance(sets, int):
        return _stream(places, sets, [seed])
    if len(sets) == 1:
        return _stream(places, sets[0][0], [seed])
    weights = [weight for _, weight in sets]
    owner = np.repeat(np.arange(len(sets)), weights)  # of each place in a block
    rank = np.concatenate([np.arange(weight) for weight in weights])
    blocks, within = np.divmod(places, len(owner))
    out, first = np.empty(size, np.int64), 0
    for number, (images, weight) in enumerate(sets):
        chosen = owner[within] == number
        own = blocks[chosen] * weight + rank[within[chosen]]
        out[chosen] = first + _stream(own, images, [seed, number])
        first += images
    return out


def _stream(places: np.ndarray, count: int, key: Sequence[int]) -> np.ndarray:
    """Images at `places` of an endless stream of permutations."""
    epochs, positions = np.divmod(places, count)
    out = np.empty(len(places), np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        out[chosen] = permuted(positions[chosen], count, [*key, int(epoch)])
    return out


def permuted(positions: np.ndarray, count: int, key: Sequence[int]) -> np.ndarray:
    """Where a random permutation of 0..count-1 takes these positions, [n] int64; the same for the same key.

    A Feistel network over the smallest even number of bits that holds `count`, applied again to what it takes outside:
    so a permutation, and nothing of it but the key is kept. Source: Black & Rogaway 2002 (cycle walking).

    Args:
      positions: [n], each 0..count-1.
      count: at most 2**62.
      key: whole numbers, each at least 0.
    """
    half = np.uint64(max((count - 1).bit_length() + 1, 2) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    x = positions.astype(np.uint64)
    outside = np.ones(len(x), bool)
    while outside.any():
        left, right = x[outside] >> half, x[outside] & mask
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
