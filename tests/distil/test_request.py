"""Requests from parameters: defaults, the number of samples, and what each error names."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from nas.distillation.request import build_request

from .conftest import CLASSES, Make


def test_defaults_come_from_the_source(photos: pathlib.Path) -> None:
    request, total = build_request(f"imagefolder:{photos}")
    # The shorter side of 24 x 18 pixels, and all three classes.
    assert (request.size, request.top_k, request.class_names) == (18, 3, CLASSES)
    assert (request.recipe, request.replicas, request.storage) == ("d1", 1, "jpeg")
    assert (request.quality, request.held_out, request.seed) == (95, 0.1, 0)
    assert (request.teacher, request.balance, request.shard_images) == (None, None, 1024)
    assert total == 30 + 12 + 12


def test_samples_are_counted_with_replicas(photos: pathlib.Path) -> None:
    assert build_request(f"imagefolder:{photos}", replicas=5)[1] == 5 * 30 + 12 + 12


def test_a_relative_source_becomes_absolute(
    photos: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    assert build_request("imagefolder:photos")[0].source == f"imagefolder:{photos}"


def test_d3_scores_every_image_and_takes_the_average_per_class(
    photos: pathlib.Path, teacher_file: Make
) -> None:
    teacher = f"onnx:{teacher_file()}"
    request, total = build_request(f"imagefolder:{photos}", recipe="d3", teacher=teacher)
    assert request.balance is not None and request.balance.classifier == request.teacher
    assert (request.balance.per_class, request.balance.threshold) == (10, 0.3)
    assert total == 30 + 30 + 12 + 12
    request, total = build_request(
        f"imagefolder:{photos}", recipe="d3", relevance=teacher, per_class=7, replicas=2
    )
    assert request.teacher is None and request.balance is not None
    assert request.balance.classifier.text == teacher and total == 30 + 2 * 21 + 12 + 12


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"recipe": "d3"}, "^recipe d3 needs a classifier .*: give `relevance` or `teacher`$"),
        ({"recipe": "d4"}, "^no augmentation recipe called 'd4'; known: plain, crop, d1, d2, d3"),
        ({"storage": "png"}, "storage: got 'png', expected one of jpeg, seeds"),
        ({"quality": 0}, "quality: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"shard_images": 0}, "shard_images: got 0"),
        ({"teacher": "onnx:/no/such.onnx"}, "teacher onnx:/no/such.onnx: no such file"),
    ],
)
def test_errors_name_the_parameter(
    parameters: dict[str, Any], message: str, photos: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=message):
        build_request(f"imagefolder:{photos}", **parameters)


def test_a_threshold_out_of_range_is_one_line(photos: pathlib.Path, teacher_file: Make) -> None:
    teacher = f"onnx:{teacher_file()}"
    with pytest.raises(ValueError, match=r"balance\.threshold: got 2") as caught:
        build_request(f"imagefolder:{photos}", recipe="d3", teacher=teacher, threshold=2)
    assert "\n" not in str(caught.value)
