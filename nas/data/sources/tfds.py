"""Data sets of TensorFlow Datasets, without TensorFlow: `tfds:NAME[:SPLIT]`, e.g. `tfds:imagenet2012`.

Read from ArrayRecord files by position (`tfds.data_source`). They must have been prepared in that format, in
$TFDS_DATA_DIR or ~/tensorflow_datasets:

    tfds build NAME --file_format=array_record

Preparing imagenet2012 needs the two archives of its owners in DIR/downloads/manual and, once, TensorFlow; reading does
not. Of a set with several parts, train, validation and test are used as they are; SPLIT, e.g. `train[:10%]`, gives one.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

import numpy as np
from PIL import Image

from nas.data import images as codec
from nas.data.collection import PARTS, Collection, Images
from nas.run import cache


def open_tfds(rest: str) -> Collection:
    """The images of a prepared set; the fingerprint covers its name, version and number of images.

    Raises:
      ValueError: unknown name or split, not prepared, or without `image` and `label`.
    """
    import tensorflow_datasets as tfds

    name, _, split = rest.partition(":")
    try:
        builder: Any = tfds.builder(name, file_format="array_record")
    except Exception as error:  # the library has an error of its own for each of: name, version, config
        raise ValueError(f"source tfds:{rest}: {_first_line(error)}") from None
    features = builder.info.features
    if features is None or not {"image", "label"} <= set(features):
        raise ValueError(f"source tfds:{rest}: needs the features image and label, it has {', '.join(features or ())}")
    available = builder.info.splits
    wanted = {"train": split} if split else {part: part for part in PARTS if part in available}
    cure = f"prepare it once with `tfds build {name} --file_format=array_record`"
    if not wanted:
        raise ValueError(f"source tfds:{rest}: is not in {builder.data_dir_root}; {cure}")
    try:
        parts: dict[str, Images] = {part: _Records(builder, text) for part, text in wanted.items()}
    except Exception as error:
        raise ValueError(
            f"source tfds:{rest}: cannot be read as ArrayRecord from {builder.data_dir} ({_first_line(error)}); {cure}"
        ) from None
    about = [builder.info.full_name, *(f"{part} {text} {len(parts[part])}" for part, text in wanted.items())]
    digest = hashlib.sha256("\n".join(about).encode()).hexdigest()
    return Collection(name.replace("/", "-"), tuple(features["label"].names), parts, digest)


class _Records:
    """One split; images stay encoded until they are opened."""

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        still_encoded = {"image": tfds.decode.SkipDecoding()}
        self._source, self._name = builder.as_data_source(split=split), f"{builder.info.full_name}:{split}"
        self._label_source = builder.as_data_source(split=split, decoders=still_encoded)

    def __len__(self) -> int:
        return len(self._source)

    @property
    def labels(self) -> np.ndarray:
        """Read once from all records, which takes minutes for millions of images, and kept in the cache."""
        return self._labels

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        digest = hashlib.sha256(f"{self._name} {len(self)}".encode()).hexdigest()[:16]
        path = cache.folder() / "labels" / f"{digest}.npy"
        if path.exists():
            return np.load(path, allow_pickle=False)
        try:
            labels = self._read_labels(self._label_source)
        except ModuleNotFoundError:  # the library can leave its invented images encoded only with TensorFlow
            labels = self._read_labels(self._source)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, labels, allow_pickle=False)
        temporary.replace(path)
        return labels

    def _read_labels(self, source: Any) -> np.ndarray:
        return np.fromiter((source[i]["label"] for i in range(len(self))), np.int32, len(self))

    def open(self, index: int) -> Image.Image:
        try:
            return codec.from_array(self._source[index]["image"])
        except Exception as error:  # the library decodes, and what it raises depends on what it decodes with
            raise codec.BadImage(f"{self.place(index)}: cannot be decoded ({_first_line(error)})") from None

    def place(self, index: int) -> str:
        return f"{self._name}[{index}]"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
