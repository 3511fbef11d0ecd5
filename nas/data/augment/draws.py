"""Random numbers that never change, because later versions replay stored seeds."""

from __future__ import annotations

import numpy as np

_WORDS = 32
"""Words taken from the generator at a time."""


class RandomStream:
    """A stream of random numbers that depends on a key alone.

    Only raw words of the generator are used: NumPy keeps those stable between versions, while it
    may change what `Generator` derives from them (NEP 19).

    Args:
      key: Integers 0..2**32 - 1.
    """

    def __init__(self, *key: int):
        self._generator = np.random.PCG64DXSM(np.random.SeedSequence(key))
        self._words: list[int] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a number in [low, high), in steps of (high - low) / 2**53.

        Args:
          low: Lower bound, included.
          high: Upper bound, excluded.

        Returns:
          The number.
        """
        if not self._words:
            self._words = self._generator.random_raw(_WORDS).tolist()[::-1]
        return low + (high - low) * (self._words.pop() >> 11) * 2.0**-53

    def integer(self, count: int) -> int:
        """Draw an integer.

        Args:
          count: Number of possible values.

        Returns:
          One of 0..count - 1.
        """
        return int(self.uniform() * count)

    def sign(self) -> int:
        """Draw -1 or 1."""
        return 2 * self.integer(2) - 1
