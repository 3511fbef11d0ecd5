"""Models of one operation: only that operation, as float32 and as INT8."""

from __future__ import annotations

import collections
import importlib.util

import numpy as np
import pytest

from nas.exporters import check, litert
from nas.measurement import models
from search_spaces import OpCall, Shape
from search_spaces.blocks import MQA, UIB, BaseBlock, FusedIB, MBConv

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)

IMAGE = Shape(6, 6, 8)
OPS = {
    "conv": OpCall("conv2d", IMAGE, 16, 3, 2, "relu"),
    "1x1": OpCall("conv2d", IMAGE, 16),
    "1x1 of a pixel": OpCall("conv2d", Shape(1, 1, 8), 16, activation="relu6"),
    "grouped": OpCall("conv2d", IMAGE, 16, 3, groups=2),
    "patches": OpCall("conv2d", IMAGE, 16, 2, 2, "none"),
    "hard-swish": OpCall("conv2d", IMAGE, 16, 3, 1, "hard_swish"),
    "swish": OpCall("conv2d", IMAGE, 16, 3, 1, "swish"),
    "gelu": OpCall("conv2d", IMAGE, 16, 1, 1, "gelu"),
    "hard-sigmoid": OpCall("conv2d", IMAGE, 16, 1, 1, "hard_sigmoid"),
    "depthwise": OpCall("depthwise_conv2d", Shape(7, 7, 8), 8, 5, 2, "relu6"),
    "multiplier": OpCall("depthwise_conv2d", IMAGE, 24, 3),
    "dense": OpCall("fully_connected", Shape(1, 1, 8), 10, activation="sigmoid"),
    "mean": OpCall("mean", IMAGE, 8),
    "avg-pool": OpCall("avg_pool", Shape(7, 7, 8), 8, 2, 2),
    "max-pool": OpCall("max_pool", IMAGE, 8, 3, 2),
    "add": OpCall("add", IMAGE, 8, activation="relu"),
    "gate": OpCall("mul", IMAGE, 8, other=Shape(1, 1, 8)),
    "divide by heads": OpCall("mul", IMAGE, 8, other=Shape(6, 6, 2)),
    "concat": OpCall("concat", IMAGE, 20, other=Shape(6, 6, 12), activation="relu"),
    "resize": OpCall("resize", IMAGE, 8, stride=2),
    "softmax": OpCall("softmax", IMAGE, 8),
    "batch-norm": OpCall("batch_norm", IMAGE, 8),
    "layer-norm": OpCall("layer_norm", IMAGE, 8),
    "scores, shared keys": OpCall("matmul", IMAGE, 2 * 9, other=Shape(3, 3, 4), depth=4),
    "scores": OpCall("matmul", IMAGE, 2 * 9, other=Shape(3, 3, 8), depth=4),
    "mix, shared values": OpCall("matmul", Shape(6, 6, 18), 8, other=Shape(3, 3, 4), depth=9),
    "mix": OpCall("matmul", Shape(6, 6, 18), 8, other=Shape(3, 3, 8), depth=9),
    "state": OpCall("matmul", Shape(4, 1, 2 * 36), 2 * 5, other=Shape(6, 6, 10), depth=36),
}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", OPS)
def test_one_operation_and_nothing_else(name: str, dtype: models.Dtype) -> None:
    op = OPS[name]
    tflite = models.operation_model(op, dtype)
    ops = litert.operations(tflite)
    assert check.steps(ops) == (check.expected(op),)
    assert not {op.name for op in ops} & {"TRANSPOSE", "SLICE", "PADV2", "QUANTIZE", "DEQUANTIZE"}
    dtypes = {tensor.dtype for op in ops for tensor in (*op.reads, *op.writes)}
    assert dtypes <= {"float32": {"FLOAT32", "INT32"}, "int8": {"INT8", "INT32"}}[dtype]
    model = litert.interpreter(tflite)
    assert all(details["dtype"] is np.dtype(dtype).type for details in model.get_input_details())
    model.invoke()


_RNG = np.random.default_rng(0)
_X, _Y = (_RNG.normal(size=(1, 6, 6, 8)).astype(np.float32) for _ in range(2))
_Q, _K = _RNG.normal(size=(72, 4)).astype(np.float32), _RNG.normal(size=(9, 4)).astype(np.float32)

# Inputs, and the output computed by hand.
VALUES = {
    "mean": ((_X,), _X.mean((1, 2), keepdims=True)),
    "add": ((_X, _Y), np.maximum(_X + _Y, 0)),
    "gate": ((_X, _Y[:, :1, :1]), _X * _Y[:, :1, :1]),
    "max-pool": (
        (np.arange(36.0).reshape(1, 6, 6, 1).repeat(8, -1),),
        np.array([[14, 16, 17], [26, 28, 29], [32, 34, 35]]),
    ),
    "resize": ((np.arange(6.0)[None, :, None, None] * np.ones((1, 6, 6, 8)),), None),
    "scores, shared keys": ((_Q, _K), _Q @ _K.T),
    "softmax": ((_X.reshape(1, 36, 8),), np.exp(_X) / np.exp(_X).sum(-1, keepdims=True)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    inputs, expected = VALUES[name]
    got = litert.run(models.operation_model(OPS[name], "float32"), *inputs)
    # A ramp of pixels 1 apart becomes a ramp of pixels 1/2 apart, flat at both ends.
    if name == "resize":
        ramp = np.clip(np.arange(12) / 2 - 0.25, 0, 5)
        expected = ramp[None, :, None, None] * np.ones((1, 12, 12, 8))
    assert expected is not None
    expected = (
        expected[None, :, :, None] * np.ones(got.shape)
        if expected.ndim == 2 and got.ndim == 4
        else expected
    )
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=1e-5, atol=1e-6)


BLOCKS: dict[str, BaseBlock] = {
    "uib": UIB(filters=8, start_dw=3, middle_dw=5, expansion=2.0, layer_scale=1e-5),
    "fused": FusedIB(filters=12, stride=2, expansion=2.0),
    "mqa": MQA(heads=2, key_dim=4, kv_stride=2),
    "squeeze": MBConv(
        filters=8, expanded=16, squeeze=4, activation="swish", squeeze_activation="swish"
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_model_has_the_operations_of_the_block(name: str) -> None:
    block = BLOCKS[name]
    steps = check.steps(litert.operations(models.block_model(block, IMAGE, "int8")))
    assert collections.Counter(steps) == collections.Counter(
        map(check.expected, block.lower(IMAGE))
    )


def test_an_operation_that_cannot_be_a_model_is_named() -> None:
    with pytest.raises(ValueError, match=r"conv2d 3x3 g3 \[6, 6, 8\] to 16: "):
        models.operation_model(OpCall("conv2d", IMAGE, 16, 3, groups=3), "float32")
