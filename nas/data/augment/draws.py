"""Random numbers that stay the same for ever, because stored seeds are replayed by later versions."""

from __future__ import annotations

import numpy as np

_WORDS = 32  # taken from the generator at a time


class Draws:
    """A stream of random numbers that depends on a key alone.

    Only raw words of the generator are used: NumPy keeps those stable between versions, while it may change what
    `Generator` makes of them (NEP 19).

    Args:
      key: whole numbers 0..2**32 - 1.
    """

    def __init__(self, *key: int):
        self._generator = np.random.PCG64DXSM(np.random.SeedSequence(key))
        self._words: list[int] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high), in steps of (high - low) / 2**53."""
        if not self._words:
            self._words = self._generator.random_raw(_WORDS).tolist()[::-1]
        return low + (high - low) * (self._words.pop() >> 11) * 2.0**-53

    def whole(self, count: int) -> int:
        """One of 0..count - 1."""
        return int(self.uniform() * count)

    def sign(self) -> int:
        """-1 or 1."""
        return 2 * self.whole(2) - 1
