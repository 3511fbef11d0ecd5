"""Formats of exported networks: how each is written, and how a written one is run.

To add one: a function from a `Subject` to an `Exported`, and a row in `FORMATS`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from nas.exporters import (
    coreml,
    litert,
    metadata,
    onnx,
    safetensors,
    stablehlo,
    tflite,
    timm,
    uint8,
)
from nas.exporters.metadata import ModelInfo
from nas.model.context import LayerConfig
from nas.model.network import Params, Stats, build_network, split
from search_spaces import ArchSpec
from search_spaces.families import Family

Run = Callable[[np.ndarray], np.ndarray]
"""From uint8 images [n, h, w, c] to logits float32 [n, classes]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, and what its files say of it.

    Attributes:
      spec: The network.
      params: Weights.
      stats: Running statistics of norms.
      epsilon: Variance offset of norms.
      info: Classes, normalisation and provenance.
      samples: uint8 [n, h, w, c], images that show the ranges of activations.
    """

    spec: ArchSpec
    params: Params
    stats: Stats
    epsilon: float
    info: ModelInfo
    samples: np.ndarray

    @functools.cached_property
    def run(self) -> Run:
        """The network in JAX, a few images at a time."""
        config = LayerConfig(epsilon=self.epsilon)
        graph, _, _ = split(
            nnx.eval_shape(lambda: build_network(self.spec, rngs=nnx.Rngs(0), config=config))
        )

        @jax.jit
        def forward(params: Any, stats: Any, images: jax.Array) -> jax.Array:
            return nnx.merge(graph, params, stats)(images)

        def run(images: np.ndarray) -> np.ndarray:
            return np.concatenate(
                [
                    np.asarray(forward(self.params, self.stats, self.normalised(images[i : i + 1])))
                    for i in range(len(images))
                ]
            )

        return run

    @functools.cached_property
    def float32_tflite(self) -> bytes:
        """The network as a float32 TFLite model, without metadata."""
        return tflite.network_tflite(
            self.spec, self.params, self.stats, "float32", self.samples[:0], epsilon=self.epsilon
        )

    def normalised(self, images: np.ndarray) -> np.ndarray:
        """Input of the network.

        Args:
          images: uint8 [..., h, w, c].

        Returns:
          float32 [..., h, w, c].
        """
        # As in training: float32 all along.
        x = np.asarray(images, np.float32) / np.float32(255)
        return (x - np.float32(self.info.mean)) / np.float32(self.info.std)

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Normalised values of black and white."""
        return (0 - self.info.mean) / self.info.std, (1 - self.info.mean) / self.info.std


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A network in a format, not yet under its final name.

    Attributes:
      files: {end of the file's name: content}; the first is the model. The files of a package,
        "mlpackage/...", are the model together.
      run: Runs the model; None where its runtime is not installed.
      runtime: Name of the runtime.
      exact: Whether its logits are those of the network but for rounding of float32.
      tflite: The model, if it is one of TFLite.
    """

    files: dict[str, bytes]
    run: Run | None
    runtime: str
    exact: bool = True
    tflite: bytes | None = None


def _tflite(subject: Subject, kind: str) -> Exported:
    dtypes: dict[str, tflite.Dtype] = {"fp32": "float32", "fp16": "float16"}
    samples = subject.normalised(subject.samples)
    model = tflite.with_dtype(
        subject.float32_tflite, dtypes.get(kind, "int8"), samples, subject.pixel_range
    )
    if kind == "uint8":
        model = uint8.with_uint8_ends(model)
    model = metadata.attach(model, subject.info)
    return Exported(
        {f"{kind}.tflite": model}, tflite_runner(model, subject), "LiteRT", kind == "fp32", model
    )


def tflite_runner(model: bytes, subject: Subject) -> Run:
    """A function that runs a TFLite model of a network, an image at a time.

    Args:
      model: The model.
      subject: The network.
    """
    interpreter = litert.interpreter(model)

    def run(images: np.ndarray) -> np.ndarray:
        x = subject.normalised(images)
        return np.concatenate([litert.run_with(interpreter, image[None]) for image in x])

    return run


def _onnx(subject: Subject) -> Exported:
    info = subject.info
    notes = {
        "name": info.name,
        "description": info.description,
        "classes": json.dumps(info.classes, ensure_ascii=False),
        "mean": repr(info.mean),
        "std": repr(info.std),
        "size": str(info.size),
        "architecture": info.architecture,
        **{f"provenance.{name}": text for name, text in info.provenance.items()},
    }
    model = onnx.network_onnx(
        subject.spec, subject.params, subject.stats, metadata=notes, epsilon=subject.epsilon
    )
    return Exported({"onnx": model}, _onnx_runner(model, subject), "onnxruntime")


def _onnx_runner(model: bytes, subject: Subject) -> Run | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())

    def run(images: np.ndarray) -> np.ndarray:
        x = subject.normalised(images).transpose(0, 3, 1, 2)
        return np.concatenate(
            [np.asarray(session.run(None, {name: image[None]})[0]) for image in x]
        )

    return run


def _stablehlo(subject: Subject) -> Exported:
    file = stablehlo.network_stablehlo(
        subject.spec, subject.params, subject.stats, epsilon=subject.epsilon
    )
    call = stablehlo.load(file)

    def run(images: np.ndarray) -> np.ndarray:
        x = subject.normalised(images)
        return np.concatenate([np.asarray(call(image[None])) for image in x])

    return Exported({"stablehlo": file}, run, "jax.export")


def _pytorch(subject: Subject) -> Exported:
    """State dict and code for timm; checked by reading the state dict back into our network."""
    config = LayerConfig(epsilon=subject.epsilon)
    state = timm.to_state_dict(subject.spec, subject.params, subject.stats)
    arguments = timm.model_arguments(subject.spec, config)
    arguments["info"] = subject.info.model_dump(mode="json")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.safetensors")
        safetensors.write(path, state, {"format": "pt"})
        content, read = path.read_bytes(), safetensors.read(path)
    params, stats = timm.from_state_dict(subject.spec, read)
    back = dataclasses.replace(subject, params=params, stats=stats)
    return Exported(
        {
            "pytorch/model.safetensors": content,
            "pytorch/model.json": json.dumps(arguments, indent=1).encode(),
            "pytorch/model.py": timm.model_code(subject.spec, config).encode(),
        },
        back.run,
        "our network with the state dict read back",
    )


def _coreml(subject: Subject) -> Exported:
    files = coreml.network_coreml(
        subject.spec, subject.params, subject.stats, subject.info, epsilon=subject.epsilon
    )
    files = {f"{PACKAGE}/{path}": content for path, content in files.items()}
    return Exported(files, None, "Core ML, which only macOS has,", exact=False)


PACKAGE = "mlpackage"
"""End of the name of a folder that is one model."""

FORMATS: Family[Callable[[Subject], Exported]] = Family(
    "export format",
    {
        "tflite-int8": functools.partial(_tflite, kind="int8"),
        "tflite-uint8": functools.partial(_tflite, kind="uint8"),
        "tflite-fp16": functools.partial(_tflite, kind="fp16"),
        "tflite-fp32": functools.partial(_tflite, kind="fp32"),
        "onnx": _onnx,
        "stablehlo": _stablehlo,
        "pytorch": _pytorch,
        "coreml": _coreml,
    },
)
"""Formats by name."""
