"""Valid files, which the mutations damage."""

from __future__ import annotations

from typing import Any

ARCHITECTURE = """\
schema: 2
name: tiny
resolution: 8
backbone:
- {kind: conv, filters: 8, kernel: 3, stride: 2}
- {kind: uib, filters: 16, middle_dw: 3, expansion: 1.5, stride: 1}
head:
  blocks:
  - {kind: pool}
  - {kind: classifier, classes: 3}
found:
  stage: coarse
  space: 0123456789abcdef
  seed: 1
  config_hash: abc
  dataset_hash: 12e45678
  quality: {supernet_validation_accuracy: 0.5, images: 16.0}
  cost: {macs: {value: 0.01, target: 0.01, unit: M, most_likely: 0.011}}
  decisions: {width: 1}
  versions: {jax: 0.9.0}
  seconds: 1.5
"""
DEVICE = """\
schema: 1
kind: roofline
name: mine
source: a test
date: 2026-11-30
ridge_point: 20.0
bandwidth_gb_s: 15
call_ms: 0.1
outputs: true
calibration: {ratios: [0.8, 0.9, 1.0, 1.1, 1.2]}
"""
TEACHER = """\
schema: 1
name: teacher
size: 32
mean: [123.7, 116.3, 103.5]
std: [58.4, 57.1, 57.4]
layout: nchw
output: logits
classes: [0, 2, 1]
batch: 8
class_names: [a, b, c]
"""
TRAIN_RECORD = """\
network: tiny
architecture: 0123456789abcdef
data: npz:tiny.npz
dataset_hash: abc
classes: [a, b, c]
mean: 0.5
std: 0.25
recipe: {steps: 10, batch: 4, learning_rate: 1e-1, average: {decay: 0.9}}
seed: 0
init: scratch
"""
MEASURES = """\
steps: 10
best_step: 5
averaged: false
validation: {accuracy: 0.5, loss: 1.25}
test: {accuracy: 0.5, loss: 1.25}
test_images: 8
seconds: 1.5
"""
MATRIX = """\
schema: 1
name: many
config: quickstart
stages: [coarse]
seeds: [0, 1]
targets: {small: ["macs:1M"]}
variants: {a: {search.batch: 8}}
"""
SHARD: dict[str, Any] = {
    "file": "train-00000-of-00001.array_record",
    "sha256": "1" * 64,
    "bytes": 100,
    "images": 3,
    "skipped": [{"place": "a/1.png", "reason": "cut"}],
    "class_mass": [1.0, 2.0],
    "entropy": [3, 0],
    "rest_mass": 0.0,
    "lost_nats": 0.5,
    "agree": 1,
    "labelled": 3,
    "pixel_sum": 1.5,
    "pixel_squares": 1.0,
}
REQUEST: dict[str, Any] = {
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
}
MANIFEST = {
    "request": REQUEST,
    "parts": {
        "train": {"shards": [SHARD]},
        "validation": {"shards": []},
        "test": {"shards": []},
    },
    "mean": 0.5,
    "std": 0.25,
    "order_sha256": None,
    "unreadable": [],
    "versions": {"numpy": "2.4"},
}
OFA = """\
Conv-input:33x33x3-output:17x17x24: {count: 10, mean: 0.5, std: 0.125}
expanded_conv-input:17x17x24-output:17x17x24-expand:48-kernel:3-stride:1-idskip:1-se:0-hs:1:
  {count: 20, mean: 1.5, std: 0.25}
"""
