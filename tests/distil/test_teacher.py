"""Kinds of teachers: networks trained here, TFLite models, and teachers that name the classes."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from nas.cli import distil
from nas.data import load
from nas.data.dataset import Split
from nas.distillation import teacher
from nas.distillation.teacher import Teacher
from nas.run.train_config import TrainConfig
from nas.training import weights
from nas.training.training import Trained, train
from search_spaces import ArchSpec, yaml_io

from .conftest import CLASSES, photo

SPEC = yaml_io.parse_model(
    """
name: tiny
resolution: 8
blocks:
- {kind: conv, filters: 8, stride: 2}
- {kind: pool}
- {kind: classifier, classes: 3}
""",
    ArchSpec,
    "tiny",
)


@pytest.fixture(scope="module")
def trained() -> Trained:
    images = np.stack([np.asarray(photo(CLASSES[i % 3], i, (8, 8))) for i in range(48)])
    data = Split(images, (np.arange(48) % 3).astype(np.int32))
    return train(
        SPEC, data, TrainConfig(steps=30, batch=16, norm_momentum=0.8), mean=0.4, std=0.25, seed=0
    )


def test_a_network_trained_here(
    trained: Trained, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    weights.save(trained, tmp_path / "run")
    given = ["--source", f"imagefolder:{photos}", "--teacher", f"checkpoint:{tmp_path / 'run'}"]
    more = ["--recipe", "plain", "--size", "8", "--top-k", "3", "--workers", "1", "--out"]
    distil.main([*given, *more, str(tmp_path / "out")])
    data = load.load_dataset(f"distilled:{tmp_path / 'out'}").test.read(np.arange(12))
    assert data.soft_labels is not None
    np.testing.assert_allclose(data.soft_labels, trained.predict(data.images), atol=1e-3)


def test_a_tflite_model(trained: Trained, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("litert_converter")
    from nas.exporters import tflite

    path = tmp_path / "model.tflite"
    path.write_bytes(
        tflite.network_tflite(
            SPEC, trained.params, trained.stats, "float32", np.zeros((1, 8, 8, 3))
        )
    )
    mean, std = 255 * trained.mean, 255 * trained.std
    path.with_suffix(".yaml").write_text(
        f"schema: 1\nname: tiny\nsize: 8\nmean: [{mean}]\nstd: [{std}]\n"
    )
    asked = Teacher(teacher.describe(f"tflite:{path}"), CLASSES)
    images = [photo("red", 0, (8, 8)), photo("blue", 1, (8, 8))]
    np.testing.assert_allclose(
        asked(images), trained.predict(np.stack([*map(np.asarray, images)])), atol=1e-5
    )


def test_photographs_without_labels_take_the_names_of_the_teacher(
    tmp_path: pathlib.Path,
    teacher_file: Callable[..., pathlib.Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "loose").mkdir()
    for number in range(24):
        photo(CLASSES[number % 3], number).save(tmp_path / "loose" / f"{number:02}.png")
    out = tmp_path / "out"
    source = f"imagefolder:{tmp_path / 'loose'}"
    given = ["--source", source, "--out", str(out), *["--workers", "1", "--size", "12"]]
    with pytest.raises(SystemExit):
        distil.main([*given, "--teacher", f"onnx:{teacher_file()}"])
    assert "has 0 classes" in capsys.readouterr().err
    named = teacher_file("class_names: [blue, green, red]")
    distil.main([*given, "--teacher", f"onnx:{named}", "--recipe", "plain"])
    examples = load.load_dataset(f"distilled:{out}").train.read(np.arange(18))
    assert examples.soft_labels is not None and set(examples.soft_labels.argmax(1)) == {0, 1, 2}
    assert examples.labels.tolist() == examples.soft_labels.argmax(1).tolist()
    held_out = load.load_dataset(f"distilled:{out}").validation
    # Held-out images need a label, so that networks can be scored.
    examples = held_out.read(np.arange(len(held_out)))
    assert (
        examples.soft_labels is not None
        and examples.labels.tolist() == examples.soft_labels.argmax(1).tolist()
    )
    assert "teacher and label agree" not in capsys.readouterr().out
