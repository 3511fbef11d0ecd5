"""Exports of a trained network: checked before a file gets its name, and what its record says."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from nas.exporters import export as exporting
from nas.exporters import formats, metadata, stablehlo
from nas.exporters.formats import FORMATS, Subject
from nas.exporters.metadata import ModelInfo
from nas.training.training import train
from search_spaces import yaml_io

from ..train.striped import CONFIG, MEAN, SPEC, STD, separable

has_litert = importlib.util.find_spec("litert_converter") is not None
needs_litert = pytest.mark.skipif(not has_litert, reason="the extra `export` is not installed")
has_onnx = importlib.util.find_spec("onnx") is not None
LITE = [name for name in FORMATS if name.startswith("tflite")]
HERE = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            (name in LITE and not has_litert) or (name == "onnx" and not has_onnx),
            reason="its extra is not installed",
        ),
    )
    for name in FORMATS
    if name != "coreml"  # it cannot be run here
]


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A network that tells stripes apart; its norms have an epsilon that is not the usual one."""
    config = CONFIG.model_copy(update={"norm_epsilon": 0.05})
    data = separable(200, 0)
    trained = train(SPEC, data, config, mean=MEAN, std=STD, seed=0)
    params, stats = jax.device_get((trained.params, trained.stats))
    info = ModelInfo(
        name="tiny",
        classes=("a", "b", "c", "d"),
        mean=MEAN,
        std=STD,
        size=8,
        architecture=yaml_io.to_yaml(SPEC),
    )
    return Subject(SPEC, params, stats, 0.05, info, data.images[:100])


@pytest.fixture(scope="module")
def held_out() -> Any:
    return separable(120, 1)


@pytest.mark.skipif(
    importlib.util.find_spec("stablehlo_coreml") is None, reason="the extra `coreml` is missing"
)
def test_a_core_ml_package_is_a_classifier(
    subject: Subject, held_out: Any, tmp_path: pathlib.Path
) -> None:
    """Its kernels are the network's (`network_coreml` refuses others); it was not run."""
    coremltools = importlib.import_module("coremltools")
    path, record = exporting.export(subject, "coreml", tmp_path, held_out.images, held_out.labels)
    spec = coremltools.utils.load_spec(str(path))
    assert path.name == record.file == "tiny.mlpackage" and record.accuracy is None
    assert any("not run" in warning for warning in record.warnings)
    (given,), outputs = spec.description.input, {out.name for out in spec.description.output}
    assert given.type.imageType.width == 8 and outputs == {"classLabel", "classLabel_probs"}
    notes = spec.description.metadata.userDefined
    assert yaml.safe_load(notes["classes"]) == ["a", "b", "c", "d"] and notes["size"] == "8"
    assert (tmp_path / "tiny.mlpackage.yaml").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("format", HERE)
def test_every_format_passes_its_check(
    format: str, subject: Subject, held_out: Any, tmp_path: pathlib.Path
) -> None:
    path, record = exporting.export(subject, format, tmp_path, held_out.images, held_out.labels)
    assert path.read_bytes() and record.bytes == path.stat().st_size
    sidecar = yaml.safe_load(path.with_name(f"{record.file.replace('/', '.')}.yaml").read_text())
    assert sidecar["format"] == format and sidecar["classes"] == ["a", "b", "c", "d"]
    assert record.accuracy is not None and record.float_accuracy and record.float_accuracy > 0.9
    if format not in ("tflite-int8", "tflite-uint8", "tflite-fp16"):
        assert record.difference is not None and record.difference <= exporting.PARITY
        assert record.accuracy == record.float_accuracy and record.agreement == 1
    assert abs(record.accuracy - record.float_accuracy) <= exporting.ALLOWED_LOSS
    if format in LITE:
        assert metadata.read(path.read_bytes()) == subject.info
        assert record.milliseconds and record.float_milliseconds and record.left_out == ()
    assert not list(tmp_path.glob(".*"))


def test_a_loss_keeps_the_file_from_its_name(
    subject: Subject, held_out: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A format whose file forgets half of the classes."""

    def broken(subject: Subject) -> formats.Exported:
        def run(images: np.ndarray) -> np.ndarray:
            return subject.run(images) * np.array([1, 0, 1, 0], np.float32)

        return formats.Exported({"bad": b"bytes"}, run, "a test", exact=False)

    monkeypatch.setitem(FORMATS._members, "broken", broken)
    given = (subject, "broken", tmp_path, held_out.images, held_out.labels)
    with pytest.raises(ValueError, match=r"a loss of \d\d\.\d points where 1\.0 are allowed"):
        exporting.export(*given)
    assert not list(tmp_path.iterdir())
    path, record = exporting.export(*given, allow_loss=1.0)
    assert path.read_bytes() == b"bytes" and record.accuracy and record.accuracy < 0.8


def test_other_logits_are_no_rounding(
    subject: Subject, held_out: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(subject: Subject) -> formats.Exported:
        return formats.Exported({"x": b""}, lambda images: subject.run(images) * 1.001, "a test")

    monkeypatch.setitem(FORMATS._members, "other", other)
    with pytest.raises(ValueError, match="its logits differ by .* of their range, at most 1e-05"):
        exporting.export(subject, "other", tmp_path, held_out.images, held_out.labels)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused_with_the_nearest(
    subject: Subject, held_out: Any, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match="no export format called 'tflite-in8'.*'tflite-int8'"):
        exporting.export(subject, "tflite-in8", tmp_path, held_out.images, held_out.labels)


def test_a_stablehlo_file_takes_any_batch(subject: Subject, held_out: Any) -> None:
    call = stablehlo.load(
        stablehlo.network_stablehlo(subject.spec, subject.params, subject.stats, epsilon=0.05)
    )
    x = subject.normalised(held_out.images)
    for count in (1, 3):
        logits = np.asarray(call(x[:count]))
        np.testing.assert_allclose(logits, subject.run(held_out.images[:count]), atol=1e-4)


def test_the_norms_epsilon_is_that_of_the_training(subject: Subject, held_out: Any) -> None:
    """Another one would give other logits without a word."""
    other = dataclasses.replace(subject, epsilon=1e-3)
    assert np.abs(other.run(held_out.images) - subject.run(held_out.images)).max() > 1e-2


@needs_litert
def test_raw_pixels_give_the_same_as_int8(subject: Subject, held_out: Any) -> None:
    runs = [FORMATS[f"tflite-{kind}"](subject).run for kind in ("int8", "uint8")]
    int8, uint8 = (run(held_out.images[:20]) for run in runs if run)
    np.testing.assert_array_equal(int8, uint8)
