"""The split of a distilled set."""

from __future__ import annotations

import numpy as np

from nas.data import load


def test_memory_does_not_hold_the_images(distilled: tuple[str, str]) -> None:
    """A split keeps its shards' sizes, and records only while they are read."""
    split = load.load_dataset(distilled[1]).train
    assert not any(
        isinstance(value, np.ndarray) and value.size > 100 for value in vars(split).values()
    )
