"""Networks as Core ML packages, by stablehlo-coreml and coremltools.

A package is a classifier of images: it takes an RGB image, normalises it, and returns the most
likely class and the probability of each one. Xcode and Vision know such models. Weights and
activations are float16, iOS 18 or macOS 15 is the least. coremltools writes packages everywhere and
runs them on macOS only, so what is checked here are operations and weights.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import math
import pathlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nas.exporters.litert import MissingExtra
from nas.exporters.metadata import ModelInfo
from nas.model.context import LayerConfig
from nas.model.layers import portable
from nas.model.network import Params, Stats, build_network, split
from search_spaces import ArchSpec, lower

EXTRA = "pip install 'mnv4-nas[coreml]'"
_KERNELS = {"conv": "weight", "linear": "weight", "matmul": "y"}
"""Operations with a kernel, and the name of the argument that is the kernel."""


def network_coreml(
    spec: ArchSpec, params: Params, stats: Stats, info: ModelInfo, *, epsilon: float
) -> dict[str, bytes]:
    """Convert a trained network to a Core ML package, and compare its kernels with the lowering.

    Its input is "image", an RGB image, its outputs are "classLabel" and "classLabel_probs".

    Args:
      spec: Network without holes.
      params: Its parameters, from `nas.model.network.split`.
      stats: Its statistics of norms, from `nas.model.network.split`.
      info: Classes, normalisation and provenance, which the package keeps as its metadata too.
      epsilon: Variance offset of the norms that it was trained with.

    Returns:
      {path in the package: content}.

    Raises:
      ValueError: The converter does not support an operation, or has lost some; or classes share a
        name.
      MissingExtra: A package is not installed.
    """
    if len(set(info.classes)) < len(info.classes):
        raise ValueError("classes share a name, which Core ML classifiers cannot express")
    with _quiet():
        coremltools, converter = _module("coremltools"), _module("stablehlo_coreml")
        target = coremltools.target.iOS18
        shape = (1, spec.input_channels, spec.resolution, spec.resolution)
        program = converter.convert(
            _stablehlo(spec, params, stats, info, epsilon, shape), minimum_deployment_target=target
        )
        model = coremltools.convert(
            program,
            source="milinternal",
            minimum_deployment_target=target,
            pass_pipeline=converter.build_pass_pipeline(),
            inputs=[
                coremltools.ImageType(
                    name="image", shape=shape, color_layout=coremltools.colorlayout.RGB
                )
            ],
            classifier_config=coremltools.ClassifierConfig(list(info.classes)),
            skip_model_load=True,
        )
        _check(spec, model.get_spec().mlProgram)
        _describe(model, info)
        return _content(model)


def _stablehlo(
    spec: ArchSpec,
    params: Params,
    stats: Stats,
    info: ModelInfo,
    epsilon: float,
    shape: tuple[int, ...],
) -> Any:
    """Module of the function from an image [1, c, h, w], 0..255, to probabilities [1, classes]."""
    config = LayerConfig(epsilon=epsilon)
    graph, *_ = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), config=config)))
    params, stats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (params, stats))

    def forward(image: jax.Array) -> jax.Array:
        x = (image.transpose(0, 2, 3, 1) / 255 - info.mean) / info.std
        return jax.nn.softmax(nnx.merge(graph, params, stats)(x))

    with portable.convolutions():
        argument = jax.ShapeDtypeStruct(shape, jnp.float32)
        exported = jax.export.export(jax.jit(forward), platforms=["cpu"])(argument)
    from jax.interpreters import mlir
    from jaxlib.mlir import ir

    return ir.Module.parse(exported.mlir_module(), context=mlir.make_ir_context())


def _check(spec: ArchSpec, program: Any) -> None:
    """Raise ValueError unless the kernels of a program are those of the network."""
    (function,) = program.functions.values()
    (block,) = function.block_specializations.values()
    sizes: dict[str, int] = {}
    found = []
    for operation in block.operations:
        if operation.type.startswith("const"):
            for out in operation.outputs:
                lengths = [d.constant.size for d in out.type.tensorType.dimensions]
                sizes[out.name] = math.prod(lengths)
        elif operation.type in _KERNELS:
            (kernel,) = operation.inputs[_KERNELS[operation.type]].arguments
            if kernel.name in sizes:  # not a product of two activations
                found.append(sizes[kernel.name])
    wanted = [op.weights for op in lower(spec) if op.weights]
    if sorted(found) != sorted(wanted):
        raise ValueError(
            f"the package has {len(found)} kernels of {sum(found)} weights, {spec.name} has "
            f"{len(wanted)} of {sum(wanted)}"
        )


def _describe(model: Any, info: ModelInfo) -> None:
    model.short_description = info.description
    notes = {
        "name": info.name,
        "classes": json.dumps(info.classes, ensure_ascii=False),
        "mean": repr(info.mean),
        "std": repr(info.std),
        "size": str(info.size),
        "architecture": info.architecture,
        **{f"provenance.{name}": text for name, text in info.provenance.items()},
    }
    model.user_defined_metadata.update(notes)
    # The same network gives the same model on every day.
    model.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)


def _content(model: Any) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        package = pathlib.Path(folder, "model.mlpackage")
        model.save(str(package))
        files = [path for path in sorted(package.rglob("*")) if path.is_file()]
        return {path.relative_to(package).as_posix(): path.read_bytes() for path in files}


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"Core ML packages require {error.name}, which is not installed: {EXTRA}"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without coremltools' messages about macOS, and its progress bars."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
