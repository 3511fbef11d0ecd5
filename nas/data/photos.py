"""Photographs as a data set without a teacher."""

from __future__ import annotations

import hashlib

import numpy as np

from nas.data import codec
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import Images, RawDataset
from nas.data.dataset import Dataset, Examples, Readable
from nas.data.decode import decode_all

_CROPS = 1000
"""Random crops of a photograph before the first one is repeated."""
_SAMPLE = 256
"""Photographs on which mean and standard deviation are measured."""


class PhotoSplit:
    """Images of a source that are resized when they are read, with plain labels.

    Args:
      images: Images of the source.
      size: Side of the square images in pixels.
      augment: Whether to crop at random, for training. Position p shows image p % n, and each p has
        its own crop, so 1,000 crops of every image are read before the first one is repeated.
    """

    has_soft_labels = False

    def __init__(self, images: Images, size: int, augment: bool):
        self._images = images
        self._size = size
        self._recipe = RECIPES["crop" if augment else "plain"]
        self.shape = (size, size, 3)
        self.mixture = ((len(images) * (_CROPS if augment else 1), 1),)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: np.ndarray) -> Examples:
        """Read the examples at some positions.

        Args:
          index: int [...], positions of any shape, each below 1,000 n for a split that augments.

        Returns:
          The examples, in the shape of the index.
        """
        flat = index.reshape(-1)

        def pixels(position: int) -> np.ndarray:
            key = (position & 0xFFFFFFFF, position >> 32)
            image = position % len(self)
            return codec.to_array(
                replay(self._recipe, self._images.open, image, len(self), self._size, key)
            )

        decoded = decode_all(pixels, flat.tolist()).reshape(*index.shape, *self.shape)
        return Examples(decoded, self._images.labels[flat % len(self)].reshape(index.shape), None)


def from_photos(raw: RawDataset, size: int) -> Dataset[Readable]:
    """Make a data set of the images of a source: random crops for training, else the centre.

    Args:
      raw: Raw data set with all three splits.
      size: Side of the square images in pixels.

    Returns:
      The data set; mean and standard deviation are measured on up to 256 training images.
    """
    splits = {
        split: PhotoSplit(images, size, augment=split == "train")
        for split, images in raw.splits.items()
    }
    train = splits["train"]
    step = max(len(train) // _SAMPLE, 1)
    sample = train.read(np.arange(0, len(train), step)[:_SAMPLE]).images / 255
    digest = hashlib.sha256(f"{raw.fingerprint} at {size}".encode()).hexdigest()
    return Dataset(
        raw.name,
        raw.class_names,
        **splits,
        mean=float(sample.mean()),
        std=float(sample.std()),
        fingerprint=digest,
    )
