"""Photographs without a teacher: random crops for training, the centre elsewhere."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image

from nas.data import load


def test_each_position_has_its_own_crop(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for name in "ab":
            for number in range(count):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(path)
    data = load.load_dataset(f"imagefolder:{tmp_path}", 16)
    assert (data.train.shape, len(data.train), data.train.has_soft_labels) == (
        (16, 16, 3),
        16,
        False,
    )
    index = np.array([[3, 3 + 16], [3, 5]])
    examples = data.train.read(index)
    assert examples.images.shape == (2, 2, 16, 16, 3) and examples.soft_labels is None
    # One position, one crop; the same photograph at another position, another crop.
    assert (examples.images[0, 0] == examples.images[1, 0]).all()
    assert (examples.images[0, 0] != examples.images[0, 1]).any()
    assert examples.labels.tolist() == [[0, 0], [0, 0]]
    plain = data.validation.read(np.array([0, 0])).images
    assert (plain[0] == plain[1]).all()
    again = load.load_dataset(f"imagefolder:{tmp_path}", 16)
    assert (again.mean, again.std, again.fingerprint) == (data.mean, data.std, data.fingerprint)
    assert load.load_dataset(f"imagefolder:{tmp_path}", 20).fingerprint != data.fingerprint
