from __future__ import annotations

import re
from collections.abc import Callable

import pydantic
import pytest

import search_spaces
from search_spaces import (
    ArchSpec,
    CoarseOptions,
    FineOptions,
    HybridOptions,
    SearchSpace,
    coarse_space,
    fine_space,
    one_stage_space,
)
from search_spaces.blocks import MQA, UIB, BaseBlock, Classifier, Conv, FusedIB, Pool
from search_spaces.choice import options_of
from search_spaces.mobilenetv4 import stages


def net(*blocks: BaseBlock) -> ArchSpec:
    fields = {"name": "net", "resolution": 64, "blocks": (*blocks, Pool(), Classifier(classes=4))}
    return ArchSpec.model_validate(fields)


def uib(filters: int, stride: int = 1) -> UIB:
    return UIB.model_validate({"filters": filters, "stride": stride})


STEM = Conv(filters=8, stride=2)


@pytest.fixture
def small_32() -> ArchSpec:
    """A base of three stages of 3, 4 and 3 blocks, independent of the shipped ones."""
    searched = (
        uib(32),
        uib(32),
        uib(32),
        uib(64, 2),
        uib(64),
        uib(64),
        uib(64),
        uib(96, 2),
        uib(96),
        uib(96),
    )
    blocks = (
        Conv(filters=16),
        FusedIB(filters=24, stride=2),
        *searched,
        Conv(filters=192, kernel=1),
    )
    return net(*blocks).model_copy(update={"name": "small-32", "resolution": 32})


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((STEM, uib(16, 2), uib(16), uib(16)), [("stage2", [1, 2, 3])]),
        ((STEM, uib(16), uib(24)), [("stage1a", [1]), ("stage1b", [2])]),
        (
            (STEM, uib(16, 2), uib(16), uib(24), uib(32, 2)),
            [("stage2a", [1, 2]), ("stage2b", [3]), ("stage3", [4])],
        ),
        ((STEM, uib(16, 2), uib(16, 2)), [("stage2", [1]), ("stage3", [2])]),
        ((STEM, uib(16), Conv(filters=16), uib(16)), [("stage1a", [1]), ("stage1b", [3])]),
        ((STEM, FusedIB(filters=16, stride=2), uib(16)), [("stage2", [2])]),
        ((Conv(filters=8), uib(8)), [("stage0", [1])]),
        ((STEM,), []),
    ],
)
def test_stages_are_runs_of_equal_width_named_by_halvings(
    blocks: tuple[BaseBlock, ...], expected: list[tuple[str, list[int]]]
) -> None:
    assert list(stages(net(*blocks))) == expected


def test_stage_names_do_not_run_out_of_letters() -> None:
    """A coarse search by block may leave every block of a long stage with another width."""
    names = [name for name, _ in stages(net(STEM, *(uib(8 * (i + 1)) for i in range(30))))]
    assert names[:2] == ["stage1a", "stage1b"] and names[25:27] == ["stage1z", "stage1aa"]
    assert len(set(names)) == 30


def rows(space: SearchSpace) -> dict[str, tuple[str, ...]]:
    return {decision.name: decision.labels for decision in space.decisions}


WIDTHS = {
    "stage1": (
        "16",
        "24",
        "32",
        "40",
        "48",
    ),  # 0.5 .. 1.5 of 32; 0.625 * 32 = 20 and 24 both round to 24
    "stage2": ("32", "40", "48", "64", "80", "96"),
    "stage3": ("48", "64", "72", "96", "120", "144"),  # 0.625 * 96 = 60 rounds to 64
}
DEPTHS = {n: tuple(f"{kept} of {n} optional" for kept in range(n, -1, -1)) for n in (1, 2, 3)}


def test_coarse_space_by_stage(small_32: ArchSpec) -> None:
    space = coarse_space(small_32)
    assert space.name == "small-32-coarse"
    assert rows(space) == {
        "stage1.filters": WIDTHS["stage1"],
        "stage1.depth": DEPTHS[2],
        "stage2.filters": WIDTHS["stage2"],
        "stage2.depth": DEPTHS[3],
        "stage3.filters": WIDTHS["stage3"],
        "stage3.depth": DEPTHS[2],
    }
    assert space.size == 5 * 3 * 6 * 4 * 6 * 3


