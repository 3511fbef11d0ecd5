from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import OpCall, Shape, make_divisible


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, 8),
        (8, 8),
        (11, 16),  # 8 is below 0.9 * 11
        (12, 16),  # half way goes up
        (17, 16),
        (18, 24),  # 16 is below 0.9 * 18
        (20, 24),
        (32 * 0.625, 24),
        (96 * 1.25, 120),
        (99, 96),
        (100, 104),
    ],
)
def test_make_divisible_closed_form(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


@given(st.floats(0.01, 5000), st.sampled_from([1, 4, 8, 32]))
def test_make_divisible_bounds(value: float, divisor: int) -> None:
    got = make_divisible(value, divisor)
    assert got % divisor == 0 and got >= divisor
    assert got >= 0.9 * value
    assert got == divisor or got - value < divisor


@pytest.mark.parametrize(("side", "behind"), [(1, 1), (2, 1), (7, 4), (8, 4), (9, 5), (224, 112)])
def test_stride_2_rounds_the_size_up(side: int, behind: int) -> None:
    assert Shape(side, side + 2, 3).after(channels=5, stride=2) == Shape(behind, behind + 1, 5)


@given(st.integers(1, 600))
def test_two_strides_of_2_are_one_of_4(side: int) -> None:
    shape = Shape(side, side, 1)
    assert shape.after(channels=1, stride=2).after(channels=1, stride=2) == shape.after(
        channels=1, stride=4
    )


AT = Shape(7, 5, 6)
COUNTS = [  # operation, weights, parameters, MACs, output
    (
        OpCall("conv2d", AT, 4, 3, 2, norm=True),
        9 * 6 * 4,
        9 * 6 * 4 + 2 * 4,
        9 * 6 * 4 * 4 * 3,
        Shape(4, 3, 4),
    ),
    (OpCall("conv2d", AT, 4), 6 * 4, 6 * 4, 6 * 4 * 7 * 5, Shape(7, 5, 4)),
    (
        OpCall("depthwise_conv2d", AT, 6, 5, 2, norm=True),
        25 * 6,
        25 * 6 + 2 * 6,
        25 * 6 * 4 * 3,
        Shape(4, 3, 6),
    ),
    (OpCall("depthwise_conv2d", AT, 6, 3), 9 * 6, 9 * 6, 9 * 6 * 7 * 5, AT),
    (
        OpCall("fully_connected", Shape(1, 1, 6), 10, bias=True),
        6 * 10,
        6 * 10 + 10,
        6 * 10,
        Shape(1, 1, 10),
    ),
    (OpCall("mean", AT, 6), 0, 0, 0, Shape(1, 1, 6)),
    (OpCall("add", AT, 6), 0, 0, 0, AT),
]


@pytest.mark.parametrize(("op", "weights", "params", "macs", "output"), COUNTS)
def test_counts(op: OpCall, weights: int, params: int, macs: int, output: Shape) -> None:
    assert (op.weights, op.params, op.macs, op.output) == (weights, params, macs, output)


def test_elements() -> None:
    assert AT.elements == 7 * 5 * 6


def test_place_in_the_network_is_no_part_of_an_operations_identity() -> None:
    op = OpCall("conv2d", AT, 4, block=1, role="expand")
    other = dataclasses.replace(op, block=7, role="project")
    assert op == other and hash(op) == hash(other)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "depthwise_conv2d"},
        {"input": Shape(5, 7, 6)},
        {"out_channels": 5},
        {"kernel": 3},
        {"stride": 2},
        {"activation": "relu"},
        {"norm": True},
        {"bias": True},
    ],
)
def test_everything_else_is(change: dict[str, object]) -> None:
    op = OpCall("conv2d", AT, 4)
    assert dataclasses.replace(op, **change) != op
