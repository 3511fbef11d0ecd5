from __future__ import annotations

import pydantic
import pytest

import search_spaces
from search_spaces import ArchSpec, OneOf, Shape
from search_spaces.blocks import (
    MQA,
    UIB,
    BaseBlock,
    Classifier,
    Conv,
    Depthwise,
    FusedIB,
    PatchConv,
    Pool,
)

HEAD: tuple[BaseBlock, ...] = (Pool(), Classifier(classes=10))
CHOICE = OneOf(options=(True, False), name="depth")
WIDTH = OneOf(options=(8, 16), name="width")


def spec(*blocks: BaseBlock, resolution: int = 32) -> ArchSpec:
    return ArchSpec.model_validate({"name": "net", "resolution": resolution, "blocks": blocks})


BAD = [
    ("no blocks", (), 32, "blocks: the last block must be a classifier"),
    ("no classifier", (Conv(filters=8), Pool()), 32, "blocks: the last block must be a classifier"),
    (
        "classifier in between",
        (Pool(), Classifier(classes=4), *HEAD),
        32,
        "blocks[1]: a classifier must be the last block",
    ),
    (
        "not pooled",
        (Conv(filters=8), Classifier(classes=4)),
        32,
        "blocks[1]: the classifier needs a pooled input",
    ),
    (
        "too many strides",
        (*[Conv(filters=8, stride=2)] * 4, *HEAD),
        5,
        "blocks[3].stride: got 2, but the input is already 1 x 1; use stride 1 or a larger "
        "resolution",
    ),
    (
        "stride behind the pool",
        (Pool(), Conv(filters=8, stride=2), Classifier(classes=4)),
        32,
        "blocks[1].stride: got 2, but the input is already 1 x 1",
    ),
    (
        "attention behind the pool",
        (Pool(), MQA(heads=1, key_dim=8), Classifier(classes=4)),
        32,
        "blocks[1].kind: attention needs more than one pixel; put it before the pooling",
    ),
    (
        "queries that do not tile the image",
        (MQA(heads=1, key_dim=8, query_stride=2), *HEAD),
        5,
        "blocks[0].query_stride: got 2, which must divide the input's 5 x 5 pixels",
    ),
    (
        "patches that do not tile the image",
        (PatchConv(filters=8, size=4), *HEAD),
        30,
        "blocks[0].size: patches of 4 pixels do not tile an input of 30 x 30 pixels",
    ),
    (
        "a searched width before a block that is not searched",
        (Conv(filters=WIDTH), Depthwise(), *HEAD),
        32,
        "blocks[1]: a Depthwise block needs an input of one width, but gets one of [8, 16] (width)",
    ),
    (
        "absent",
        (UIB(filters=3, present=False), *HEAD),
        32,
        "blocks[0].present: got false in a block without a choice",
    ),
    (
        "optional with a stride",
        (Conv(filters=3, stride=2, present=CHOICE), *HEAD),
        32,
        "blocks[0].present: only a block that keeps its input's shape can be left out; got stride "
        "2, input channels 3, filters 3",
    ),
    (
        "optional with another width",
        (Conv(filters=16), UIB(filters=24, present=CHOICE), *HEAD),
        32,
        "got stride 1, input channels 16, filters 24",
    ),
    (
        "optional with a width that is another decision",
        (
            Conv(filters=WIDTH),
            UIB(filters=OneOf(options=(8, 16), name="other"), present=CHOICE),
            *HEAD,
        ),
        32,
        "input channels one of [8, 16] (width), filters one of [8, 16] (other)",
    ),
    (
        "optional pool",
        (Pool(present=CHOICE), Classifier(classes=4)),
        32,
        "blocks[0].present: only a block that keeps",
    ),
    (
        "optional classifier",
        (Conv(filters=4), Pool(), Classifier(classes=4, present=CHOICE)),
        32,
        "blocks[2].present: the classifier cannot be left out",
    ),
]


