"""ONNX files compute the same as the networks in JAX, with norms and scales folded."""

from __future__ import annotations

import collections
import importlib
import importlib.util
import typing
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.exporters import onnx as onnx_files
from nas.measurement import models
from nas.model.context import LayerConfig
from nas.model.network import build_network, split
from search_spaces import ArchSpec
from search_spaces.blocks import (
    MHSA,
    MQA,
    UIB,
    AvgPool,
    BatchNorm,
    Block,
    Classifier,
    Concat,
    Conv,
    ConvNeXtBlock,
    Depthwise,
    EfficientViTBlock,
    FusedIB,
    LayerNorm,
    LinearAttention,
    MBConv,
    NextConvBlock,
    NextTransformerBlock,
    PatchConv,
    Pool,
    PooledAttention,
    Residual,
    SqueezeExcite,
)
from search_spaces.ops import Activation

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="the extra `onnx` is not installed",
)

ACTIVATIONS: tuple[Activation, ...] = typing.get_args(Activation)

# Blocks between a linear 3x3 convolution to 8 channels (so that a norm or a scale that is folded
# too far shows) and another one, by the resolution of their input.
CHAINS: dict[str, tuple[int, tuple[Any, ...]]] = {
    "activations": (5, tuple(Conv(filters=8, activation=name) for name in ACTIVATIONS)),
    "convolutions": (
        9,
        (
            Conv(filters=12, kernel=5, groups=2, norm="none", bias=True, stride=2),
            Conv(filters=6, kernel=1, bias=True, activation="relu6"),
            Conv(filters=8, kernel=7, norm="none"),
        ),
    ),
    "depthwise": (
        9,
        (
            Depthwise(kernel=5, stride=2, multiplier=2, norm="none", bias=True),
            Depthwise(kernel=7, bias=True, activation="hard_swish"),
        ),
    ),
    "patches": (8, (PatchConv(filters=8, size=4), PatchConv(filters=6, size=2, norm="batch"))),
    "strides-on-even": (
        16,
        (
            Conv(filters=8, stride=2),
            UIB(filters=8, start_dw=5, middle_dw=3, stride=2),
            UIB(filters=12, start_dw=3, middle_dw=0, stride=2),
        ),
    ),
    "fused-ib": (
        9,
        (
            FusedIB(filters=8, expansion=2.0),
            FusedIB(filters=8, kernel=5, stride=2, project_activation="relu"),
            FusedIB(filters=8, project_activation="relu"),
        ),
    ),
    "uib": (
        9,
        (
            UIB(filters=8, start_dw=3, middle_dw=5, expansion=2.0, layer_scale=1e-5),
            UIB(filters=8, middle_dw=0, activation="gelu", layer_scale=1e-5),
            UIB(filters=16, start_dw=5, middle_dw=0, layer_scale=1e-5, stride=2),
        ),
    ),
    "mqa": (
        6,
        (
            MQA(heads=3, key_dim=4),
            MQA(heads=2, key_dim=4, value_dim=6, kv_stride=2, kv_kernel=5, layer_scale=1e-5),
            MQA(heads=2, key_dim=4, kv_stride=2, query_stride=2, output_bias=True),
        ),
    ),
    "mhsa": (
        6,
        (
            MHSA(heads=2, key_dim=4),
            MHSA(heads=3, key_dim=4, value_dim=6, kv_stride=2, layer_scale=1e-5, output_bias=True),
            MHSA(heads=2, key_dim=4, query_stride=2),
        ),
    ),
    "norms": (5, (LayerNorm(activation="gelu"), Conv(filters=6), LayerNorm(), BatchNorm())),
    "pooling": (7, (AvgPool(), Conv(filters=8), AvgPool())),
    "squeeze-excite": (
        5,
        (
            SqueezeExcite(reduced=4, output_activation="relu"),
            SqueezeExcite(reduced=4, activation="swish", gate="hard_sigmoid"),
        ),
    ),
    "mbconv": (
        9,
        (
            MBConv(filters=8, expanded=24, squeeze=4, activation="swish"),
            MBConv(filters=12, expanded=0, kernel=5, stride=2),
        ),
    ),
    "convnext": (7, (ConvNeXtBlock(), ConvNeXtBlock())),
    "residual": (
        5,
        (
            # The first scale can be folded, the second one cannot.
            Residual(blocks=(BatchNorm(), Conv(filters=8, activation="none")), layer_scale=1e-5),
            Residual(blocks=(Conv(filters=6), Conv(filters=8)), layer_scale=1e-5),
            Residual(blocks=(Residual(blocks=(LayerNorm(),)), LayerNorm())),
        ),
    ),
    "concat": (
        5,
        (
            Concat(blocks=(BatchNorm(), Conv(filters=6, activation="none"))),
            Concat(blocks=(Depthwise(),)),
        ),
    ),
    "linear-attention": (
        5,
        (
            LinearAttention(heads=2, key_dim=4),
            EfficientViTBlock(heads=1, key_dim=4, expanded=16, kernel=3),
        ),
    ),
    "pooled-attention": (
        6,
        (PooledAttention(heads=2, key_dim=4), PooledAttention(heads=3, key_dim=4, reduction=2)),
    ),
    "next-vit": (
        7,
        (
            NextConvBlock(filters=8, head_dim=4),
            NextConvBlock(filters=12, head_dim=4, stride=2),
            NextTransformerBlock(filters=12, attention_filters=8, head_dim=4, reduction=2),
        ),
    ),
}


