"""Labelled images as they lie somewhere, of any size, before they are augmented or resized.

The contract between sources (`nas.data.sources`) and all that reads raw images: the distillation, and searches on plain
labels. Letters: n images.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from nas.data import images as codec

PARTS = ("train", "validation", "test")


class Images(Protocol):
    """Images with their labels, opened one by one in any order."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> np.ndarray:
        """int32 [n]; -1 where there is none."""
        ...

    def open(self, index: int) -> Image.Image:
        """Image `index`, RGB. Raises `codec.BadImage`."""
        ...

    def place(self, index: int) -> str:
        """Where image `index` lies, for messages: a file, or a position in one."""
        ...


@dataclasses.dataclass(frozen=True)
class Collection:
    """The images of a source by part.

    Attributes:
      name: what reports call it.
      class_names: position = class index.
      parts: among `PARTS`; at least "train".
      fingerprint: sha256 of what it is made from; what that covers is the source's to say.
    """

    name: str
    class_names: tuple[str, ...]
    parts: dict[str, Images]
    fingerprint: str

    def __post_init__(self) -> None:
        if "train" not in self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"{self.name}: has parts {', '.join(self.parts) or 'none'}; expected train among them")
        for part, images in self.parts.items():
            if not len(images):
                raise ValueError(f"{self.name}: part {part} has no images")


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images from one array: uint8 [n, h, w, c] with c 1 or 3, labels int32 [n]."""

    pixels: np.ndarray
    labels: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Image.Image:
        return codec.from_array(self.pixels[index])

    def place(self, index: int) -> str:
        return f"{self.origin}[{index}]"


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImages:
    """Image files end to end in one array: file i is blob[offsets[i] : offsets[i + 1]]."""

    blob: np.ndarray  # uint8
    offsets: np.ndarray  # int64 [n + 1]
    labels: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Image.Image:
        return codec.decode(self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes(), self.place(index))

    def place(self, index: int) -> str:
        return f"{self.origin}[{index}]"


@dataclasses.dataclass(frozen=True, eq=False)
class FileImages:
    """Image files in folders."""

    paths: Sequence[pathlib.Path]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> Image.Image:
        return codec.decode(self.paths[index], self.place(index))

    def place(self, index: int) -> str:
        return str(self.paths[index])


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some images of another set, in the order of `index` [n]."""

    images: Images
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> np.ndarray:
        return self.images.labels[self.index]

    def open(self, index: int) -> Image.Image:
        return self.images.open(int(self.index[index]))

    def place(self, index: int) -> str:
        return self.images.place(int(self.index[index]))


def with_all_parts(collection: Collection, held_out: float, seed: int = 0) -> Collection:
    """The same with train, validation and test.

    A reward must read what weights were not trained on, and a published test or validation part stays unread until the
    end. So: of a collection with one part besides train, that part becomes test, and validation is taken out of train;
    of one with train alone, both are.

    Args:
      collection: from a source.
      held_out: share of the training images that a missing part gets, drawn class by class.
      seed: of the drawing.

    Raises:
      ValueError: fewer than one image would be left of a class.
    """
    parts = dict(collection.parts)
    if len(parts) == 2:
        (other,) = parts.keys() - {"train"}
        parts["test"] = parts.pop(other)
    for part in (name for name in ("test", "validation") if name not in parts):
        train = parts["train"]
        taken = _drawn(train.labels, held_out, seed)
        for label in np.unique(train.labels):
            if not (~taken & (train.labels == label)).any():
                raise ValueError(
                    f"{collection.name}: class {_name(collection, label)} has too few images to hold out "
                    f"{held_out:g} of them for {part}; add images, or give the source a part of that name"
                )
        parts[part], parts["train"] = (Subset(train, np.flatnonzero(chosen)) for chosen in (taken, ~taken))
    return dataclasses.replace(collection, parts={name: parts[name] for name in PARTS})


def _drawn(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """[n] bool: `share` of each class, at least one image."""
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # raw words: the same choice with every version of NumPy
        order = np.argsort(np.random.PCG64DXSM([seed, int(label) + 1]).random_raw(len(members)), kind="stable")
        taken[members[order[: max(round(share * len(members)), 1)]]] = True
    return taken


def _name(collection: Collection, label: int) -> str:
    return repr(collection.class_names[label]) if label >= 0 else "none"
