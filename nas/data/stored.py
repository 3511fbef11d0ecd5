"""Splits that lie in files and are read when they are needed: of a distilled data set, of photographs, and mixtures.

Letters: b images asked for, h rows, w columns, c channels.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from nas.data import images as codec
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import PARTS, Collection, Images
from nas.data.dataset import Dataset, Examples, Readable
from nas.data.distil import labels
from nas.data.distil.manifest import Manifest, read_manifest
from nas.data.distil.records import Reader, Record
from nas.data.distil.work import pixels, workplace
from nas.run import cores

T = TypeVar("T")

_OPEN_FILES = 256
_CHUNK = 32  # images that a thread decodes at a time
_CROPS = 1000  # random crops of a photograph before one comes again
_SAMPLE = 256  # photographs that mean and deviation are measured on


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(cores.count(), thread_name_prefix="decode")


def _stacked(pixels: Callable[[T], np.ndarray], items: Sequence[T]) -> np.ndarray:
    """[n, h, w, c] of `pixels` of each item. Decoding leaves Python's lock, but handing over one image costs as much as
    decoding it: so threads take some at a time (9,000 images of 64 px a second on two cores instead of 6,400).
    """

    def some(chunk: Sequence[T]) -> list[np.ndarray]:
        return [pixels(item) for item in chunk]

    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    return np.stack([image for made in _threads().map(some, chunks) for image in made])


class DistilledSplit:
    """A part of a distilled data set.

    Args:
      folder: of the data set.
      manifest: of it.
      part: which.
    """

    def __init__(self, folder: pathlib.Path, manifest: Manifest, part: str):
        self._folder, self._request, self._part = folder, manifest.request, part
        self._shards = [shard for shard in manifest.parts[part].shards if shard.images]
        self._ends = np.cumsum([shard.images for shard in self._shards])
        self.shape = (self._request.size, self._request.size, 3)
        self.mixture = ((len(self), 1),)
        self.taught = self._request.teacher is not None
        self._reader = functools.lru_cache(_OPEN_FILES)(lambda number: Reader(folder / self._shards[number].file))
        if self._request.storage == "seeds":
            workplace(folder)  # the source has to be there, as it was: better said now

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def records(self, index: np.ndarray) -> list[Record]:
        """The records at these positions, any order, [b]."""
        shard = np.searchsorted(self._ends, index, side="right")
        found: list[Any] = [None] * len(index)
        for number in np.unique(shard):
            places = np.flatnonzero(shard == number)
            first = self._ends[number] - self._shards[number].images
            read = self._reader(int(number)).read((index[places] - first).tolist())
            for place, record in zip(places, read, strict=True):
                found[place] = record
        return found

    def read(self, index: np.ndarray) -> Examples:
        """The examples at `index`, of any shape; an image without a label has the teacher's most likely class."""
        found = self.records(index.reshape(-1))
        pixels = _stacked(self.pixels, found).reshape(*index.shape, *self.shape)
        known = np.array([record.label for record in found], np.int32).reshape(index.shape)
        tops = [record.top for record in found]
        if not self.taught or any(top is None for top in tops):
            return Examples(pixels, known, None)
        sparse = labels.Sparse(*(np.stack([getattr(top, field) for top in tops]) for field in ("classes", "values")))
        classes = len(self._request.class_names)
        soft = labels.dense(sparse, classes).reshape(*index.shape, classes)
        return Examples(pixels, np.where(known < 0, soft.argmax(-1).astype(np.int32), known), soft)

    def pixels(self, record: Record) -> np.ndarray:
        """uint8 [h, w, 3] of a record. Raises ValueError if it cannot be made as the teacher saw it."""
        return pixels(self._folder, self._part, record, f"{self._folder}: {self._part} sample {record.sample}")


class PhotoSplit:
    """Images of a source, resized when they are read, without a teacher.

    Args:
      images: the source's.
      size: pixels of a side.
      augment: crop at random, for training: position p shows image p % n, and each p has a crop of its own. So 1,000
        crops of every image are read before one comes again.
    """

    taught = False

    def __init__(self, images: Images, size: int, augment: bool):
        self._images, self._size = images, size
        self._recipe, crops = (RECIPES["crop"], _CROPS) if augment else (RECIPES["plain"], 1)
        self.shape = (size, size, 3)
        self.mixture = ((len(images) * crops, 1),)

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: np.ndarray) -> Examples:
        """The examples at `index`, of any shape."""
        flat = index.reshape(-1)

        def pixels(place: int) -> np.ndarray:
            key = (place & 0xFFFFFFFF, place >> 32)
            return codec.to_array(
                replay(self._recipe, self._images.open, place % len(self), len(self), self._size, key)
            )

        made = _stacked(pixels, flat.tolist()).reshape(*index.shape, *self.shape)
        return Examples(made, self._images.labels[flat % len(self)].reshape(index.shape), None)


