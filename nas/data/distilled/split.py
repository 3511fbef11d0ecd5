"""Split of a distilled data set, read from its files when it is needed.

Letters: b images requested, h rows, w columns.
"""

from __future__ import annotations

import functools
import hashlib
import pathlib
from typing import Any

import numpy as np

from nas.data.collection import SPLITS
from nas.data.dataset import Dataset, Examples, Readable
from nas.data.decode import decode_all
from nas.data.distilled import labels
from nas.data.distilled.manifest import Manifest, read_manifest
from nas.data.distilled.records import Reader, Record
from nas.data.distilled.replay import open_replay, pixels

_OPEN_FILES = 256


class DistilledSplit:
    """A split of a distilled data set.

    Args:
      folder: Folder of the data set.
      manifest: Manifest of the data set.
      split: Name of the split.

    Raises:
      ValueError: Only seeds are stored, and the source is missing or has changed.
    """

    def __init__(self, folder: pathlib.Path, manifest: Manifest, split: str):
        self._folder = folder
        self._request = manifest.request
        self._split = split
        self._shards = [shard for shard in manifest.splits[split].shards if shard.images]
        self._ends = np.cumsum([shard.images for shard in self._shards])
        self.shape = (self._request.size, self._request.size, 3)
        self.mixture = ((len(self), 1),)
        self.has_soft_labels = self._request.teacher is not None
        self._reader = functools.lru_cache(_OPEN_FILES)(
            lambda number: Reader(folder / self._shards[number].file)
        )
        if self._request.storage == "seeds":
            # Reports a missing or changed source now, not at the first read.
            open_replay(folder)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def records(self, index: np.ndarray) -> list[Record]:
        """Read the records at some positions.

        Args:
          index: int [b], positions in any order.

        Returns:
          The b records, in the order of the index.
        """
        owner = np.searchsorted(self._ends, index, side="right")
        records: list[Any] = [None] * len(index)
        for number in np.unique(owner):
            rows = np.flatnonzero(owner == number)
            first = self._ends[number] - self._shards[number].images
            read = self._reader(int(number)).read((index[rows] - first).tolist())
            for row, record in zip(rows, read, strict=True):
                records[row] = record
        return records

    def read(self, index: np.ndarray) -> Examples:
        """Read the examples at some positions.

        Args:
          index: int [...], positions of any shape.

        Returns:
          The examples, in the shape of the index; an image without a label gets the teacher's most
          likely class.

        Raises:
          ValueError: A record is damaged, or cannot be reproduced.
        """
        records = self.records(index.reshape(-1))
        decoded = decode_all(self.pixels, records).reshape(*index.shape, *self.shape)
        known = np.array([record.label for record in records], np.int32).reshape(index.shape)
        tops = [record.top for record in records]
        if not self.has_soft_labels or any(top is None for top in tops):
            return Examples(decoded, known, None)
        sparse = labels.Sparse(
            *(np.stack([getattr(top, field) for top in tops]) for field in ("classes", "values"))
        )
        classes = len(self._request.class_names)
        soft = labels.dense(sparse, classes).reshape(*index.shape, classes)
        likely = soft.argmax(-1).astype(np.int32)
        return Examples(decoded, np.where(known < 0, likely, known), soft)

    def pixels(self, record: Record) -> np.ndarray:
        """Pixels of a record.

        Args:
          record: Record of this split.

        Returns:
          uint8 [h, w, 3].

        Raises:
          ValueError: The image cannot be reproduced as the teacher was given it.
        """
        location = f"{self._folder}: {self._split} sample {record.sample}"
        return pixels(self._folder, self._split, record, location)


def load_distilled(rest: str) -> Dataset[Readable]:
    """Load a finished distilled data set.

    Args:
      rest: Path of its folder.

    Returns:
      The data set; its fingerprint covers its request and the hashes of its shards.

    Raises:
      ValueError: It is not finished, malformed, or a split has no images.
    """
    folder = pathlib.Path(rest).expanduser()
    manifest = read_manifest(folder)
    splits = {name: DistilledSplit(folder, manifest, name) for name in SPLITS}
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{folder}: split {name} has no images")
    shards = "\n".join(shard.sha256 for name in SPLITS for shard in manifest.splits[name].shards)
    digest = hashlib.sha256(f"{manifest.request.model_dump_json()}\n{shards}".encode()).hexdigest()
    return Dataset(
        folder.name,
        manifest.request.class_names,
        **splits,
        mean=manifest.mean,
        std=manifest.std,
        fingerprint=digest,
        notes=manifest.notes,
    )
