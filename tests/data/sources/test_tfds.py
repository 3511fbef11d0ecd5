"""TensorFlow Datasets without TensorFlow: invented data of a known set, and one prepared here."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
import numpy as np
warnings.simplefilter("ignore")
import tensorflow_datasets as tfds
from PIL import Image
from nas.data import load, sources
"""

MOCK = (
    PROGRAM
    + """
with tfds.testing.mock_data(num_examples=40):
    # Their class names are in prepared data.
    known = (("cifar10", "0", 10, (32, 32)), ("imagenet2012", "n01440764", 1000, None))
    for name, first, classes, size in known:
        raw = sources.open_collection(f"tfds:{name}:train")
        names = raw.class_names
        assert (names[0], len(names)) == (first, classes), names[:2]
        train = raw.splits["train"]
        image = train.open(3)
        assert image.mode == "RGB" and size in (image.size, None)
        assert (len(train), train.labels.dtype) == (40, np.int32)
        assert 0 <= train.labels.min() <= train.labels.max() < classes
assert "tensorflow" not in sys.modules
"""
)

LOCAL = (
    PROGRAM
    + """
class Blobs(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        features = tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
        })
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(30), "validation": self._generate_examples(6)}
    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": Image.new("RGB", (10, 8), (5 * i,) * 3), "label": i % 2}

Blobs(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
import os
os.environ["TFDS_DATA_DIR"] = sys.argv[1]
tfds.core.registered._DATASET_REGISTRY.setdefault("blobs", Blobs)
raw = sources.open_collection("tfds:blobs")
assert raw.class_names == ("a", "b") and raw.name == "blobs"
train = raw.splits["train"]
values = sorted(int(np.asarray(train.open(i))[0, 0, 0]) for i in range(len(train)))
assert values == [5 * i for i in range(30)]
for i in range(30):
    assert int(np.asarray(train.open(i))[0, 0, 0]) // 5 % 2 == train.labels[i]
assert len(sources.open_collection("tfds:blobs:train[:50%]").splits["train"]) == 15
data = load.load_dataset("tfds:blobs", 8)
counts = [len(split) for split in data.splits().values()]
assert counts == [26, 4, 6], counts
assert data.train.read(np.array([0, 1])).images.shape == (2, 8, 8, 3)
assert "tensorflow" not in sys.modules
"""
)

BAD = (
    PROGRAM
    + """
CURE = "tfds build cifar10 --file_format=array_record"
for source, words in (("tfds:no_such_set", "no_such_set"), ("tfds:cifar10", CURE)):
    try:
        sources.open_collection(source)
    except ValueError as error:
        assert source in str(error) and words in str(error), error
    else:
        raise AssertionError(source)
"""
)


@pytest.mark.parametrize("program", [MOCK, LOCAL, BAD], ids=["mock", "local", "bad"])
def test_in_a_process_of_its_own(program: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "program.py"  # a builder needs a file of its own
    file.write_text(program)
    run = [sys.executable, str(file), str(tmp_path / "data")]
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "TFDS_DATA_DIR": str(tmp_path / "data"),
    }
    done = subprocess.run(
        run, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