def test_coarse_space_by_block(small_32: ArchSpec) -> None:
    """With two blocks kept in every stage, two widths a stage, and one expansion a block."""
    space = coarse_space(
        small_32, CoarseOptions(filters_by="block", expansions=(2.0, 4.0), min_depth=2)
    )
    expected: dict[str, tuple[str, ...]] = {}
    for stage, blocks in {"stage1": 3, "stage2": 4, "stage3": 3}.items():
        for place in range(blocks):
            if place < 2:
                expected[f"{stage}.{place}.filters"] = WIDTHS[stage]
            else:
                expected[f"{stage}.depth"] = DEPTHS[blocks - 2]
            expected[f"{stage}.{place}.expansion"] = ("2", "4")
    assert rows(space) == expected
    optional = space.spec.blocks[4]
    assert getattr(optional, "filters", 0) == getattr(space.spec.blocks[3], "filters", 1)


def test_coarse_expansion_by_stage_and_fixed_depth(small_32: ArchSpec) -> None:
    options = CoarseOptions(
        multipliers=(1.0,), expansions=(3.0, 6.0), expansion_by="stage", min_depth=None
    )
    space = coarse_space(small_32, options)
    assert rows(space) == {f"stage{n}.expansion": ("3", "6") for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("min_depth", "depths"), [(1, [3, 2, 1]), (2, [3, 2]), (3, [3]), (9, [3]), (None, [3])]
)
def test_min_depth_bounds_the_blocks_of_a_stage(min_depth: int | None, depths: list[int]) -> None:
    base = net(STEM, uib(16, 2), uib(16), uib(16))
    space = coarse_space(base, CoarseOptions(multipliers=(1.0, 2.0), min_depth=min_depth))
    found = {decision.name: decision.options for decision in space.decisions}
    assert found.get("stage2.depth", 1) == len(depths)
    got = []
    for option in range(len(depths)):
        chosen = {"stage2.filters": 0} | ({"stage2.depth": option} if len(depths) > 1 else {})
        got.append(
            sum(isinstance(block, UIB) for block in search_spaces.freeze(space, chosen).blocks)
        )
    assert got == depths


def test_coarse_blocks_are_inverted_bottlenecks_and_the_rest_stays(small_32: ArchSpec) -> None:
    for before, after in zip(small_32.blocks, coarse_space(small_32).spec.blocks, strict=True):
        if isinstance(before, UIB):
            assert isinstance(after, UIB)
            assert (after.start_dw, after.middle_dw, after.expansion, after.stride) == (
                0,
                3,
                4.0,
                before.stride,
            )
            assert before.filters in options_of(after.filters)
        else:
            assert after == before


def test_fine_space_decides_kernels_only(small_32: ArchSpec) -> None:
    space = fine_space(small_32)
    assert space.name == "small-32-fine"
    expected = {}
    for stage, blocks in {"stage1": 3, "stage2": 4, "stage3": 3}.items():
        for place in range(blocks):
            strided = place == 0 and stage != "stage1"
            expected[f"{stage}.{place}.start_dw"] = ("0", "3", "5")
            expected[f"{stage}.{place}.middle_dw"] = ("3", "5") if strided else ("0", "3", "5")
    assert rows(space) == expected
    assert space.size == 9**8 * 6**2
    for before, after in zip(small_32.blocks, space.spec.blocks, strict=True):
        kept = {"start_dw": 0, "middle_dw": 3} if isinstance(before, UIB) else {}
        assert before.model_copy(update=kept) == after.model_copy(update=kept)


def test_fine_options_narrow_the_choice(small_32: ArchSpec) -> None:
    space = fine_space(small_32, FineOptions(start_dw=(3,), middle_dw=(0, 5)))
    assert {decision.labels for decision in space.decisions} == {("0", "5")}
    for block in space.spec.blocks:
        if isinstance(block, UIB):
            assert block.start_dw == 3
            assert options_of(block.middle_dw) == ((0, 5) if block.stride == 1 else (5,))


def test_a_fine_space_starts_from_a_coarse_result(small_32: ArchSpec) -> None:
    coarse = coarse_space(small_32)
    found = search_spaces.freeze(coarse, [0, 2, 0, 3, 0, 2])  # the smallest: one block a stage
    space = fine_space(found)
    assert space.name == "small-32-fine"
    assert [d.name for d in space.decisions] == [
        f"stage{n}.0.{kind}" for n in (1, 2, 3) for kind in ("start_dw", "middle_dw")
    ]
    assert [options_of(b.filters) for b in space.spec.blocks if isinstance(b, UIB)] == [
        (16,),
        (32,),
        (48,),
    ]


def test_one_stage_space_is_the_union(small_32: ArchSpec) -> None:
    options = CoarseOptions(expansions=(2.0, 4.0))
    coarse, fine = coarse_space(small_32, options), fine_space(small_32)
    union = one_stage_space(small_32, options)
    assert union.name == "small-32-one-stage"
    assert rows(union) == rows(coarse) | rows(fine)
    assert union.size == coarse.size * fine.size