def _network(resolution: int, *body: Any) -> ArchSpec:
    first, last = Conv(filters=8, activation="none"), Conv(filters=8)
    chain = [first, *body, last, Pool(), Classifier(classes=5)]
    return ArchSpec.model_validate({"name": "chain", "resolution": resolution, "blocks": chain})


def _calibrated(spec: ArchSpec) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(parameters, statistics, images, their logits) of a network with random weights.

    The statistics are those of the images, as after a training. With random ones activations grow
    until each softmax is one-hot, at a position that rounding decides. Every image has a colour of
    its own: of nearly equal ones the norms behind the pooling would enlarge the rounding.
    """
    config = LayerConfig(momentum=0)
    graph, *shapes = split(
        nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0), config=config))
    )
    params, stats = (models.random_weights(shape, seed) for seed, shape in enumerate(shapes))
    shape = (16, spec.resolution, spec.resolution, spec.input_channels)
    rng = np.random.default_rng(3)
    images = rng.normal(size=shape) + rng.normal(size=(shape[0], 1, 1, shape[3]))
    images = images.astype(np.float32)

    @jax.jit
    def run(params: Any, stats: Any, images: jax.Array) -> tuple[Any, jax.Array]:
        network = nnx.merge(graph, params, stats)
        network(images, mode="train")
        return split(network)[2], network(images)

    stats, logits = run(params, stats, images)
    return params, stats, images, np.asarray(logits)


def _session(model: bytes) -> Any:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(model: bytes, images: np.ndarray) -> np.ndarray:
    """Logits of [b, h, w, c] images."""
    return _session(model).run(["logits"], {"image": images.transpose(0, 3, 1, 2)})[0]


def _check(spec: ArchSpec) -> None:
    """The file passes ONNX's own checks; its logits are within 1e-5 of their range."""
    import onnx

    params, stats, images, logits = _calibrated(spec)
    model = onnx_files.network_onnx(spec, params, stats)
    onnx.checker.check_model(model, full_check=True)
    assert np.abs(_run(model, images) - logits).max() <= 1e-5 * np.ptp(logits)


@needs_onnx
def test_symmetric_padding() -> None:
    resolution, body = CHAINS["strides-on-even"]
    _check(_network(resolution, *body).model_copy(update={"padding": "symmetric"}))


@needs_onnx
@pytest.mark.parametrize("name", CHAINS)
def test_every_block_is_written(name: str) -> None:
    resolution, body = CHAINS[name]
    _check(_network(resolution, *body))


def test_the_table_has_every_block() -> None:
    tested = {type(block) for _, body in CHAINS.values() for block in body}
    assert tested | {Pool, Classifier} == set(typing.get_args(typing.get_args(Block)[0]))


@needs_onnx
@pytest.mark.parametrize(("name", "resolution"), [("small-32", 32), ("mnv4-conv-s", 96)])
def test_a_file_is_the_network(name: str, resolution: int) -> None:
    spec = search_spaces.base(name)
    _check(spec.with_blocks(spec.blocks, resolution=resolution))


@needs_onnx
def test_a_file_is_the_hybrid_network(small_32: ArchSpec) -> None:
    space = search_spaces.hybrid_space(small_32)
    spec = search_spaces.freeze(space, tuple(d.options - 1 for d in space.decisions))
    assert [type(block) for block in spec.blocks].count(MQA) == 4
    _check(spec)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in search_spaces.zoo_names() if name.startswith("mnv4")]
)
def test_a_file_is_the_network_at_its_resolution(name: str) -> None:
    _check(search_spaces.zoo(name))


@needs_onnx
def test_operations_are_those_of_the_lowering() -> None:
    """No norm behind a convolution and no layer scale is left, nor the factor of the queries."""
    spec = search_spaces.zoo("mnv4-hybrid-m")
    lowered = collections.Counter(op.kind for op in search_spaces.lower(spec))
    shapes = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))[1:]
    model = onnx_files.network_onnx(spec, *map(models.random_weights, shapes))
    counts = collections.Counter(onnx_files.onnx_operations(model))
    attention = lowered["softmax"]
    assert counts == {
        "Conv": lowered["conv2d"] + lowered["depthwise_conv2d"],
        "Gemm": lowered["fully_connected"],
        "Relu": sum(op.activation == "relu" for op in search_spaces.lower(spec)),
        "Add": lowered["add"],
        "BatchNormalization": lowered["batch_norm"],
        "MatMul": lowered["matmul"],
        "Softmax": attention,
        "Reshape": 4 * attention,
        "Transpose": 3 * attention,
        "GlobalAveragePool": 1,
        "Flatten": 1,
    }


