"""Question: do all MobileNetV4 networks export, equal to the network, and how long does it take?

    python -m experiments.benchmarks.exports      # needs the extras `export` and `onnx`

Random weights, statistics of norms of a batch of random images (random statistics would make each
softmax one-hot, at a position that rounding decides). Every export is the one of `nas-export`, with
its check of operations and of logits; accuracy means nothing here, so any loss is allowed. The time
of a format contains the check's 16 images and, for TFLite, its own timing of 3 s. The TFLite
formats share the float32 model: its time is in the first row of a network.

Answer: see `results/exports*.csv` and experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

import search_spaces
from nas.exporters import export
from nas.exporters.formats import Subject
from nas.exporters.metadata import ModelInfo
from nas.model.context import LayerConfig
from nas.model.network import build_network, split
from search_spaces import ArchSpec, yaml_io

NETWORKS = (
    *("mnv4-conv-s", "mnv4-conv-m", "mnv4-conv-l"),
    *("mnv4-hybrid-m", "mnv4-hybrid-m-paper", "mnv4-hybrid-l"),
)
FORMATS = ("tflite-fp32", "tflite-fp16", "tflite-int8", "onnx", "stablehlo")
_IMAGES, _SEED = 16, 0


def main() -> None:
    """Export, print, write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.csv")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            subject, images = _subject(search_spaces.zoo(name))
            for kind in FORMATS:
                rows.append(_row(subject, kind, images, pathlib.Path(folder)))
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _row(
    subject: Subject, kind: str, images: np.ndarray, folder: pathlib.Path
) -> dict[str, str | float]:
    begun = time.monotonic()
    labels = subject.run(images).argmax(1)
    _, record = export.export(subject, kind, folder, images, labels, allow_loss=1.0)
    return {
        "network": subject.spec.name,
        "format": kind,
        "seconds": round(time.monotonic() - begun, 1),
        "megabytes": round(record.bytes / 1e6, 2),
        "difference": record.difference or 0.0,
        "milliseconds": record.milliseconds or "",
        "float_milliseconds": record.float_milliseconds or "",
        "left_out": len(record.left_out),
    }


def _subject(spec: ArchSpec) -> tuple[Subject, np.ndarray]:
    """A network with random weights, and uint8 images [n, h, w, c]."""
    config = LayerConfig(momentum=0.0)
    graph, params, stats = split(build_network(spec, rngs=nnx.Rngs(_SEED), config=config))
    shape = (_IMAGES, spec.resolution, spec.resolution, spec.input_channels)
    rng = np.random.default_rng(_SEED)
    # Each has a colour of its own: norms behind the pooling enlarge the rounding of equal ones.
    colours = rng.integers(0, 128, (_IMAGES, 1, 1, spec.input_channels), np.uint8)
    images = rng.integers(0, 128, shape, np.uint8) + colours

    @jax.jit
    def statistics(params: Any, stats: Any, x: jax.Array) -> Any:
        network = nnx.merge(graph, params, stats)
        network(x, mode="train")
        return split(network)[2]

    info = ModelInfo(
        name=spec.name,
        description="Random weights.",
        classes=tuple(f"class-{index}" for index in range(spec.classes)),
        mean=0.5,
        std=0.25,
        size=spec.resolution,
        architecture=yaml_io.to_yaml(spec),
        provenance={},
    )
    subject = Subject(spec, params, stats, config.epsilon, info, images)
    stats = statistics(params, stats, subject.normalised(images))
    params, stats = (jax.tree.map(np.asarray, tree) for tree in (params, stats))
    return Subject(spec, params, stats, config.epsilon, info, images), images


if __name__ == "__main__":
    main()
