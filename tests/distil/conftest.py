"""Small photographs, and a teacher of their colour: an ONNX file with outputs in closed form."""

from __future__ import annotations

import hashlib
import pathlib
import re
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from nas.cli import distil
from nas.data.distilled.manifest import read_manifest
from nas.data.distilled.split import DistilledSplit

Make = Callable[..., pathlib.Path]
CLASSES = ("blue", "green", "red")
"""Names of the class folders, sorted."""
CHANNEL = {"red": 0, "green": 1, "blue": 2}
SHARPNESS = 4.0


def _field(number: int, content: bytes | int | float) -> bytes:
    """One field of a protocol buffer message."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out += bytes([value & 127 | 128])
            value >>= 7
        return out + bytes([value])

    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def _value(name: str, shape: tuple[str | int, ...]) -> bytes:
    axes = b"".join(
        _field(1, _field(2, n.encode()) if isinstance(n, str) else _field(1, n)) for n in shape
    )
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, axes)))


def colour_onnx(outputs: int = 3, side: str | int = "side") -> bytes:
    """ONNX file: image float32 [b, 3, side, side] -> [b, outputs].

    Output i is SHARPNESS * mean of channel (2, 1, 0, 2, 1, 0, ...)[i], so each of the first three
    belongs to one of `CLASSES`.
    """
    matrix = np.zeros((3, outputs), "<f4")
    matrix[[2 - output % 3 for output in range(outputs)], range(outputs)] = SHARPNESS
    axes = _field(1, b"axes") + _field(20, 7) + _field(8, 2) + _field(8, 3)
    keep = _field(1, b"keepdims") + _field(20, 2) + _field(3, 0)
    mean = (
        _field(1, b"image")
        + _field(2, b"mean")
        + _field(4, b"ReduceMean")
        + _field(5, axes)
        + _field(5, keep)
    )
    product = (
        _field(1, b"mean") + _field(1, b"matrix") + _field(2, b"logits") + _field(4, b"MatMul")
    )
    tensor = (
        _field(1, 3)
        + _field(1, outputs)
        + _field(2, 1)
        + _field(8, b"matrix")
        + _field(9, matrix.tobytes())
    )
    graph = _field(1, mean) + _field(1, product) + _field(2, b"colour") + _field(5, tensor)
    graph += _field(11, _value("image", ("b", 3, side, side))) + _field(
        12, _value("logits", ("b", outputs))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


@pytest.fixture
def teacher_file(tmp_path: pathlib.Path) -> Make:
    """Function that makes `colour.onnx` and its YAML, with more lines and other outputs."""

    def make(*lines: str, outputs: int = 3, side: str | int = "side") -> pathlib.Path:
        pytest.importorskip("onnxruntime")
        path = tmp_path / "colour.onnx"
        path.write_bytes(colour_onnx(outputs, side))
        text = [
            "name: colour",
            "size: 12",
            "layout: nchw",
            "mean: [0.0]",
            "std: [255.0]",
            "batch: 4",
            *lines,
        ]
        path.with_suffix(".yaml").write_text("schema: 1\n" + "\n".join(text) + "\n")
        return path

    return make


def photo(name: str, seed: int, size: tuple[int, int] = (24, 18)) -> Image.Image:
    """Noise, with more of one colour."""
    rng = np.random.default_rng([seed, CHANNEL[name]])
    pixels = rng.integers(0, 120, (size[1], size[0], 3))
    pixels[:, :, CHANNEL[name]] += rng.integers(40, 130)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """imagefolder: ten training photographs per class, 24 x 18; four to validate, four to test."""
    root = tmp_path / "photos"
    for split, count in (("train", 10), ("val", 4), ("test", 4)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                seed = number + {"train": 0, "val": 100, "test": 200}[split]
                photo(name, seed).save(root / split / name / f"{number:02}.png")
    return root


def command(photos: pathlib.Path, out: pathlib.Path, *more: str) -> list[str]:
    """Arguments of `nas-distill`: one process, shards of 8 images of 12 px."""
    where = ("--source", f"imagefolder:{photos}", "--out", str(out))
    size = () if "--size" in more else ("--size", "12")
    return [*where, "--workers", "1", "--shard-images", "8", *size, *more]


def contents(folder: pathlib.Path) -> dict[str, str]:
    """Hash of every file of the data set."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def train_split(folder: pathlib.Path) -> DistilledSplit:
    """The training split of a finished data set."""
    return DistilledSplit(folder, read_manifest(folder), "train")


def fails(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`nas-distill` ends with exit code 2 and one line that matches."""
    with pytest.raises(SystemExit) as stopped:
        distil.main(arguments)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("nas-distill: error: ")
    assert re.search(message, error), error
