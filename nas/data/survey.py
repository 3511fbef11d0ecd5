"""Survey of a source: a header of every image, and which images cannot be read.

Letters: n images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import threading
from collections.abc import Sequence

import numpy as np

from nas.data import codec
from nas.data.collection import FileImages, Images, WithHeaders
from nas.data.decode import threads
from nas.data.order import permuted
from nas.host import cache

_CHUNK = 256
_CACHED = 2000  # images; a smaller survey is quicker than its file
_DECODED_IMAGES, _DECODED_PIXELS = 2000, 200_000_000
"""Sources of at most this many are decoded as a whole, in seconds, to find the broken images."""
_SAMPLE = 256
"""Images of other sources that are decoded to find what their headers do not show."""
_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
    """Headers of the images of a split, one array a field.

    Attributes:
      sizes: int32 [n, 2], pixels across and down, as stored.
      kinds: Names of the kinds of images.
      kind: int16 [n], position in `kinds`.
      orientation: uint8 [n], EXIF orientation.
      digest: uint64 [n], equal for equal images, and rarely for others.
      unreadable: {position: reason} of broken images.
    """

    sizes: np.ndarray
    kinds: tuple[str, ...]
    kind: np.ndarray
    orientation: np.ndarray
    digest: np.ndarray
    unreadable: dict[int, str]

    def __len__(self) -> int:
        return len(self.kind)

    def counts(self) -> dict[str, int]:
        """Number of images of each kind, the most frequent first."""
        numbers = np.bincount(self.kind, minlength=len(self.kinds))
        order = np.argsort(-numbers, kind="stable")
        return {self.kinds[i] or "no image": int(numbers[i]) for i in order if numbers[i]}


def survey(images: Images, seed: int = 0) -> Survey | None:
    """Survey the images of a split.

    Every header is read. An image is decoded where its end is missing, in a source of at most 2,000
    images all of them, and else a random sample.

    Args:
      images: The images.
      seed: Random seed of the sample.

    Returns:
      The survey; None where images have no headers, as those of tfds.
    """
    if not isinstance(images, WithHeaders):
        return None
    stored = _cache_file(images)
    if stored and (found := _load(stored)):
        return found
    found, is_whole = _headers(images)
    suspects = ~is_whole | (found.sizes[:, 0] == 0)
    count, pixels = len(found), int(found.sizes.astype(np.int64).prod(1).sum())
    if count <= _DECODED_IMAGES and pixels <= _DECODED_PIXELS:
        suspects[:] = True
    else:
        suspects[sample(count, _SAMPLE, seed)] = True
    found.unreadable.update(_broken(images, found, np.flatnonzero(suspects).tolist()))
    if stored:
        _save(stored, found)
    return found


def sample(count: int, most: int, seed: int) -> np.ndarray:
    """Positions of a random sample without repetition, the same for the same seed.

    Args:
      count: Number of images.
      most: Size of the sample, where there are as many.
      seed: Random seed.

    Returns:
      int64 [min(count, most)], sorted.
    """
    return np.sort(permuted(np.arange(min(count, most)), count, [seed]))


def _headers(images: WithHeaders) -> tuple[Survey, np.ndarray]:
    """The survey without broken images, and bool [n]: whether each has its end."""
    count = len(images)
    numbers: dict[str, int] = {}
    lock = threading.Lock()
    sizes = np.zeros((count, 2), np.int32)
    kind, digest = np.zeros(count, np.int16), np.zeros(count, np.uint64)
    orientation, is_whole = np.zeros(count, np.uint8), np.zeros(count, bool)

    def read(start: int) -> None:
        for i in range(start, min(start + _CHUNK, count)):
            header = images.header(i)
            sizes[i] = header.width, header.height
            orientation[i], digest[i] = header.orientation, header.digest
            is_whole[i] = header.is_whole
            with lock:
                kind[i] = numbers.setdefault(header.kind, len(numbers))

    for _ in threads().map(read, range(0, count, _CHUNK)):
        pass
    return Survey(sizes, tuple(numbers), kind, orientation, digest, {}), is_whole


def _broken(images: Images, found: Survey, suspects: Sequence[int]) -> dict[int, str]:
    """{position: reason} of images that are too large, or suspects that cannot be decoded."""

    def reason(position: int) -> str:
        try:
            images.open(position)
        except codec.BadImage as error:
            return str(error)
        return ""

    too_large = np.flatnonzero(found.sizes.astype(np.int64).prod(1) > codec.PIXELS_MAX)
    positions = sorted({*suspects, *too_large.tolist()})
    reasons = threads().map(reason, positions)
    return {position: text for position, text in zip(positions, reasons, strict=True) if text}


def _cache_file(images: Images) -> pathlib.Path | None:
    if not isinstance(images, FileImages) or not images.stamp or len(images) < _CACHED:
        return None
    name = hashlib.sha256(f"{images.stamp} {images.upright} {_VERSION}".encode()).hexdigest()[:32]
    return cache.folder() / "surveys" / f"{name}.npz"


def _load(path: pathlib.Path) -> Survey | None:
    try:
        with path.open("rb") as file:
            arrays = dict(np.load(file, allow_pickle=False))
        texts = json.loads(str(arrays.pop("texts")))
        unreadable = {int(position): reason for position, reason in texts["unreadable"].items()}
        return Survey(**arrays, kinds=tuple(texts["kinds"]), unreadable=unreadable)
    # Whatever is wrong with a file of the cache, the source is surveyed again.
    except Exception:
        return None


def _save(path: pathlib.Path, found: Survey) -> None:
    fields = {name: getattr(found, name) for name in ("sizes", "kind", "orientation", "digest")}
    texts = json.dumps({"kinds": found.kinds, "unreadable": found.unreadable})
    temporary = path.with_suffix(f".{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(temporary, allow_pickle=False, texts=np.array(texts), **fields)
        temporary.replace(path)
    # A cache that cannot be written costs time only.
    except OSError:
        temporary.unlink(missing_ok=True)
