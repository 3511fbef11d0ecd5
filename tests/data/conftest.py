"""Fashion-MNIST files in miniature, image files in an .npz, and distilled sets of them."""

from __future__ import annotations

import gzip
import pathlib
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.datasets import fashion_clutter as rebuild
from experiments.datasets.fashion_mnist import SOURCE_FILES
from nas.data import codec, fashion_clutter
from nas.distillation import run
from nas.distillation.request import build_request
from nas.host import parallel
from nas.host.progress import SILENT


@pytest.fixture
def items() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)


@pytest.fixture
def source(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Original files in miniature: 15 training and 6 test items a class, a grey value per item."""
    for split, count in {"train": 80, "validation": 20, "test": 50}.items():
        monkeypatch.setitem(fashion_clutter.ITEMS, split, count)
    folder = tmp_path / "source"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for split, per_class in {"train": 15, "test": 6}.items():
        labels = generator.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
        grey = np.arange(len(labels), dtype=np.uint8) + 21
        write_idx(folder / SOURCE_FILES[f"{split} labels"], labels)
        write_idx(
            folder / SOURCE_FILES[f"{split} images"],
            np.tile(grey[:, None, None], (1, 28, 28)).astype(np.uint8),
        )
    return folder


@pytest.fixture
def folder(source: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Embedded files in miniature."""
    rebuild.write_subset(source, tmp_path / "embedded")
    return tmp_path / "embedded"


def write_idx(path: pathlib.Path, values: np.ndarray) -> None:
    header = b"\x00\x00\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 1))


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """20 training and 10 validation JPEGs of two classes, end to end."""
    path, arrays = tmp_path_factory.mktemp("blobs") / "blobs.npz", {}
    for prefix, count in (("train", 20), ("val", 10)):
        files = [codec.encode(Image.new("RGB", (9, 7), (10 * i, 0, 0)), 95) for i in range(count)]
        arrays |= {
            f"{prefix}_blob": np.frombuffer(b"".join(files), np.uint8),
            f"{prefix}_off": np.cumsum([0, *map(len, files)]),
            f"{prefix}_y": np.arange(count) % 2,
        }
    np.savez(path, **arrays, names=np.array(["even", "odd"]))
    return path


def distil(source: str, out: pathlib.Path, **parameters: Any) -> str:
    """A distilled data set made in this process; returns its source text."""
    request, _ = build_request(source, **parameters)
    run.run(out, request, SILENT, workers=parallel.ALONE)
    return f"distilled:{out}"


@pytest.fixture(scope="session")
def distilled(blobs: pathlib.Path) -> tuple[str, str]:
    """Two distilled sets of the same images, of 18 and 54 training images."""
    one = distil(f"npz:{blobs}", blobs.parent / "one", recipe="d1", size=8, shard_images=16)
    two = distil(
        f"npz:{blobs}", blobs.parent / "two", recipe="d2", replicas=3, size=8, shard_images=16
    )
    return one, two
