"""A network of two blocks, images whose classes a few steps can learn, and a short recipe."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas.data.dataset import Split
from nas.run.train_config import TrainConfig
from search_spaces import ArchSpec, yaml_io

MEAN, STD = 0.5, 0.25

CONFIG = TrainConfig(steps=40, batch=16, learning_rate=0.2, labels="hard", norm_momentum=0.8)

SPEC = yaml_io.parse_model(
    """
name: tiny
resolution: 8
blocks:
- {kind: conv, filters: 8, stride: 2}
- {kind: uib, filters: 8, expansion: 2.0}
- {kind: pool}
- {kind: classifier, classes: 4, dropout: 0.1}
""",
    ArchSpec,
    "tiny",
)


def separable(count: int, seed: int) -> Split:
    """Noise, with a bright stripe: class = 2 * (vertical) + (colour is blue, else red)."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 4).astype(np.int32)
    images = rng.integers(60, 160, (count, 8, 8, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        position = rng.integers(1, 7)
        stripe = image[:, position] if label // 2 else image[position]
        stripe[:, 2 * (label % 2)] = 255
    return Split(images, labels, np.eye(4, dtype=np.float32)[labels])


class Interrupting:
    """A split that interrupts, at one of its reads, as Ctrl-C does."""

    def __init__(self, data: Split, at: int):
        self._data, self._left = data, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def read(self, index: np.ndarray) -> Any:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._data.read(index)
