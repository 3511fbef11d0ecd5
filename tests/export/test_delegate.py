"""Operations that XNNPACK leaves out are found, by name and by block."""

from __future__ import annotations

import collections
import importlib.util

import pytest

import search_spaces
from nas.exporters import check, litert
from nas.exporters.delegate import LeftOut, left_out
from nas.exporters.tflite import Dtype
from nas.exporters.uint8 import with_uint8_ends
from nas.measurement import models
from search_spaces import ArchSpec, yaml_io

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)

HYBRID = """\
schema: 2
name: hybrid
resolution: 16
backbone:
- {kind: conv, filters: 16, stride: 2}
- {kind: uib, filters: 16, start_dw: 3, middle_dw: 3, expansion: 2.0, activation: gelu}
- {kind: mqa, heads: 2, key_dim: 8, kv_stride: 2, layer_scale: 0.1}
- {kind: uib, filters: 24, stride: 2, middle_dw: 3, expansion: 2.0}
- {kind: mqa, heads: 4, key_dim: 8}
head: {kind: classifier, blocks: [{kind: pool}, {kind: classifier, classes: 4}]}
"""


@pytest.fixture(scope="module")
def hybrid() -> ArchSpec:
    return yaml_io.parse_model(HYBRID, ArchSpec, "hybrid")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_all_of_a_convolutional_network_is_taken(small_32: ArchSpec, dtype: Dtype) -> None:
    model = models.network_model(small_32, dtype)
    assert left_out(model) == left_out(model, small_32) == ()


def test_of_a_float_hybrid_the_scores_are_left_out(hybrid: ArchSpec) -> None:
    """The product of queries and keys is a FULLY_CONNECTED of two activations."""
    model = models.network_model(hybrid, "float32")
    assert left_out(model) == (LeftOut("FULLY_CONNECTED", 2),)
    assert left_out(model, hybrid) == (
        LeftOut("FULLY_CONNECTED", 1, 2),
        LeftOut("FULLY_CONNECTED", 1, 4),
    )


def test_of_an_int8_hybrid_all_products_of_activations_are_left_out(hybrid: ArchSpec) -> None:
    model = models.network_model(hybrid, "int8")
    gelus = sum(op.activation == "gelu" for op in search_spaces.lower(hybrid))
    attention = ("FULLY_CONNECTED", "SOFTMAX", "BATCH_MATMUL")
    assert {(out.name, out.count, out.block) for out in left_out(model, hybrid)} == {
        ("GELU", gelus, 1),
        *((name, 1, block) for name in attention for block in (2, 4)),
    }
    assert {(out.name, out.count) for out in left_out(model)} == {
        ("GELU", gelus),
        *((name, 2) for name in attention),
    }


def test_blocks_of_operations(hybrid: ArchSpec) -> None:
    """Moves belong to the block behind them, activations to the one before them."""
    ops = litert.operations(with_uint8_ends(models.network_model(hybrid, "int8")))
    blocks = check.blocks_of(hybrid, ops)
    assert list(blocks) == sorted(blocks)
    assert [ops[0].name, ops[-1].name] == ["QUANTIZE"] * 2
    assert (blocks[0], blocks[-1]) == (0, len(hybrid.blocks) - 1)
    names = collections.defaultdict(list)
    for block, op in zip(blocks, ops, strict=True):
        names[block].append(op.name)
    assert "GELU" in names[1] and "SOFTMAX" in names[2] and "SOFTMAX" in names[4]
    assert names[3] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert names[5] == ["MEAN"]


def test_another_network_is_refused(small_32: ArchSpec, hybrid: ArchSpec) -> None:
    model = models.network_model(hybrid, "float32")
    with pytest.raises(ValueError, match=r"the model is not small-32: blocks\[0\] \(conv\): the"):
        left_out(model, small_32)


def test_texts() -> None:
    assert str(LeftOut("SOFTMAX", 8)) == "8 SOFTMAX"
    assert str(LeftOut("GELU", 2, 3)) == "2 GELU in blocks[3]"