@pytest.mark.parametrize(
    ("blocks", "resolution", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_blocks_that_form_no_network_are_refused(
    blocks: tuple[BaseBlock, ...], resolution: int, message: str
) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        spec(*blocks, resolution=resolution)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a b"),
        ("name", "../up"),
        ("resolution", 0),
        ("resolution", 32.0),
        ("input_channels", 0),
        ("schema", 2),
        ("resolutoin", 32),
    ],
)
def test_top_level_values_out_of_bounds_are_refused(field: str, value: object) -> None:
    with pytest.raises(pydantic.ValidationError, match=field):
        ArchSpec.model_validate({"name": "net", "resolution": 32, "blocks": HEAD, field: value})


def test_a_shared_width_may_be_optional() -> None:
    assert not spec(Conv(filters=WIDTH), UIB(filters=WIDTH, present=CHOICE), *HEAD).is_frozen


@pytest.mark.parametrize(
    ("resolution", "sizes"),
    [(33, [33, 17, 9, 5, 5]), (225, [225, 113, 57, 29, 29]), (8, [8, 4, 2, 1, 1]), (1, [1] * 2)],
)
def test_spatial_chain(resolution: int, sizes: list[int]) -> None:
    strides = [Conv(filters=8, stride=2)] * (len(sizes) - 2)
    net = spec(*strides, UIB(filters=8), *HEAD, resolution=resolution)
    assert [size for _, _, _, size in net.walk()] == [(side, side) for side in sizes] + [(1, 1)]


def test_walk_gives_the_channels_that_arrive() -> None:
    net = spec(Conv(filters=WIDTH), UIB(filters=24), *HEAD)
    assert [channels for _, _, channels, _ in net.walk()] == [3, WIDTH, 24, 24]


def test_counts_of_a_small_network_by_hand() -> None:
    """A network of every kind of block at 9 x 9: sizes 9 -> 5 -> 5 -> 3 -> 1."""
    net = spec(
        Conv(filters=8, stride=2),
        FusedIB(filters=8, expansion=2.0),
        UIB(filters=16, start_dw=5, middle_dw=3, expansion=3.0, stride=2),
        *HEAD,
        resolution=9,
    )
    stem = 9 * 3 * 8
    fused = (9 * 8 * 16, 16 * 8)
    uib = (25 * 8, 8 * 24, 9 * 24, 24 * 16)
    dense = 16 * 10
    norms = 2 * (8 + 16 + 8 + 8 + 24 + 24 + 16)
    assert search_spaces.params(net) == stem + sum(fused) + sum(uib) + dense + norms + 10
    assert (
        search_spaces.macs(net)
        == 25 * (stem + sum(fused) + uib[0] + uib[1]) + 9 * (uib[2] + uib[3]) + dense
    )
    ops = search_spaces.lower(net)
    assert [op.role for op in ops] == [
        *(
            "conv",
            "expand",
            "project",
            "residual",
            "start_dw",
            "expand",
            "middle_dw",
            "project",
            "pool",
            "classifier",
        )
    ]
    assert [op.block for op in ops] == [0, 1, 1, 1, 2, 2, 2, 2, 3, 4]
    assert [op.input for op in ops[1:]] == [op.output for op in ops[:-1]]
    assert ops[0].input == Shape(9, 9, 3)


def test_lower_by_block_is_lower_in_pieces(small_32: ArchSpec) -> None:
    pieces = search_spaces.lower_by_block(small_32)
    assert len(pieces) == len(small_32.blocks)
    assert all(op.block == index for index, ops in enumerate(pieces) for op in ops)
    assert tuple(op for ops in pieces for op in ops) == search_spaces.lower(small_32)


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (Conv(filters=WIDTH), "width"),
        (Conv(filters=3, present=CHOICE), "depth"),
        (UIB(filters=8, start_dw=OneOf(options=(0, 3), name="kernel")), "kernel"),
        (FusedIB(filters=8, expansion=OneOf(options=(2.0, 4.0), name="ratio")), "ratio"),
    ],
)
def test_a_spec_with_a_hole_is_not_lowered(block: BaseBlock, name: str) -> None:
    net = spec(block, *HEAD)
    assert not net.is_frozen
    with pytest.raises(ValueError, match=f"^'{name}' is still a choice; call freeze"):
        search_spaces.lower(net)


def test_frozen_immutable_and_hashable(small_32: ArchSpec) -> None:
    assert small_32.is_frozen and small_32.classes == 10
    assert hash(small_32) == hash(small_32.model_copy())
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        small_32.resolution = 64
