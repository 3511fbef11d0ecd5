"""Operations and counts of attention blocks, in closed form."""

from __future__ import annotations

import pytest

from search_spaces import Shape
from search_spaces.blocks import MHSA, MQA, Attention

AT = Shape(6, 6, 16)

CASES = [
    MQA(heads=4, key_dim=8),
    MQA(heads=3, key_dim=8, value_dim=5, kv_stride=2),
    MQA(heads=2, key_dim=4, kv_stride=2, kv_kernel=5, layer_scale=1e-5),
    MQA(heads=2, key_dim=4, query_stride=2),
    MHSA(heads=4, key_dim=8, output_bias=True),
    MHSA(heads=2, key_dim=8, kv_stride=2, query_stride=2, layer_scale=1e-5),
]


@pytest.mark.parametrize("block", CASES, ids=str)
def test_parameters_and_macs(block: Attention) -> None:
    heads, size, c = block.heads, block.key_dim, AT.channels
    assert isinstance(heads, int) and isinstance(size, int)
    value = block.value_dim or size
    kv_heads = 1 if isinstance(block, MQA) else heads
    queries = AT.height * AT.width // block.query_stride**2
    keys = AT.height * AT.width // (4 if block.kv_stride == 2 else 1)
    depthwise = 2 * block.kv_kernel**2 * c if block.kv_stride == 2 else 0
    projections = {
        "q": c * heads * size,
        "kv": c * kv_heads * (size + value),
        "o": heads * value * c,
    }
    norms = 2 * c * (1 + (block.query_stride == 2) + 2 * (block.kv_stride == 2))
    ops = list(block.lower(AT))
    assert sum(op.params for op in ops) == (
        sum(projections.values())
        + depthwise
        + norms
        + c * (block.output_bias + (block.layer_scale is not None))
    )
    assert sum(op.macs for op in ops if op.kind != "matmul") == (
        projections["q"] * queries
        + (projections["kv"] + depthwise) * keys
        + projections["o"] * AT.height * AT.width
    )
    products = {op.role: op.macs for op in ops if op.kind == "matmul"}
    assert products == {
        "scores": heads * queries * keys * size,
        "mix": heads * queries * keys * value,
    }
    assert ops[-1].output == AT == block.after(AT)


def test_bytes_that_a_product_reads() -> None:
    """Shared keys are read once, not once a head: that is the point of MQA."""
    one, many = (
        [op for op in kind(heads=4, key_dim=8).lower(AT) if op.role == "scores"][0]
        for kind in (MQA, MHSA)
    )
    assert one.macs == many.macs
    assert (one.input_elements, many.input_elements) == (36 * 32 + 36 * 8, 36 * 32 + 36 * 32)
    assert one.intensity == one.macs / one.input_elements > many.intensity


def test_the_order_of_operations() -> None:
    roles = [op.role for op in MQA(heads=2, key_dim=4, kv_stride=2, query_stride=2).lower(AT)]
    assert roles == [
        *(
            "norm",
            "query_pool",
            "query",
            "key_dw",
            "key",
            "value_dw",
            "value",
            "scores",
            "softmax",
            "mix",
        ),
        *("resize", "output", "residual"),
    ]
