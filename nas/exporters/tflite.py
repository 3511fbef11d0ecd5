"""Conversion of JAX functions to TFLite models, without TensorFlow.

It uses `jax.export`, and LiteRT's converter and quantizer. Neither LiteRT package has a stable
interface for this; only this file uses it, and a parity test checks the results.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from nas.exporters import litert
from nas.model.context import LayerConfig
from nas.model.network import Params, Stats, build_network, split
from search_spaces import ArchSpec

Dtype = Literal["float32", "float16", "int8"]
"""Type of a model: of its weights and activations, for float16 of its weights alone."""

RESIZE_BILINEAR = "tfl.resize_bilinear"
"""Name of a `jax.lax.composite` that becomes TFLite's RESIZE_BILINEAR (half-pixel centres)."""

_SIGNATURE = "serving_default"
_PASSES = (
    "builtin.module(vhlo-legalize-stablehlo, reconcile-unrealized-casts, "
    f"func.func(stablehlo-legalize-composite-to-call{{except={RESIZE_BILINEAR}}}), "
    "inline, strip-debuginfo)"
)


def to_tflite(
    forward: Callable[..., jax.Array],
    *shapes: tuple[int, ...],
    names: Sequence[str] = (),
    output: str = "output",
) -> bytes:
    """Convert a JAX function of float32 arrays to a float32 TFLite model.

    The converter folds batch norms and biases into the convolutions before them, and fuses ReLU and
    ReLU6.

    Args:
      forward: Function from arrays to one array; arrays that it closes over become constants.
      *shapes: Shapes of its arguments; images have batch 1.
      names: Names of the model's inputs; "input_0", "input_1", ... by default.
      output: Name of the model's output.

    Returns:
      The TFLite model.

    Raises:
      ValueError: The converter does not support an operation.
    """
    ir = litert.module("litert_converter.mlir.ir")
    passes = litert.module("litert_converter.mlir.passmanager").PassManager
    api = litert.module("litert_converter.mlir._mlir_libs.converter_api_ext")
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    # Not "cpu": there a depthwise convolution is a sum of shifted products, which is fast in XLA
    # but unknown to TFLite.
    exported = jax.export.export(jax.jit(forward), platforms=["tpu"])(*arguments)
    context = ir.Context()
    api.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(exported.mlir_module_serialized)
        passes.parse(_PASSES).run(module.operation)
        _products_to_convolutions(module, ir)
        inputs = list(names) or [f"input_{i}" for i in range(len(shapes))]
        api.set_signature(
            module.operation, signature_name=_SIGNATURE, input_names=inputs, output_names=[output]
        )
        config = api.ConvertToTFLConfig()
        config.model_origin_framework = "JAX"
        try:
            api.run_convert_to_tfl_passes(module, passes(), config)
            tflite = bytes(api.export_flatbuffer_to_bytes(module.operation))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the converter rejects the model: {' '.join(str(error).split())}"
            ) from None
    return _composites_to_resizes(tflite)


