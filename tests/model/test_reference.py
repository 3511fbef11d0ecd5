"""UIB and Mobile MQA against references in plain numpy, written from the equations as loops.

Sources: paper (arXiv 2404.10518) section 3 and equation 2. The order of norms and activations, the
stride on the middle depthwise, and the two separate depthwise layers before keys and values are
those of the released TensorFlow code. Padding is TensorFlow's "SAME". Tolerance: 2e-5 of the
largest output (float32 against float64).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nas.model.blocks import module_of
from nas.model.context import BlockContext, LayerConfig
from search_spaces.blocks import MHSA, MQA, UIB, Attention, BaseBlock

CONFIG = LayerConfig(epsilon=1e-2)
TOLERANCE = 2e-5


def module(block: BaseBlock, channels: int) -> Any:
    return module_of(block)(block, channels, config=CONFIG, rngs=nnx.Rngs(0))


def array(variable: Any) -> np.ndarray:
    return np.asarray(variable[...], np.float64)


def batch_norm(x: np.ndarray, norm: Any) -> np.ndarray:
    scaled = (x - array(norm.mean)) / np.sqrt(array(norm.var) + CONFIG.epsilon)
    return scaled * array(norm.scale) + array(norm.bias)


def depthwise_conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Pixel by pixel: y[i, j] = sum over u, v of x[s i + u - p, s j + v - p] * kernel[u, v]."""
    b, h, w, c = x.shape
    size = kernel.shape[0]
    out_h, out_w = math.ceil(h / stride), math.ceil(w / stride)
    before_h = max((out_h - 1) * stride + size - h, 0) // 2
    before_w = max((out_w - 1) * stride + size - w, 0) // 2
    y = np.zeros((b, out_h, out_w, c))
    for i, j, u, v in itertools.product(range(out_h), range(out_w), range(size), range(size)):
        row, column = stride * i + u - before_h, stride * j + v - before_w
        if 0 <= row < h and 0 <= column < w:
            y[:, i, j] += x[:, row, column] * kernel[u, v]
    return y


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def uib(spec: UIB, module: Any, x: np.ndarray) -> np.ndarray:
    activation = {"relu": relu, "gelu": gelu}[spec.activation]
    y = x
    if spec.start_dw:
        layer = module.start_dw[f"k{spec.start_dw}"]
        y = batch_norm(
            depthwise_conv(y, array(layer.kernel), 1 if spec.middle_dw else spec.stride), layer.norm
        )
    y = activation(batch_norm(y @ array(module.expand.kernel)[0, 0], module.expand.norm))
    if spec.middle_dw:
        layer = module.middle_dw[f"k{spec.middle_dw}"]
        y = activation(batch_norm(depthwise_conv(y, array(layer.kernel), spec.stride), layer.norm))
    y = batch_norm(y @ array(module.project.kernel)[0, 0], module.project.norm)
    if spec.layer_scale is not None:
        y = y * array(module.layer_scale)
    return x + y if spec.stride == 1 and spec.filters == x.shape[-1] else y


def bilinear(x: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge [b, h, w, c]; pixel centres of both grids are aligned, borders are repeated."""
    for axis in (1, 2):
        length = x.shape[axis]
        at = np.clip((np.arange(length * factor) + 0.5) / factor - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def attention(spec: Attention, module: Any, x: np.ndarray) -> np.ndarray:
    """Equation 2, image by image and head by head."""
    normed = batch_norm(x, module.norm)
    keys = values = queries = normed
    if spec.query_stride > 1:
        s = spec.query_stride
        queries = np.mean([normed[:, i::s, j::s] for i in range(s) for j in range(s)], 0)
        queries = batch_norm(queries, module.query_norm)
    if spec.kv_stride == 2:
        keys = batch_norm(
            depthwise_conv(normed, array(module.key_dw.kernel), 2), module.key_dw.norm
        )
        values = batch_norm(
            depthwise_conv(normed, array(module.value_dw.kernel), 2), module.value_dw.norm
        )
    b, h, w, c = queries.shape
    heads = spec.heads
    assert isinstance(heads, int)
    query, key, value, output = (
        array(getattr(module, name)) for name in ("query", "key", "value", "output")
    )
    y = np.zeros(x.shape)
    for image, head in itertools.product(range(b), range(heads)):
        own = 0 if spec.shares_keys else head
        q = queries[image].reshape(-1, c) @ query[:, head]
        k = keys[image].reshape(-1, c) @ key[:, own]
        v = values[image].reshape(-1, c) @ value[:, own]
        scores = q @ k.T / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).reshape(1, h, w, -1)
        y[image] += (bilinear(mixed, spec.query_stride) @ output[head])[0]
    if spec.output_bias:
        y = y + array(module.bias)
    if spec.layer_scale is not None:
        y = y * array(module.layer_scale)
    return x + y


UIBS = [
    UIB(filters=8, start_dw=0, middle_dw=3, expansion=2.0),
    UIB(filters=16, start_dw=0, middle_dw=5, expansion=2.0, stride=2, activation="gelu"),
    UIB(filters=8, start_dw=3, middle_dw=0, expansion=2.0, activation="gelu"),
    UIB(filters=16, start_dw=5, middle_dw=0, expansion=2.0, stride=2),
    UIB(filters=8, start_dw=3, middle_dw=5, expansion=2.0),
    UIB(filters=8, start_dw=5, middle_dw=3, expansion=2.0, stride=2, activation="gelu"),
    UIB(filters=8, start_dw=0, middle_dw=0, expansion=2.0),
    UIB(filters=16, start_dw=0, middle_dw=0, expansion=2.0, activation="gelu"),
    UIB(filters=8, start_dw=3, middle_dw=3, expansion=3.0, layer_scale=1e-5),
]

ATTENTIONS = [
    MQA(heads=4, key_dim=6),
    MQA(heads=3, key_dim=8, value_dim=5, kv_stride=2, layer_scale=1e-5),
    MQA(heads=1, key_dim=4, kv_stride=2, kv_kernel=5),
    MQA(heads=2, key_dim=4, query_stride=2),
    MHSA(heads=3, key_dim=4, layer_scale=1e-5),
    MHSA(heads=2, key_dim=4, value_dim=6, kv_stride=2, output_bias=True),
]


def close(module: Any, want: np.ndarray, x: np.ndarray) -> None:
    graph, state = nnx.split(module)
    run = jax.jit(lambda state, x: nnx.merge(graph, state)(x, BlockContext()))
    got = np.asarray(run(state, jnp.asarray(x, jnp.float32)))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * np.abs(want).max())


@pytest.mark.parametrize("size", [(6, 6), (5, 7)], ids=str)
@pytest.mark.parametrize("spec", UIBS, ids=str)
def test_uib(spec: UIB, size: tuple[int, int], filled: Any) -> None:
    x = np.random.default_rng(1).normal(size=(2, *size, 8))
    own = filled(lambda: module(spec, 8))
    close(own, uib(spec, own, x), x)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        pytest.param(spec, size, marks=() if place == 0 else pytest.mark.slow, id=f"{spec}-{size}")
        for spec in ATTENTIONS
        for place, size in enumerate(s for s in ((6, 2), (4, 4), (3, 5)) if not spec.problem(*s, 8))
    ],
)
def test_attention(spec: Attention, size: tuple[int, int], filled: Any) -> None:
    x = np.random.default_rng(1).normal(size=(2, *size, 8))
    own = filled(lambda: module(spec, 8))
    close(own, attention(spec, own, x), x)