@pytest.mark.parametrize("build", [coarse_space, one_stage_space])
def test_a_base_with_holes_is_refused(
    small_32: ArchSpec, build: Callable[[ArchSpec], SearchSpace]
) -> None:
    message = "base 'small-32-coarse' has holes already (blocks[2].filters): freeze it first"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(coarse_space(small_32).spec)


@pytest.mark.parametrize("build", [coarse_space, fine_space, one_stage_space])
def test_a_base_without_uib_blocks_has_nothing_to_decide(
    build: Callable[[ArchSpec], SearchSpace],
) -> None:
    with pytest.raises(ValueError, match="has nothing to decide"):
        build(net(STEM))


def test_options_that_break_a_stride_are_refused_when_the_space_is_built() -> None:
    base = net(STEM, UIB(filters=16, start_dw=3, middle_dw=0, stride=2))
    with pytest.raises(ValueError, match="stride 2 must always sit on the same depthwise layer"):
        fine_space(base, FineOptions(middle_dw=(0,)))


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (CoarseOptions, {"multipliers": ()}),
        (CoarseOptions, {"multipliers": (0.0, 1.0)}),
        (CoarseOptions, {"expansions": (-1.0,)}),
        (CoarseOptions, {"filters_by": "network"}),
        (CoarseOptions, {"min_depth": 0}),
        (CoarseOptions, {"depth": 1}),
        (FineOptions, {"start_dw": ()}),
        (FineOptions, {"middle_dw": (3, 7)}),
    ],
)
def test_options_out_of_bounds_are_refused(
    options: type[pydantic.BaseModel], fields: dict[str, object]
) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(fields))):
        options.model_validate(fields)


def test_hybrid_space_offers_attention_in_place_of_blocks_that_keep_their_shape(
    small_32: ArchSpec,
) -> None:
    options = HybridOptions(stages=1, heads=(2, 4), key_dims=(16,), kv_strides=(1, 2))
    space = search_spaces.hybrid_space(small_32, options)
    assert [(d.name, d.labels) for d in space.decisions] == [
        ("stage3.1.block", ("uib", "mqa")),
        ("stage3.1.heads", ("2", "4")),
        ("stage3.1.kv_stride", ("1", "2")),
        ("stage3.2.block", ("uib", "mqa")),
        ("stage3.2.heads", ("2", "4")),
        ("stage3.2.kv_stride", ("1", "2")),
    ]
    assert search_spaces.freeze(space, [0] * 6, small_32.name) == small_32
    hybrid = search_spaces.freeze(space, [1, 1, 0, 0, 0, 0])
    changed = [
        (a.kind, b.kind) for a, b in zip(small_32.blocks, hybrid.blocks, strict=True) if a != b
    ]
    assert changed == [("uib", "mqa")]
    block = next(b for b in hybrid.blocks if isinstance(b, MQA))
    assert (block.heads, block.key_dim, block.kv_stride, block.layer_scale) == (4, 16, 1, 1e-5)


def test_hybrid_space_of_all_published_bases() -> None:
    for name in ("mnv4-conv-s", "mnv4-conv-m", "mnv4-conv-l"):
        space = search_spaces.hybrid_space(search_spaces.zoo(name))
        attended = [block for block in space.spec.blocks if isinstance(block, MQA)]
        assert len(attended) == {"mnv4-conv-s": 10, "mnv4-conv-m": 17, "mnv4-conv-l": 22}[name]


def test_a_hybrid_can_be_a_base() -> None:
    """Attention does not end a stage, and takes its stage's width."""
    base = search_spaces.zoo("mnv4-hybrid-m")
    assert [name for name, _ in stages(base)] == ["stage3", "stage4", "stage5"]
    space = search_spaces.coarse_space(base, CoarseOptions(multipliers=(0.5, 1.0), min_depth=None))
    small = search_spaces.freeze(space, [0] * len(space.decisions))
    assert [block.kind for block in small.blocks] == [block.kind for block in base.blocks]
    assert 0 < search_spaces.attention_macs(small) == search_spaces.attention_macs(base)


def test_a_base_without_a_place_for_attention_is_refused() -> None:
    base = search_spaces.base("small-32")
    first = [
        b for b in base.blocks if not (isinstance(b, UIB) and b.filters == 80 and b.stride == 1)
    ]
    spec = ArchSpec.model_validate({"name": "short", "resolution": 32, "blocks": first})
    with pytest.raises(
        ValueError, match="base 'short' has no uib block that keeps its shape in its last 1 stages"
    ):
        search_spaces.hybrid_space(spec, HybridOptions(stages=1))
