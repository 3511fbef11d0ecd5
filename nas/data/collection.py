"""Labelled images of a source, of any size, before they are augmented or resized.

The contract between sources (`nas.data.sources`) and the readers of raw images: the distillation,
and searches on plain labels. Letters: n images, h rows, w columns, c channels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from nas.data import codec, headers
from nas.data.headers import Header
from nas.host.terminal import one_line

SPLITS = ("train", "validation", "test")
UNREADABLE = 0.01
"""Share of broken images that are left out; a source with more is refused. Source: ours."""


class Images(Protocol):
    """Images with their labels, opened one by one in any order."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> np.ndarray:
        """int32 [n], class index from 0; -1 for an image without a label."""
        ...

    def open(self, index: int) -> Image.Image:
        """Open one image.

        Args:
          index: Position, 0..n - 1.

        Returns:
          The image, RGB.

        Raises:
          codec.BadImage: It cannot be decoded.
        """
        ...

    def location(self, index: int) -> str:
        """Location of one image, for messages: a file, or a position in one.

        Args:
          index: Position, 0..n - 1.
        """
        ...


@runtime_checkable
class WithHeaders(Protocol):
    """Images that can be described without decoding them."""

    def __len__(self) -> int: ...

    def header(self, index: int) -> Header:
        """Describe one image.

        Args:
          index: Position, 0..n - 1.
        """
        ...

    def content(self, index: int) -> bytes:
        """Read all bytes of one image, to compare it with another.

        Args:
          index: Position, 0..n - 1.
        """
        ...


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Files of a source that are not read.

    Attributes:
      reason: Kind of file or folder, a noun in the plural.
      count: Number of files.
      examples: Paths of a few of them.
    """

    reason: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.count} {'in ' * ('folders' in self.reason)}{self.reason}"


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """The images of a source by split.

    Args:
      name: Name in reports.
      class_names: One name per class; position = class index. Empty for unlabelled images.
      splits: Images of some of `SPLITS`; at least "train".
      fingerprint: sha256 of the origin of the images; its source defines what it covers.
      notes: Sentences on what was understood, converted or is doubtful.
      left_out: Files that are not read, by reason.
      most_unreadable: Largest share of images that may be broken, 0..1.

    Raises:
      ValueError: A split is missing, unknown or empty.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, Images]
    fingerprint: str
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    most_unreadable: float = UNREADABLE

    def __post_init__(self) -> None:
        if "train" not in self.splits or not set(self.splits) <= set(SPLITS):
            raise ValueError(
                f"{self.name}: has the splits {', '.join(self.splits) or 'none'}; expected train "
                f"among them, and no others than {', '.join(SPLITS)}"
            )
        for split, images in self.splits.items():
            if not len(images):
                raise ValueError(f"{self.name}: split {split} has no images; add some or remove it")

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {len(images)}" for split, images in self.splits.items())
        return f"RawDataset({self.name!r}, {len(self.class_names)} classes, {counts})"


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in one array.

    Args:
      pixels: uint8 [n, h, w, c], c 1 or 3.
      labels: int32 [n].
      origin: Name of the array in messages.
    """

    pixels: np.ndarray
    labels: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Image.Image:
        """See `Images.open`."""
        return codec.from_array(self.pixels[index])

    def location(self, index: int) -> str:
        """See `Images.location`."""
        return f"{self.origin}[{index}]"

    def header(self, index: int) -> Header:
        """See `WithHeaders.header`."""
        height, width, channels = self.pixels.shape[1:]
        digest = hashlib.blake2b(self.content(index), digest_size=8).digest()
        kind = f"array of {channels} channel{'s' * (channels > 1)}"
        return Header(width, height, kind, 1, int.from_bytes(digest, "little"))

    def content(self, index: int) -> bytes:
        """See `WithHeaders.content`."""
        return self.pixels[index].tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImages:
    """Image files end to end in one array: file i is blob[offsets[i] : offsets[i + 1]].

    Args:
      blob: uint8, the bytes of all files.
      offsets: int64 [n + 1].
      labels: int32 [n].
      origin: Name of the array in messages.
      upright: Turn images upright by their EXIF orientation.
    """

    blob: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    origin: str
    upright: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Image.Image:
        """See `Images.open`."""
        return codec.decode(self.content(index), self.location(index), upright=self.upright)

    def location(self, index: int) -> str:
        """See `Images.location`."""
        return f"{self.origin}[{index}]"

    def header(self, index: int) -> Header:
        """See `WithHeaders.header`."""
        return headers.read(self.content(index))

    def content(self, index: int) -> bytes:
        """See `WithHeaders.content`."""
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class FileImages:
    """Image files in folders.

    Args:
      paths: Paths of the files.
      labels: int32 [n].
      upright: Turn images upright by their EXIF orientation.
      stamp: Hash of paths, sizes and times of change; "" where it is not known.
    """

    paths: Sequence[str]
    labels: np.ndarray
    upright: bool = True
    stamp: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> Image.Image:
        """See `Images.open`."""
        path = pathlib.Path(self.paths[index])
        return codec.decode(path, self.location(index), upright=self.upright)

    def location(self, index: int) -> str:
        """See `Images.location`."""
        return one_line(self.paths[index])

    def header(self, index: int) -> Header:
        """See `WithHeaders.header`."""
        return headers.read(self.paths[index])

    def content(self, index: int) -> bytes:
        """See `WithHeaders.content`."""
        return pathlib.Path(self.paths[index]).read_bytes()


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some images of another set.

    Args:
      images: The other set.
      index: int64 [n], positions in it.
    """

    images: Images
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> np.ndarray:
        """See `Images.labels`."""
        return self.images.labels[self.index]

    def open(self, index: int) -> Image.Image:
        """See `Images.open`."""
        return self.images.open(int(self.index[index]))

    def location(self, index: int) -> str:
        """See `Images.location`."""
        return self.images.location(int(self.index[index]))


