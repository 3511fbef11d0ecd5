"""Nodes of a profile joined with the operations of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

import search_spaces
from latency_tables.importers.profile import Node, join
from latency_tables.measurement import Measurement
from search_spaces import OpCall, Shape
from search_spaces.spec import lower_by_block

Refused = Callable[[Callable[[], object], str], None]
NodesOf = Callable[[Sequence[OpCall], Mapping[str, str]], list[tuple[str, float]]]
ExpectedMs = Callable[[Sequence[OpCall]], list[float]]
NodeTypes = Mapping[str, Mapping[str, str]]

OTHER_NETWORK = "is this the profile of another network?"


@pytest.mark.parametrize(
    ("type_", "kinds"),
    [
        ("CONV_2D", ("conv2d",)),
        ("DEPTHWISE_CONV_2D", ("depthwise_conv2d",)),
        ("Convolution (NHWC, F32) IGEMM", ("conv2d",)),
        ("Convolution (NHWC, QS8) DWConv", ("depthwise_conv2d",)),
        ("Conv", ("conv2d", "depthwise_conv2d")),  # ONNX does not tell them apart
        ("Gemm", ("fully_connected",)),
        ("Batch Matrix Multiply (NC, F32)", ("matmul",)),
        ("Mean (ND) Reduce", ("mean",)),
        ("Sum (ND) Reduce", ("mean",)),
        ("AVERAGE_POOL_2D", ("avg_pool", "mean")),
        ("Average Pooling (NHWC, F32)", ("avg_pool", "mean")),
        ("MAX_POOL_2D", ("max_pool",)),
        ("RESIZE_BILINEAR", ("resize",)),
        ("CONCATENATION", ("concat",)),
        ("Multiply (ND, QS8)", ("mul",)),
        ("ElementWiseMultiply", ("mul",)),
        ("SOFTMAX/flex", ("softmax",)),
        *(
            (other, ())
            for other in (
                "ADD_N",
                "SUB",
                "TRANSPOSE_CONV",
                "Deconvolution (NHWC, F32)",
                "RESHAPE",
                "PAD",
            )
        ),
    ],
)
def test_names_of_nodes(type_: str, kinds: tuple[str, ...]) -> None:
    assert Node("n", type_, 0.5, "t").kinds == kinds


@pytest.mark.parametrize("name", ["mobilenet-v3-large", "efficientnet-b0"])
def test_activations_that_run_alone(
    name: str, node_types: NodeTypes, nodes_of: NodesOf, expected_ms: ExpectedMs
) -> None:
    """Hard swish, swish (sigmoid, product) and the gates of squeeze-excites count to the "
    "operation before them."""
    ops = search_spaces.lower(search_spaces.zoo(name))
    nodes = [
        Node(f"n{i}", kind, ms, f"t:{i}")
        for i, (kind, ms) in enumerate(nodes_of(ops, node_types["TFLite"]))
    ]
    measurements, _ = join(nodes, ops, 1, "t")
    assert [one.ops for one in measurements] == [(op.folded,) for op in ops]
    assert [one.ms for one in measurements] == pytest.approx(expected_ms(ops))


def test_a_block_with_attention_is_measured_as_one(
    node_types: NodeTypes, nodes_of: NodesOf
) -> None:
    """A converter may compute keys before queries, and make dense layers of products: only the "
    "block's sum is known."""
    spec = search_spaces.zoo("mnv4-hybrid-m")
    blocks = lower_by_block(spec)
    nodes: list[Node] = []
    for ops in blocks:
        attends = any(op.kind == "matmul" for op in ops)
        of_block = nodes_of(ops, node_types["TFLite"])[1:-1]
        if attends:
            of_block = [*reversed(of_block), ("TRANSPOSE", 0.5)]
            of_block = [
                ("FULLY_CONNECTED" if kind == "BATCH_MATMUL" else kind, ms) for kind, ms in of_block
            ]
        nodes += [
            Node(f"n{len(nodes) + i}", kind, ms, "t:1") for i, (kind, ms) in enumerate(of_block)
        ]
    measurements, skipped = join(nodes, search_spaces.lower(spec), 1, "t")
    assert not skipped
    assert sum(one.ms for one in measurements) == pytest.approx(sum(node.ms or 0 for node in nodes))
    by_name = {one.name: one for one in measurements}
    for index, ops in enumerate(blocks):
        if any(op.kind == "matmul" for op in ops):
            assert by_name[f"block {index}"].ops == tuple(op.folded for op in ops)
            assert by_name[f"block {index}"].ms > 0.5
    single = [one.ops[0] for one in measurements if len(one.ops) == 1]
    assert single == [
        op.folded for ops in blocks for op in ops if not any(o.kind == "matmul" for o in ops)
    ]