def quantize(
    tflite: bytes,
    samples: Iterable[tuple[np.ndarray, ...]],
    input_range: tuple[float, float] | None = None,
) -> bytes:
    """Quantise a float32 model to INT8, inputs and outputs included.

    Weights have per-channel scales, activations per-tensor scales. The range of an activation is
    that from its smallest to its largest value over all samples: the quantizer's own calibration is
    a moving average of each sample's range, which cuts off what lies outside of a typical image's
    and cost 2.5 to 3.5 points of accuracy (RESULTS).

    Args:
      tflite: Model of `to_tflite`.
      samples: Calibration inputs, each a tuple of one array for each input of the model; at least
        one.
      input_range: Smallest and largest value of the only input, e.g. those of black and white
        pixels; None: those of the samples.

    Returns:
      The INT8 model.

    Raises:
      ValueError: There are no samples, or an operation cannot be INT8.
    """
    quantizer = litert.module("litert_quantizer.quantizer")
    calibrator = litert.module("litert_quantizer.calibrator")
    statistics = litert.module("litert_quantizer.utils.qsv_utils")
    recipe = litert.module("litert_quantizer.recipe")
    interpreter = litert.interpreter(tflite)
    (names,) = (s["inputs"] for s in interpreter.get_signature_list().values())
    named = [dict(zip(names, map(np.float32, sample), strict=True)) for sample in samples]
    if not named:
        raise ValueError(
            "`samples`: got none; at least one is needed to find the ranges of the activations"
        )
    with _quiet():
        work = quantizer.Quantizer(tflite)
        work.load_quantization_recipe(recipe.static_wi8_ai8())
        ranges = calibrator.Calibrator(
            tflite, num_threads=1, qsv_update_func=statistics.min_max_update
        )
        ranges.calibrate({_SIGNATURE: named}, work._recipe_manager)
        found = ranges.get_model_qsvs()
        if input_range:
            (details,) = interpreter.get_input_details()
            for end, value in zip(("min", "max"), input_range, strict=True):
                found[details["name"]][end] = np.full_like(found[details["name"]][end], value)
        quantized = bytes(work.quantize(found).quantized_model)
    floats = [
        op
        for op in litert.operations(quantized)
        if any(t.dtype == "FLOAT32" for t in (*op.reads, *op.writes))
    ]
    if floats:
        op = next((op for op in floats if op.name not in ("QUANTIZE", "DEQUANTIZE")), floats[0])
        raise ValueError(f"an operation cannot be INT8: {op.name} of {op.inputs[0]} stays float32")
    return quantized


def to_float16(tflite: bytes) -> bytes:
    """Store the weights of a float32 model as float16; inputs, outputs and arithmetic stay float32.

    Args:
      tflite: Model of `to_tflite`.

    Returns:
      The model, about half as large.
    """
    quantizer = litert.module("litert_quantizer.quantizer")
    with _quiet():
        work = quantizer.Quantizer(tflite)
        work.load_quantization_recipe(_FLOAT16)
        return bytes(work.quantize().quantized_model)


_FLOAT16 = [
    {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {"num_bits": 16, "dtype": "FLOAT"},
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
        },
    }
]


def network_tflite(
    spec: ArchSpec,
    params: Params,
    stats: Stats,
    dtype: Dtype,
    samples: np.ndarray,
    *,
    epsilon: float = LayerConfig().epsilon,
    input_range: tuple[float, float] | None = None,
) -> bytes:
    """Convert a trained network to a TFLite model.

    Its input is "image" [1, h, w, c], its output "logits" [1, classes].

    Args:
      spec: Network without holes.
      params: Its parameters, from `nas.model.network.split`.
      stats: Its statistics of norms, from `nas.model.network.split`.
      dtype: Type of the model.
      samples: Normalised images [n, h, w, c] for the calibration of INT8; not used otherwise.
      epsilon: Variance offset of the norms that it was trained with.
      input_range: Normalised values of black and white pixels, for INT8; None: those of the
        samples.

    Returns:
      The TFLite model.

    Raises:
      ValueError: The converter does not support an operation, an operation cannot be INT8, or all
        samples are constant.
    """
    config = LayerConfig(epsilon=epsilon)
    graph, _, _ = split(
        nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), config=config))
    )
    params, stats = (
        jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), arrays) for arrays in (params, stats)
    )

    def forward(images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(images)

    shape = (1, spec.resolution, spec.resolution, spec.input_channels)
    tflite = to_tflite(forward, shape, names=["image"], output="logits")
    return with_dtype(tflite, dtype, samples, input_range)


def with_dtype(
    tflite: bytes,
    dtype: Dtype,
    samples: np.ndarray,
    input_range: tuple[float, float] | None = None,
) -> bytes:
    """Convert a float32 model of a network to a type.

    Args:
      tflite: Model of `network_tflite`, float32.
      dtype: Type of the result.
      samples: See `network_tflite`.
      input_range: See `network_tflite`.

    Returns:
      The TFLite model.

    Raises:
      ValueError: An operation cannot be INT8, or all samples are constant.
    """
    if dtype == "float32":
        return tflite
    if dtype == "float16":
        return to_float16(tflite)
    if len(samples) and not any(map(np.ptp, samples)):
        raise ValueError(
            f"`samples`: all {len(samples)} images are constant, so they show no ranges of "
            "activations; give images of the data set"
        )
    return quantize(tflite, ((image[None],) for image in samples), input_range)


def _products_to_convolutions(module: Any, ir: Any) -> None:
    """Restore the 1x1 convolutions that JAX computes as [h*w, i] @ [i, o].

    The converter would make them FULLY_CONNECTED and fold less into them, and it fails at two in a
    row.
    """
    for operation in list(_walk(module.operation)):
        if operation.name != "stablehlo.dot_general":
            continue
        rows, kernel = operation.operands
        image = _reshaped(rows)
        if image is None or _shape(rows) != (_shape(image)[1] * _shape(image)[2], _shape(image)[3]):
            continue
        out = (*_shape(image)[:3], _shape(kernel)[1])
        uses = [use.owner.operation for use in operation.results[0].uses]
        if not uses or any(
            use.name != "stablehlo.reshape" or _shape(use.results[0]) != out for use in uses
        ):
            continue
        dtype = ir.RankedTensorType(image.type).element_type
        one = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1)
        with ir.InsertionPoint(operation):
            wide = ir.RankedTensorType.get((1, 1, *_shape(kernel)), dtype)
            weights = ir.Operation.create("stablehlo.reshape", [wide], [kernel])
            convolution = ir.Operation.create(
                "stablehlo.convolution",
                [ir.RankedTensorType.get(out, dtype)],
                [image, weights.results[0]],
                {
                    "dimension_numbers": ir.Attribute.parse(
                        "#stablehlo.conv<[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]>"
                    ),
                    "feature_group_count": one,
                    "batch_group_count": one,
                },
            )
        for use in uses:
            use.results[0].replace_all_uses_with(convolution.results[0])
            use.erase()
        operation.erase()