def with_all_splits(raw: RawDataset, held_out: float, seed: int = 0) -> RawDataset:
    """Complete a raw data set to train, validation and test.

    A reward must read images that weights were not trained on, and a published test or validation
    split stays unread until the end. So a single split besides train becomes test, and validation
    is held out from train. Where there is train alone, both are held out from it.

    Args:
      raw: Raw data set from a source.
      held_out: Share of the training images for each missing split, drawn class by class.
      seed: Random seed of the draw.

    Returns:
      The raw data set with all three splits.

    Raises:
      ValueError: No training image of a class would be left.
    """
    splits = dict(raw.splits)
    if len(splits) == 2:
        (other,) = splits.keys() - {"train"}
        splits["test"] = splits.pop(other)
    for split in (name for name in ("test", "validation") if name not in splits):
        train = splits["train"]
        taken = _sample_held_out(train.labels, held_out, seed)
        for label in np.unique(train.labels):
            if not (~taken & (train.labels == label)).any():
                raise ValueError(
                    f"{raw.name}: class {_class_name(raw, label)} has too few images to hold out "
                    f"{held_out:g} of them for {split}; add images, or give the source a split of "
                    "that name"
                )
        splits[split] = Subset(train, np.flatnonzero(taken))
        splits["train"] = Subset(train, np.flatnonzero(~taken))
    return dataclasses.replace(raw, splits={name: splits[name] for name in SPLITS})


def _sample_held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask [n] that is True for `share` of each class, at least one image."""
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # Raw words give the same choice with every version of NumPy.
        order = np.argsort(
            np.random.PCG64DXSM([seed, int(label) + 1]).random_raw(len(members)), kind="stable"
        )
        taken[members[order[: max(round(share * len(members)), 1)]]] = True
    return taken


def _class_name(raw: RawDataset, label: int) -> str:
    return repr(raw.class_names[label]) if label >= 0 else "none"
