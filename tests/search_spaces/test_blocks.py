from __future__ import annotations

import dataclasses

import pydantic
import pytest

from search_spaces import OneOf, Shape
from search_spaces.blocks import UIB, BaseBlock, Classifier, Conv, FusedIB, Pool, expanded_width


@dataclasses.dataclass(frozen=True)
class Case:
    """A block on an input, and what it must lower to, written out by hand."""

    name: str
    block: BaseBlock
    at: Shape
    ops: list[
        tuple[str, str, int, int, int, str]
    ]  # role, kind, kernel, stride, output channels, activation
    params: int
    macs: int
    out: Shape


CASES = [
    Case(
        "conv on an odd size",
        Conv(filters=16, kernel=3, stride=2),
        Shape(33, 33, 3),
        [("conv", "conv2d", 3, 2, 16, "relu")],
        params=9 * 3 * 16 + 2 * 16,
        macs=9 * 3 * 16 * 17 * 17,
        out=Shape(17, 17, 16),
    ),
    Case(
        "1x1 conv without activation",
        Conv(filters=5, kernel=1, activation="none"),
        Shape(4, 4, 8),
        [("conv", "conv2d", 1, 1, 5, "none")],
        params=8 * 5 + 2 * 5,
        macs=8 * 5 * 16,
        out=Shape(4, 4, 5),
    ),
    Case(
        "fused_ib with a stride",
        FusedIB(filters=24, expansion=3.0, stride=2),
        Shape(15, 15, 16),
        [("expand", "conv2d", 3, 2, 48, "relu"), ("project", "conv2d", 1, 1, 24, "none")],
        params=(9 * 16 * 48 + 2 * 48) + (48 * 24 + 2 * 24),
        macs=9 * 16 * 48 * 64 + 48 * 24 * 64,
        out=Shape(8, 8, 24),
    ),
    Case(
        "fused_ib with a residual",
        FusedIB(filters=16, expansion=2.0, kernel=5, activation="gelu"),
        Shape(6, 6, 16),
        [
            ("expand", "conv2d", 5, 1, 32, "gelu"),
            ("project", "conv2d", 1, 1, 16, "none"),
            ("residual", "add", 1, 1, 16, "none"),
        ],
        params=(25 * 16 * 32 + 2 * 32) + (32 * 16 + 2 * 16),
        macs=25 * 16 * 32 * 36 + 32 * 16 * 36,
        out=Shape(6, 6, 16),
    ),
    Case(
        "fused_ib with an activation behind its projection has no residual",
        FusedIB(filters=16, expansion=1.0, project_activation="relu"),
        Shape(6, 6, 16),
        [("expand", "conv2d", 3, 1, 16, "relu"), ("project", "conv2d", 1, 1, 16, "relu")],
        params=(9 * 16 * 16 + 2 * 16) + (16 * 16 + 2 * 16),
        macs=9 * 16 * 16 * 36 + 16 * 16 * 36,
        out=Shape(6, 6, 16),
    ),
    Case(
        "uib: inverted bottleneck",
        UIB(filters=16, middle_dw=3, expansion=4.0),
        Shape(7, 7, 16),
        [
            ("expand", "conv2d", 1, 1, 64, "relu"),
            ("middle_dw", "depthwise_conv2d", 3, 1, 64, "relu"),
            ("project", "conv2d", 1, 1, 16, "none"),
            ("residual", "add", 1, 1, 16, "none"),
        ],
        params=(16 * 64 + 2 * 64) + (9 * 64 + 2 * 64) + (64 * 16 + 2 * 16),
        macs=(16 * 64 + 9 * 64 + 64 * 16) * 49,
        out=Shape(7, 7, 16),
    ),
    Case(
        "uib: ExtraDW, the stride on the middle depthwise",
        UIB(filters=24, start_dw=5, middle_dw=3, expansion=2.0, stride=2),
        Shape(7, 7, 16),
        [
            ("start_dw", "depthwise_conv2d", 5, 1, 16, "none"),
            ("expand", "conv2d", 1, 1, 32, "relu"),
            ("middle_dw", "depthwise_conv2d", 3, 2, 32, "relu"),
            ("project", "conv2d", 1, 1, 24, "none"),
        ],
        params=(25 * 16 + 2 * 16) + (16 * 32 + 2 * 32) + (9 * 32 + 2 * 32) + (32 * 24 + 2 * 24),
        macs=(25 * 16 + 16 * 32) * 49 + (9 * 32 + 32 * 24) * 16,
        out=Shape(4, 4, 24),
    ),
    Case(
        "uib: ConvNext-like, the stride on the start depthwise",
        UIB(filters=16, start_dw=3, middle_dw=0, expansion=4.0, stride=2),
        Shape(7, 7, 16),
        [
            ("start_dw", "depthwise_conv2d", 3, 2, 16, "none"),
            ("expand", "conv2d", 1, 1, 64, "relu"),
            ("project", "conv2d", 1, 1, 16, "none"),
        ],
        params=(9 * 16 + 2 * 16) + (16 * 64 + 2 * 64) + (64 * 16 + 2 * 16),
        macs=(9 * 16 + 16 * 64 + 64 * 16) * 16,
        out=Shape(4, 4, 16),
    ),
    Case(
        "uib: FFN, its expanded width rounded to 8",
        UIB(filters=24, start_dw=0, middle_dw=0, expansion=1.4, activation="gelu"),
        Shape(3, 3, 16),
        [("expand", "conv2d", 1, 1, 24, "gelu"), ("project", "conv2d", 1, 1, 24, "none")],
        params=(16 * 24 + 2 * 24) + (24 * 24 + 2 * 24),
        macs=(16 * 24 + 24 * 24) * 9,
        out=Shape(3, 3, 24),
    ),
    Case(
        "pool",
        Pool(),
        Shape(7, 5, 16),
        [("pool", "mean", 1, 1, 16, "none")],
        params=0,
        macs=0,
        out=Shape(1, 1, 16),
    ),
    Case(
        "classifier",
        Classifier(classes=10),
        Shape(1, 1, 16),
        [("classifier", "fully_connected", 1, 1, 10, "none")],
        params=16 * 10 + 10,
        macs=16 * 10,
        out=Shape(1, 1, 10),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
class TestLower:
    def test_operations(self, case: Case) -> None:
        got = [
            (op.role, op.kind, op.kernel, op.stride, op.out_channels, op.activation)
            for op in case.block.lower(case.at)
        ]
        assert got == case.ops

    def test_counts(self, case: Case) -> None:
        ops = list(case.block.lower(case.at))
        assert (sum(op.params for op in ops), sum(op.macs for op in ops)) == (
            case.params,
            case.macs,
        )

    def test_each_operation_feeds_the_next(self, case: Case) -> None:
        ops = list(case.block.lower(case.at))
        assert ops[0].input == case.at
        assert [op.input for op in ops[1:]] == [op.output for op in ops[:-1]]
        assert ops[-1].output == case.out

    def test_norm_behind_every_convolution_and_bias_only_in_the_classifier(
        self, case: Case
    ) -> None:
        for op in case.block.lower(case.at):
            assert op.norm == (op.kind in ("conv2d", "depthwise_conv2d"))
            assert op.bias == (op.kind == "fully_connected")

    def test_what_the_block_says_of_its_output(self, case: Case) -> None:
        assert case.block.after(case.at) == case.out

    def test_residual_exactly_where_the_block_says(self, case: Case) -> None:
        added = any(op.kind == "add" for op in case.block.lower(case.at))
        assert added == (
            isinstance(case.block, FusedIB | UIB) and case.block.has_residual(case.at.channels)
        )


@pytest.mark.parametrize(
    ("channels", "expansion", "width"),
    [(16, 4.0, 64), (24, 2.5, 64), (20, 3.0, 64), (3, 1.0, 8), (40, 1.1, 48)],
)
def test_expanded_width(channels: int, expansion: float, width: int) -> None:
    assert expanded_width(channels, expansion) == width


def hole(*options: object, name: str = "d") -> OneOf:
    return OneOf(options=options, name=name)


@pytest.mark.parametrize(
    ("start", "middle", "allowed"),
    [
        (0, 3, True),
        (3, 0, True),
        (5, 3, True),
        (0, 0, False),
        (hole(0, 3), 3, True),
        (hole(0, 3), hole(3, 5), True),
        (hole(3, 5), 0, True),
        (hole(0, 3), 0, False),
        (0, hole(0, 3), False),
        (3, hole(0, 3), False),
    ],
)
def test_a_stride_always_sits_on_the_same_depthwise(
    start: object, middle: object, allowed: bool
) -> None:
    fields = {"filters": 8, "start_dw": start, "middle_dw": middle}
    UIB.model_validate(fields)
    if allowed:
        UIB.model_validate({**fields, "stride": 2})
    else:
        with pytest.raises(
            pydantic.ValidationError, match="stride 2 must always sit on the same depthwise layer"
        ):
            UIB.model_validate({**fields, "stride": 2})


def test_holes_in_the_order_of_the_fields_with_what_warm_up_does() -> None:
    block = UIB.model_validate(
        {
            "expansion": hole(2.0, 4.0, name="e"),
            "middle_dw": hole(0, 3, name="m"),
            "start_dw": hole(3, 5, name="s"),
            "filters": hole(8, 16, name="f"),
            "present": hole(True, False, name="p"),
        }
    )
    assert [(field, found.name, kind) for field, found, kind in block.holes()] == [
        ("present", "p", "operator"),
        ("filters", "f", "size"),
        ("start_dw", "s", "operator"),
        ("middle_dw", "m", "operator"),
        ("expansion", "e", "size"),
    ]
    assert not list(UIB(filters=8).holes())


@pytest.mark.parametrize("field", ["filters", "start_dw", "middle_dw", "expansion"])
def test_a_block_with_an_open_hole_is_not_lowered(field: str) -> None:
    block = UIB.model_validate(
        {"filters": 8, field: hole(3, 5, name="open") if "dw" in field else hole(8, 16)}
    )
    with pytest.raises(ValueError, match="^'(open|d)' is still a choice; call freeze"):
        list(block.lower(Shape(4, 4, 8)))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Conv, {"filters": 0}),
        (Conv, {"filters": 8.0}),
        (Conv, {"filters": True}),
        (Conv, {"filters": 8, "kernel": 2}),
        (Conv, {"filters": 8, "stride": 4}),
        (Conv, {"filters": 8, "colour": "red"}),
        (FusedIB, {"filters": 8, "expansion": 0}),
        (FusedIB, {"filters": 8, "expansion": "4"}),
        (FusedIB, {"filters": 8, "expansion": True}),
        (FusedIB, {"filters": 8, "project_activation": "selu"}),
        (UIB, {"filters": 8, "start_dw": 7}),
        (UIB, {"filters": 8, "expansion": float("inf")}),
        (UIB, {"filters": hole(8, 0)}),
        (UIB, {"filters": 8, "middle_dw": {"options": [3], "name": "k"}}),
        (UIB, {"filters": 8, "present": 1}),
        (Classifier, {"classes": 1}),
        (Classifier, {"classes": 10, "dropout": 1.0}),
    ],
)
def test_values_out_of_bounds_are_refused(kind: type[BaseBlock], fields: dict[str, object]) -> None:
    with pytest.raises(pydantic.ValidationError):
        kind.model_validate(fields)


def test_blocks_are_immutable() -> None:
    block = Conv(filters=8)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        block.filters = 16