def _walk(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for view in block.operations:
                yield view.operation
                yield from _walk(view.operation)


def _reshaped(value: Any) -> Any:
    """Image [1, h, w, c] of which `value` is a reshape, or None."""
    owner = getattr(value.owner, "operation", None)  # a block, for an argument of the function
    if owner is None or owner.name != "stablehlo.reshape":
        return None
    image = owner.operands[0]
    return image if len(_shape(image)) == 4 and _shape(image)[0] == 1 else None


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.type.shape)


def _composites_to_resizes(tflite: bytes) -> bytes:
    """Replace the composites that the converter leaves by RESIZE_BILINEAR.

    It would crash at this operation if it were part of its input.
    """
    if not any(op.name == "STABLEHLO_COMPOSITE" for op in litert.operations(tflite)):
        return tflite
    schema = litert.module("ai_edge_litert.schema_py_generated")
    flatbuffers = litert.module("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(tflite, 0)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.RESIZE_BILINEAR, version=3)
    code.deprecatedBuiltinCode = code.builtinCode
    for op in graph.operators:
        old_code = model.operatorCodes[op.opcodeIndex]
        if old_code.builtinCode != schema.BuiltinOperator.STABLEHLO_COMPOSITE:
            continue
        size = np.array(graph.tensors[op.outputs[0]].shape[1:3], np.int32)
        model.buffers.append(schema.BufferT(data=np.frombuffer(size.tobytes(), np.uint8)))
        tensor = schema.TensorT(
            shape=[2], type=schema.TensorType.INT32, buffer=len(model.buffers) - 1, name="size"
        )
        graph.tensors.append(tensor)
        op.inputs = [op.inputs[0], len(graph.tensors) - 1]
        op.opcodeIndex = len(model.operatorCodes)
        op.builtinOptions2Type = 0
        op.builtinOptions2 = None
        op.builtinOptionsType = schema.BuiltinOptions.ResizeBilinearOptions
        op.builtinOptions = schema.ResizeBilinearOptionsT(alignCorners=False, halfPixelCenters=True)
    model.operatorCodes.append(code)
    del model.subgraphs[1:]
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context that discards the quantizer's progress, and its warning of an option that it uses."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.filterwarnings(
            "ignore", message=".*experimental_preserve_all_tensors", category=UserWarning
        )
        yield