def test_a_convolution_may_have_become_a_dense_layer(refused: Refused) -> None:
    """A 1x1 convolution is one; a 3x3 one is not."""
    one, three = (OpCall("conv2d", Shape(1, 1, 8), 16, kernel) for kernel in (1, 3))
    node = Node("n", "FULLY_CONNECTED", 0.5, "t:3")
    assert join([node], [one], 1, "t")[0] == (Measurement("n", (one,), 0.5),)
    refused(
        lambda: join([node], [three], 1, "t"),
        "t:3: FULLY_CONNECTED cannot be conv2d 3x3 [1, 1, 8] to 16, which is next in the network; "
        f"{OTHER_NETWORK}",
    )


_RELU = OpCall("conv2d", Shape(8, 8, 8), 8, 3, activation="relu")
_DW = OpCall("depthwise_conv2d", Shape(8, 8, 8), 8, 3)


@pytest.mark.parametrize(
    ("nodes", "ops", "message"),
    [
        (
            [("CONV_2D", 1), ("CONV_2D", 1)],
            [_RELU, _DW, _RELU],
            None,  # nothing is known of the depthwise convolution
        ),
        (
            [("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1), ("CONV_2D", 1)],
            [_RELU, _DW],
            "t: 2 nodes but 1 operations of conv2d/fully_connected/matmul; first difference: node "
            "3 is CONV_2D (t:2), "
            f"operation 3 is missing; {OTHER_NETWORK}",
        ),
        (
            [("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1)],
            [_DW, _RELU, _DW],
            "t: 1 nodes but 2 operations of depthwise_conv2d; first difference: node 1 is CONV_2D "
            "(t:0), operation 1 "
            f"is depthwise_conv2d 3x3 [8, 8, 8] to 8; {OTHER_NETWORK}",
        ),
        (
            [("CONV_2D", 1), ("MEAN", 1)],
            [_RELU],
            "t: 1 nodes but 0 operations of mean; first difference: node 2 is MEAN (t:1), "
            "operation 2 is missing; "
            f"{OTHER_NETWORK}",
        ),
        (
            [("CONV_2D", 1), ("HARD_SWISH", 1)],
            [_RELU],
            "t:1: HARD_SWISH after CONV_2D, but that operation is conv2d 3x3 [8, 8, 8] to 8 relu; "
            f"{OTHER_NETWORK}",
        ),
        (
            [("TfLiteXNNPackDelegate", 1)],
            [_RELU],
            "t: none of the 1 nodes is an operation (TfLiteXNNPackDelegate); if a delegate ran the "
            "network as one "
            "node, profile without it, or with a version that shows the operations inside",
        ),
        ([("CONV_2D", 0)], [_RELU], "t: no operation has a time"),
        ([("CONV_2D", None)], [_RELU], "t: no operation has a time"),
    ],
)
def test_nodes_and_operations_that_differ(
    nodes: list[tuple[str, float | None]], ops: list[OpCall], message: str | None, refused: Refused
) -> None:
    profile = [Node(f"n{i}", kind, ms, f"t:{i}") for i, (kind, ms) in enumerate(nodes)]
    if message is None:
        measurements, skipped = join(profile, ops, 1, "t")
        assert len(measurements) == 2 and skipped == {
            "operation depthwise_conv2d: no node of that kind": 1
        }
    else:
        refused(lambda: join(profile, ops, 1, "t"), message)
