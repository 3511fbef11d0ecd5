"""Data sets of TensorFlow Datasets, without TensorFlow: `tfds:NAME[:SPLIT]`, e.g. `tfds:cifar10`.

Read from ArrayRecord files by position (`tfds.data_source`). They must have been prepared in that
format, in $TFDS_DATA_DIR or ~/tensorflow_datasets:

    tfds build NAME --file_format=array_record

Preparing imagenet2012 needs the two archives of its owners in DIR/downloads/manual and, once,
TensorFlow; reading does not. The splits train, validation and test of a set are used under their
names; SPLIT, e.g. `train[:10%]`, selects one.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

import numpy as np
from PIL import Image

from nas.data import codec
from nas.data.collection import SPLITS, Images, RawDataset
from nas.host import cache


def open_tfds(rest: str) -> RawDataset:
    """Open the images of a prepared set.

    Args:
      rest: NAME or NAME:SPLIT.

    Returns:
      The raw data set. Its fingerprint covers its name, version and number of images.

    Raises:
      ValueError: The name or split is unknown, the set is not prepared, or it lacks `image` or
        `label`.
    """
    import tensorflow_datasets as tfds

    name, _, requested = rest.partition(":")
    try:
        builder: Any = tfds.builder(name, file_format="array_record")
    # The library has different errors for a wrong name, version and config.
    except Exception as error:
        raise ValueError(f"source tfds:{rest}: {_first_line(error)}") from None
    features = builder.info.features
    if features is None or not {"image", "label"} <= set(features):
        raise ValueError(
            f"source tfds:{rest}: needs the features image and label, it has "
            f"{', '.join(features or ())}"
        )
    available = builder.info.splits
    if requested:
        wanted = {"train": requested}
    else:
        wanted = {split: split for split in SPLITS if split in available}
    cure = f"prepare it once with `tfds build {name} --file_format=array_record`"
    if not wanted:
        raise ValueError(f"source tfds:{rest}: is not in {builder.data_dir_root}; {cure}")
    try:
        splits: dict[str, Images] = {
            split: _Records(builder, text) for split, text in wanted.items()
        }
    except Exception as error:
        raise ValueError(
            f"source tfds:{rest}: cannot be read as ArrayRecord from {builder.data_dir} "
            f"({_first_line(error)}); {cure}"
        ) from None
    identity = [
        builder.info.full_name,
        *(f"{split} {text} {len(splits[split])}" for split, text in wanted.items()),
    ]
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()
    return RawDataset(name.replace("/", "-"), tuple(features["label"].names), splits, digest)


class _Records:
    """One split; images stay encoded until they are opened."""

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        still_encoded = {"image": tfds.decode.SkipDecoding()}
        self._source = builder.as_data_source(split=split)
        self._name = f"{builder.info.full_name}:{split}"
        self._label_source = builder.as_data_source(split=split, decoders=still_encoded)

    def __len__(self) -> int:
        return len(self._source)

    @property
    def labels(self) -> np.ndarray:
        """See `Images.labels`.

        Read once from all records, which takes minutes for millions of images, and kept in the
        cache.
        """
        return self._labels

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        digest = hashlib.sha256(f"{self._name} {len(self)}".encode()).hexdigest()[:16]
        path = cache.folder() / "labels" / f"{digest}.npy"
        if path.exists():
            return np.load(path, allow_pickle=False)
        try:
            labels = self._read_labels(self._label_source)
        # The library needs TensorFlow to leave its mock images encoded.
        except ModuleNotFoundError:
            labels = self._read_labels(self._source)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, labels, allow_pickle=False)
        temporary.replace(path)
        return labels

    def _read_labels(self, source: Any) -> np.ndarray:
        return np.fromiter((source[i]["label"] for i in range(len(self))), np.int32, len(self))

    def open(self, index: int) -> Image.Image:
        """See `Images.open`."""
        try:
            return codec.from_array(self._source[index]["image"])
        # The library decodes, and its errors depend on its decoder.
        except Exception as error:
            raise codec.BadImage(
                f"{self.location(index)}: cannot be decoded ({_first_line(error)})"
            ) from None

    def location(self, index: int) -> str:
        """See `Images.location`."""
        return f"{self._name}[{index}]"


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