@needs_onnx
def test_names_paddings_and_versions() -> None:
    import onnx

    spec = _network(
        8, Conv(filters=8, stride=2), UIB(filters=8, start_dw=5), MBConv(filters=8, expanded=16)
    )
    params, stats, *_ = _calibrated(spec)
    model = onnx.load_from_string(onnx_files.network_onnx(spec, params, stats))
    nodes = {node.name: node for node in model.graph.node}
    assert list(nodes) == [
        "blocks.0/conv",
        "blocks.1/conv",
        "blocks.1/conv/relu",
        "blocks.2/start_dw",
        "blocks.2/expand",
        "blocks.2/expand/relu",
        "blocks.2/middle_dw",
        "blocks.2/middle_dw/relu",
        "blocks.2/project",
        "blocks.2/residual",
        "blocks.3/parts.0/parts.0/conv",
        "blocks.3/parts.0/parts.0/conv/relu6",
        "blocks.3/parts.0/parts.1/depthwise",
        "blocks.3/parts.0/parts.1/depthwise/relu6",
        "blocks.3/parts.0/parts.2/conv",
        "blocks.3/parts.0/residual",
        "blocks.4/conv",
        "blocks.4/conv/relu",
        "blocks.5/pool",
        "blocks.6/classifier/row",
        "blocks.6/classifier",
    ]
    paddings = {
        name: onnx.helper.get_node_attr_value(nodes[name], "pads")
        for name in ("blocks.0/conv", "blocks.1/conv", "blocks.2/start_dw", "blocks.2/expand")
    }
    assert list(paddings.values()) == [[1] * 4, [0, 0, 1, 1], [2] * 4, [0] * 4]
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (
        10,
        [("", 20)],
    )


@needs_onnx
def test_batches_and_metadata(small_32: ArchSpec) -> None:
    params, stats, images, logits = _calibrated(small_32)
    metadata = {"classes": '["T-shirt", "Höhe"]', "mean": "[0.5]"}
    model = onnx_files.network_onnx(small_32, params, stats, metadata=metadata)
    session = _session(model)
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 3, 32, 32])
    assert (output.name, output.shape) == ("logits", ["batch", small_32.classes])
    assert session.get_modelmeta().custom_metadata_map == metadata
    assert session.get_modelmeta().graph_name == "small-32"
    for n in (1, 3):
        np.testing.assert_allclose(
            _run(model, images[:n]), logits[:n], rtol=0, atol=1e-5 * np.ptp(logits)
        )
    assert model == onnx_files.network_onnx(small_32, params, stats, metadata=metadata)


@needs_onnx
def test_another_epsilon() -> None:
    """An epsilon of 0.1 is the same as a variance that is 0.099 larger."""
    spec = _network(5, BatchNorm(), Depthwise())
    params, stats, images, logits = _calibrated(spec)
    larger = jax.tree.map_with_path(
        lambda path, a: a + np.float32(0.099) if path[-1].key == "var" else a, stats
    )
    got = _run(onnx_files.network_onnx(spec, params, stats, epsilon=0.1), images)
    wanted = _run(onnx_files.network_onnx(spec, params, larger), images)
    tolerance = 1e-5 * np.ptp(logits)
    assert np.abs(got - wanted).max() <= tolerance < np.abs(got - logits).max()


@needs_onnx
def test_mistakes(small_32: ArchSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    space = search_spaces.coarse_space(small_32)
    with pytest.raises(ValueError, match="has holes; freeze it first"):
        onnx_files.network_onnx(space.spec, {}, {})
    spec = _network(5, Conv(filters=8), Residual(blocks=(LayerNorm(),)))
    params, stats, *_ = _calibrated(spec)
    monkeypatch.delitem(onnx_files.BLOCKS, LayerNorm)
    with pytest.raises(ValueError) as error:
        onnx_files.network_onnx(spec, params, stats)
    assert str(error.value) == (
        "blocks[2]: ONNX files have no layer_norm blocks; write stablehlo instead"
    )


def test_a_missing_extra_is_an_error_that_names_it(
    small_32: ArchSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError) as error:
        onnx_files.network_onnx(small_32, {}, {})
    assert isinstance(error.value, ValueError)
    assert str(error.value) == (
        "ONNX files require onnx, which is not installed: pip install 'mnv4-nas[onnx]'"
    )