class MixedSplit:
    """Several splits one after the other, read in the ratio of their weights (see `nas.data.order`).

    Args:
      splits: of one shape, all taught or none.
      weights: whole numbers, e.g. 1, 1, 2: the paper's mixture of D1, D2 and D3.
    """

    def __init__(self, splits: Sequence[Readable], weights: Sequence[int]):
        self._splits, self.shape = list(splits), splits[0].shape
        self.mixture = tuple((split.mixture[0][0], weight) for split, weight in zip(splits, weights, strict=True))
        self.taught = all(split.taught for split in splits)
        self._ends = np.cumsum([images for images, _ in self.mixture])

    def __len__(self) -> int:
        return sum(map(len, self._splits))

    def read(self, index: np.ndarray) -> Examples:
        """The examples at `index`, of any shape."""
        flat = index.reshape(-1)
        owner, parts = np.searchsorted(self._ends, flat, side="right"), {}
        for number in np.unique(owner):
            first = self._ends[number] - self.mixture[number][0]
            parts[number] = self._splits[number].read(flat[owner == number] - first)
        fields = []
        for name in Examples._fields:
            values = {number: getattr(part, name) for number, part in parts.items()}
            if any(value is None for value in values.values()):
                fields.append(None)
                continue
            some = next(iter(values.values()))
            out = np.empty((len(flat), *some.shape[1:]), some.dtype)
            for number, value in values.items():
                out[owner == number] = value
            fields.append(out.reshape(*index.shape, *some.shape[1:]))
        return Examples(*fields)


def load_distilled(rest: str) -> Dataset[Readable]:
    """A finished distilled data set; the fingerprint covers its request and the hashes of its shards."""
    folder = pathlib.Path(rest).expanduser()
    manifest = read_manifest(folder)
    parts = {part: DistilledSplit(folder, manifest, part) for part in PARTS}
    for part, split in parts.items():
        if not len(split):
            raise ValueError(f"{folder}: part {part} has no images")
    shards = "\n".join(shard.sha256 for part in PARTS for shard in manifest.parts[part].shards)
    digest = hashlib.sha256(f"{manifest.request.model_dump_json()}\n{shards}".encode()).hexdigest()
    names = manifest.request.class_names
    return Dataset(folder.name, names, **parts, mean=manifest.mean, std=manifest.std, fingerprint=digest)


def from_photos(collection: Collection, size: int) -> Dataset[Readable]:
    """A data set of a source's images: random crops to train on, the centre elsewhere. All three parts are needed."""
    parts = {part: PhotoSplit(images, size, part == "train") for part, images in collection.parts.items()}
    step = max(len(parts["train"]) // _SAMPLE, 1)
    sample = parts["train"].read(np.arange(0, len(parts["train"]), step)[:_SAMPLE]).images / 255
    digest = hashlib.sha256(f"{collection.fingerprint} at {size}".encode()).hexdigest()
    mean, std = float(sample.mean()), float(sample.std())
    return Dataset(collection.name, collection.class_names, **parts, mean=mean, std=std, fingerprint=digest)


def mixed(datasets: Sequence[Dataset[Readable]], weights: Sequence[int]) -> Dataset[Readable]:
    """Data sets of the same classes and size as one: their training parts mixed, all else that of the first.

    Raises:
      ValueError: what does not agree.
    """
    first = datasets[0]
    for other in datasets[1:]:
        for what, a, b in (
            ("classes", first.class_names, other.class_names),
            ("[h, w, c]", first.train.shape, other.train.shape),
            ("a teacher", first.train.taught, other.train.taught),
        ):
            if a != b:
                raise ValueError(f"{other.name} cannot be mixed with {first.name}: {what}: {b}, expected {a}")
    digest = hashlib.sha256("\n".join(f"{d.fingerprint} {w}" for d, w in zip(datasets, weights, strict=True)).encode())
    return Dataset(
        "+".join(data.name for data in datasets),
        first.class_names,
        train=MixedSplit([data.train for data in datasets], weights),
        validation=first.validation,
        test=first.test,
        mean=first.mean,
        std=first.std,
        fingerprint=digest.hexdigest(),
    )
