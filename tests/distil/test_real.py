"""20 classes of Tiny-ImageNet, labelled by EfficientNet-Lite0, then searched. Minutes long."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from nas.cli import distil
from nas.data import load
from nas.data.distilled.manifest import read_manifest

SHARED = pathlib.Path(__file__).parents[4] / "shared"
IMAGES, TEACHER = (
    SHARED / "datasets" / "tiny_imagenet20_jpeg.npz",
    SHARED / "teachers" / "efficientnet_lite0.onnx",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (IMAGES.exists() and TEACHER.exists()), reason="needs the shared images and teacher"
    ),
]

RECIPE = """\
schema: 1
name: tiny-imagenet
targets: ["macs:4M"]
data: {{source: "{source}"}}
space: {{base: {base}, coarse: {{multipliers: [0.5, 1.0], expansions: [2.0, 4.0]}}}}
weights: {{optimizer: sgd, learning_rate: 0.1}}
search: {{steps: {{coarse: 40, fine: 20}}, replicas: 2, batch: 16, validation_batch: 32,
  checkpoint_every: 20}}
derive: {{survivors: 4, images: 200}}
"""

BASE = """\
schema: 1
name: small-64
resolution: 64
blocks:
- {kind: conv, filters: 16, stride: 2}
- {kind: uib, filters: 32, middle_dw: 3, stride: 2, expansion: 4.0}
- {kind: uib, filters: 32, middle_dw: 3, expansion: 4.0}
- {kind: uib, filters: 64, middle_dw: 3, stride: 2, expansion: 4.0}
- {kind: pool}
- {kind: classifier, classes: 20}
"""


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A link to the teacher, with its YAML beside it."""
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("teacher") / "efficientnet_lite0.onnx"
    path.symlink_to(TEACHER)
    with np.load(IMAGES, allow_pickle=False) as arrays:
        classes = arrays["imagenet_index"].tolist()
    path.with_suffix(".yaml").write_text(
        "schema: 1\nname: efficientnet-lite0\nsize: 160\nlayout: nchw\n"
        "mean: [127.0]\nstd: [128.0]\n"
        f"classes: {classes}\nsource: ImageNet-1k weights, Apache-2.0\n"
    )
    return path


@pytest.fixture(scope="module")
def distilled(teacher_file: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """All images once, augmented as D1."""
    out = tmp_path_factory.mktemp("distilled") / "d1"
    given = ["--source", f"npz:{IMAGES}", "--teacher", f"onnx:{teacher_file}"]
    distil.main([*given, "--recipe", "d1", "--out", str(out)])
    return out


def test_the_teacher_knows_nine_of_ten_and_little_is_lost(distilled: pathlib.Path) -> None:
    manifest = read_manifest(distilled)
    assert {name: split.images for name, split in manifest.splits.items()} == {
        "train": 9000, "validation": 1000, "test": 1000,
    }  # fmt: skip
    test = manifest.splits["test"].shards
    assert sum(shard.agree for shard in test) / sum(shard.labelled for shard in test) > 0.85
    lost = sum(shard.lost_nats for shard in manifest.splits["train"].shards) / 9000
    assert lost < 2e-3
    distil.main(["verify", str(distilled)])


def test_distilled_and_plain_searches_differ_in_one_line(
    distilled: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    environment = {**os.environ, "MNV4_NAS_CACHE": str(tmp_path / "cache")}
    for name, source in (("distilled", f"distilled:{distilled}"), ("plain", f"npz:{IMAGES}")):
        config = tmp_path / f"{name}.yaml"
        config.write_text(RECIPE.format(source=source, base=tmp_path / "base.yaml"))
        run = [sys.executable, "-m", "nas.cli.search", "--stage", "coarse", "--config", str(config)]
        run += ["--workdir", str(tmp_path / name)]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert (tmp_path / name / "coarse" / "architecture.yaml").exists()
    assert load.load_dataset(f"distilled:{distilled}").train.has_soft_labels
