"""Photographs as a data set without a teacher."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from PIL import Image

from nas.data import codec, door
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import UNREADABLE, Images, RawDataset
from nas.data.dataset import Dataset, Examples, Readable
from nas.data.decode import decode_all
from nas.data.survey import sample
from search_spaces import files

_CROPS = 1000
"""Random crops of a photograph before the first one is repeated."""
_SAMPLE = 256
"""Photographs on which mean and standard deviation are measured, drawn at random."""


class TooManyUnreadable(files.BadFile):
    """More images than may be turned out to be broken while they were read."""


class PhotoSplit:
    """Images of a source that are resized when they are read, with plain labels.

    In place of an image that cannot be decoded the next one of the split is read, so the result is
    the same whenever and however often it is read.

    Args:
      images: Images of the source.
      size: Side of the square images in pixels.
      augment: Whether to crop at random, for training. Position p shows image p % n, and each p has
        its own crop, so 1,000 crops of every image are read before the first one is repeated.
      most_unreadable: Largest share of images that may be broken, 0..1; one always may be.
    """

    has_soft_labels = False

    def __init__(
        self, images: Images, size: int, augment: bool, most_unreadable: float = UNREADABLE
    ):
        self._images = images
        self._labels = images.labels
        self._most_unreadable = max(int(most_unreadable * len(images)), 1)
        self._unreadable: set[int] = set()
        self._lock = threading.Lock()
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
        shown = (flat % len(self)).astype(np.int64)

        def pixels(row: int) -> np.ndarray:
            position = int(flat[row])
            key = (position & 0xFFFFFFFF, position >> 32)
            while True:
                try:
                    return codec.to_array(self._augmented(int(shown[row]), key))
                except codec.BadImage as error:
                    self._count_unreadable(int(shown[row]), error)
                    shown[row] = (shown[row] + 1) % len(self)

        decoded = decode_all(pixels, range(len(flat))).reshape(*index.shape, *self.shape)
        return Examples(decoded, self._labels[shown].reshape(index.shape), None)

    def _augmented(self, image: int, key: tuple[int, ...]) -> Image.Image:
        return replay(self._recipe, self._images.open, image, len(self), self._size, key)

    def _count_unreadable(self, image: int, error: codec.BadImage) -> None:
        with self._lock:
            self._unreadable.add(image)
            count = len(self._unreadable)
        if count > self._most_unreadable:
            raise TooManyUnreadable(
                f"{count} of {len(self)} images of a split cannot be read, expected at most "
                f"{self._most_unreadable}; the last: {error}; repair or remove them, then rerun"
            ) from None
        door.say([f"{error}; the next image is read in its place"])


def from_photos(raw: RawDataset, size: int) -> Dataset[Readable]:
    """Make a data set of the images of a source: random crops for training, else the centre.

    Args:
      raw: Raw data set with all three splits.
      size: Side of the square images in pixels.

    Returns:
      The data set; mean and standard deviation are measured on a random sample of 256 training
      images, the same on every call.

    Raises:
      ValueError: There are no classes, or all images are of one colour.
    """
    if not raw.class_names:
        raise ValueError(
            f"{raw.name}: its images have no classes; give one folder for each class, or label "
            "them with a teacher (`nas-distill`)"
        )
    splits = {
        split: PhotoSplit(images, size, split == "train", raw.most_unreadable)
        for split, images in raw.splits.items()
    }
    train = splits["train"]
    pixels = train.read(sample(len(train), _SAMPLE, 0)).images / 255
    if not pixels.std() > 0:
        raise ValueError(
            f"{raw.name}: all pixels of {min(len(train), _SAMPLE)} training images have the value "
            f"{pixels.mean() * 255:g}; look at the images"
        )
    digest = hashlib.sha256(f"{raw.fingerprint} at {size}".encode()).hexdigest()
    return Dataset(
        raw.name,
        raw.class_names,
        **splits,
        mean=float(pixels.mean()),
        std=float(pixels.std()),
        fingerprint=digest,
        notes=raw.notes,
    )
