"""Requests and manifests: the YAML keys on disk stay the same."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

from nas.data.distilled import manifest
from nas.data.distilled.manifest import Manifest, Skipped
from search_spaces import yaml_io

WRITTEN = {
    "request": {
        "schema": 1,
        "source": "imagefolder:/photos",
        "source_fingerprint": "0" * 64,
        "class_names": ["a", "b"],
        "teacher": None,
        "recipe": "d1",
        "balance": None,
        "replicas": 1,
        "size": 8,
        "storage": "jpeg",
        "quality": 95,
        "top_k": 2,
        "held_out": 0.1,
        "seed": 0,
        "shard_images": 1024,
    },
    "parts": {
        "train": {
            "shards": [
                {
                    "file": "train-00000-of-00001.array_record",
                    "sha256": "1" * 64,
                    "bytes": 100,
                    "images": 3,
                    "skipped": [{"place": "/photos/a/1.png", "reason": "cut"}],
                    "class_mass": [1.0, 2.0],
                    "entropy": [3, 0],
                    "rest_mass": 0.0,
                    "lost_nats": 0.0,
                    "agree": 0,
                    "labelled": 3,
                    "pixel_sum": 1.5,
                    "pixel_squares": 1.0,
                }
            ]
        },
        "validation": {"shards": []},
        "test": {"shards": []},
    },
    "mean": 0.5,
    "std": 0.25,
    "order_sha256": None,
    "unreadable": [{"place": "/photos/a/2.png", "reason": "empty"}],
    "notes": [],
    "versions": {"numpy": "2.4"},
}


def test_a_manifest_keeps_its_yaml_keys(tmp_path: pathlib.Path) -> None:
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(WRITTEN, sort_keys=False))
    read = manifest.read_manifest(tmp_path)
    assert read.splits["train"].images == 3
    assert read.splits["train"].shards[0].skipped[0].location == "/photos/a/1.png"
    assert read.unreadable[0].location == "/photos/a/2.png"
    again = yaml.safe_load(yaml_io.to_yaml(read, defaults=True))
    assert again == WRITTEN and list(again) == list(WRITTEN)
    assert yaml_io.parse_model(yaml_io.to_yaml(read), Manifest, "again") == read


def test_a_skipped_image_keeps_its_key_in_json() -> None:
    skipped = Skipped(location="here", reason="cut")
    assert skipped.model_dump(mode="json", by_alias=True) == {"place": "here", "reason": "cut"}


@pytest.mark.parametrize(
    ("files", "message"),
    [((), "holds no distilled data set"), (("request.yaml",), "is not finished; distil it again")],
)
def test_an_unfinished_data_set(
    files: tuple[str, ...], message: str, tmp_path: pathlib.Path
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        manifest.read_manifest(tmp_path)


DAMAGE = {  # what is written instead, and the key that the message names
    "a part has another name": (
        ("parts", "validation:", "validatio:"),
        "parts: got train, validat",
    ),
    "a shard leads out of the folder": (
        ("file", "train-00000-of-00001.array_record", "../x.array_record"),
        "parts.train.shards[0].file",
    ),
    "an absolute shard": (
        ("file", "train-00000-of-00001.array_record", "/dev/zero"),
        "parts.train.shards[0].file",
    ),
    "a shard's hash is short": (("sha256", "1" * 64, "1" * 63), "parts.train.shards[0].sha256"),
    "one class too few": (("mass", "[1.0, 2.0]", "[1.0]"), "parts.train.shards[0].class_mass"),
    "more labels than images": (("labelled", "labelled: 3", "labelled: 4"), "images: got 3"),
    "a quoted number": (("bytes", "bytes: 100", "bytes: '100'"), "bytes: got '100'"),
    "a truth value": (("bytes", "bytes: 100", "bytes: true"), "bytes: got True"),
    "no number": (("mean", "mean: 0.5", "mean: .nan"), "mean: got nan"),
    "no deviation": (("std", "std: 0.25", "std: 0"), "std: got 0"),
    "an order without a balance": (
        ("order", "order_sha256: null", f"order_sha256: '{'2' * 64}'"),
        "order_sha256: expected if and only if",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_manifest_is_one_line(
    change: tuple[str, str, str], message: str, tmp_path: pathlib.Path
) -> None:
    _, old, new = change
    text = yaml_io.to_yaml(Manifest.model_validate(WRITTEN), defaults=True)
    assert old in text
    (tmp_path / "manifest.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        manifest.read_manifest(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
