"""Replay of the samples of a distilled data set from the images of its source."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from nas.data import codec, sources
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import SPLITS, Images, RawDataset, with_all_splits
from nas.data.distilled import records
from nas.data.distilled.manifest import REQUEST, Request, read_request

ORDER = "order.npy"
"""File of the class-balanced order of images, for recipe d3."""


class Job(NamedTuple):
    """The work of one shard.

    Attributes:
      split: Split of the shard, or "relevance" for the classifier's scores of the training images.
      number: Number of the shard, from 0.
      shards: Number of shards of the split.
    """

    split: str
    number: int
    shards: int

    @property
    def stem(self) -> str:
        """Name of its files without suffix, e.g. "train-00003-of-00012"."""
        return f"{self.split}-{self.number:05}-of-{self.shards:05}"


@dataclasses.dataclass(frozen=True)
class Replay:
    """Folder of a distilled data set with its opened source; one per process.

    Attributes:
      folder: Folder of the data set.
      request: Request of the data set.
      raw: Images of the source, with all splits.
    """

    folder: pathlib.Path
    request: Request
    raw: RawDataset

    def images_of(self, split: str) -> Images:
        """Images of the source that a split is made from.

        Args:
          split: One of `SPLITS`, or "relevance".

        Returns:
          The images.
        """
        return self.raw.splits["train" if split == "relevance" else split]

    @functools.cached_property
    def order(self) -> np.ndarray | None:
        """int64 [n], numbers of the training images to use; None for all of them in order."""
        path = self.folder / ORDER
        return np.load(path, mmap_mode="r", allow_pickle=False) if self.request.balance else None

    def length(self, split: str) -> int:
        """Number of samples of a split: images times replicas.

        Args:
          split: One of `SPLITS`, or "relevance".

        Returns:
          The number of samples.
        """
        if split != "train":
            return len(self.images_of(split))
        images = len(self.raw.splits["train"]) if self.order is None else len(self.order)
        return images * self.request.replicas

    def jobs(self, split: str) -> list[Job]:
        """Jobs of all shards of a split.

        Args:
          split: One of `SPLITS`, or "relevance".

        Returns:
          The jobs in order.
        """
        count = -(-self.length(split) // self.request.shard_images)
        return [Job(split, number, count) for number in range(count)]

    def samples(self, job: Job) -> range:
        """Numbers of the samples of a shard.

        Args:
          job: Job of the shard.

        Returns:
          The range of numbers.
        """
        size = self.request.shard_images
        return range(job.number * size, min((job.number + 1) * size, self.length(job.split)))

    def image_of(self, split: str, sample: int) -> int:
        """Number of the image that a sample shows; all images come once per replica.

        Args:
          split: Split of the sample.
          sample: Number of the sample.

        Returns:
          The number of the image in `images_of(split)`.
        """
        if split != "train" or self.order is None:
            return sample % len(self.images_of(split))
        return int(self.order[sample % len(self.order)])

    def augmented(self, split: str, sample: int) -> Image.Image:
        """Compute the augmented image of a sample; it is the same on every call.

        Args:
          split: Split of the sample.
          sample: Number of the sample.

        Returns:
          RGB image.

        Raises:
          codec.BadImage: An image of the source cannot be decoded.
        """
        request = self.request
        images = self.images_of(split)
        recipe = RECIPES.get(request.recipe if split == "train" else "plain")
        key = (request.seed, SPLITS.index(split), sample & 0xFFFFFFFF, sample >> 32)

        def open_sample(number: int) -> Image.Image:
            return images.open(self.image_of(split, number))

        partners = self.length(split) // request.replicas if split == "train" else len(images)
        return replay(recipe, open_sample, sample % partners, partners, request.size, key)


@functools.lru_cache(maxsize=2)
def open_replay(folder: pathlib.Path) -> Replay:
    """Open the source of a data set whose folder holds a request.

    Args:
      folder: Folder of the data set.

    Returns:
      The replay of its samples.

    Raises:
      ValueError: The source is missing, or has changed since the request was made.
    """
    request = read_request(folder)
    try:
        opened = sources.open_collection(request.source)
    except ValueError as error:
        raise ValueError(
            f"{error}; {folder} is made from it: if it was moved, correct `source:` in "
            f"{folder / REQUEST}"
        ) from None
    raw = with_all_splits(opened, request.held_out, request.seed)
    if raw.fingerprint != request.source_fingerprint:
        raise ValueError(
            f"source {request.source}: has changed since {folder} was begun (fingerprint "
            f"{raw.fingerprint[:12]}, was {request.source_fingerprint[:12]}); restore it, or "
            "choose another `out`"
        )
    return Replay(folder, request, raw)


def pixels(folder: pathlib.Path, split: str, record: records.Record, location: str) -> np.ndarray:
    """Pixels of a record, decoded from its JPEG or replayed from its seed.

    Args:
      folder: Folder of the data set.
      split: Split of the record.
      record: Record.
      location: Name of the record in messages.

    Returns:
      uint8 [h, w, 3].

    Raises:
      ValueError: A replayed image differs from the one that the teacher was given. (A decoded one
        is compared by `nas.distillation.run.verify` only.)
    """
    if record.jpeg is not None:
        return codec.to_array(codec.decode_jpeg(record.jpeg, location))
    image = open_replay(folder).augmented(split, record.sample)
    if codec.checksum(image) != record.crc:
        raise ValueError(
            f"{location}: does not match the pixels the teacher was given; restore the source, and "
            "use the version of Pillow that the manifest names"
        )
    return codec.to_array(image)
