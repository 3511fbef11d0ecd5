"""The search spaces of MobileNetV4: coarse, fine, their union, and hybrid."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic

from search_spaces.blocks import MQA, UIB, Attention
from search_spaces.blocks.base import LayerScale
from search_spaces.choice import Frozen, OneOf, options_of
from search_spaces.ops import make_divisible
from search_spaces.space import SearchSpace, with_blocks
from search_spaces.spec import ArchSpec

_Options = Annotated[tuple[Annotated[float, pydantic.Field(gt=0)], ...], pydantic.Field(min_length=1)]
_Counts = Annotated[tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(min_length=1)]


class CoarseOptions(Frozen):
    """What the coarse stage decides about the UIB blocks of a base.

    Attributes:
      multipliers: of the base's filters. The paper does not state its options; these are TuNAS's without 2.
      filters_by: one width for each run of blocks of equal width ("stage"), or for each block that is not optional.
      expansions: expansion ratios; a single one is fixed. The paper fixes 4.
      expansion_by: one ratio a stage or a block.
      min_depth: the fewest blocks that a stage may keep; null fixes the base's depth.
    """

    multipliers: _Options = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5)
    filters_by: Literal["stage", "block"] = "stage"
    expansions: _Options = (4.0,)
    expansion_by: Literal["stage", "block"] = "block"
    min_depth: Annotated[int, pydantic.Field(ge=1)] | None = 1


class FineOptions(Frozen):
    """What the fine stage decides: kernels of the two depthwise layers, 0 = absent.

    Source: paper section 4 (presence, and 3x3 or 5x5, of both layers).
    """

    start_dw: Annotated[tuple[Literal[0, 3, 5], ...], pydantic.Field(min_length=1)] = (0, 3, 5)
    middle_dw: Annotated[tuple[Literal[0, 3, 5], ...], pydantic.Field(min_length=1)] = (0, 3, 5)


class HybridOptions(Frozen):
    """Where attention may take the place of a UIB block, and which.

    Attributes:
      stages: how many of the last stages. The paper's hybrids have attention in the last two.
      heads, key_dims, kv_strides: options of every attention block. The published hybrids have 4 or 8 heads, 48 or 64
        numbers a key, stride 2 at 1/16 and 1 at 1/32 of the image.
      layer_scale: initial factor of the attention's branch, null for none.
    """

    stages: Annotated[int, pydantic.Field(ge=1)] = 2
    heads: _Counts = (4, 8)
    key_dims: _Counts = (32, 64)
    kv_strides: Annotated[tuple[Literal[1, 2], ...], pydantic.Field(min_length=1)] = (1, 2)
    layer_scale: LayerScale = 1e-5


def coarse_space(base: ArchSpec, options: CoarseOptions | None = None) -> SearchSpace:
    """Filters, expansion and depth of every stage of UIB blocks, each block an inverted bottleneck with a 3x3.

    Stages 1 and 2 (conv, fused_ib) and the head stay as the base has them.
    Source: paper section 4 (filters; IB; 3x3; expansion 4). Depth and expansion as decisions: TuNAS.
    """
    options = options or CoarseOptions()
    plain = [
        block.model_copy(update={"start_dw": 0, "middle_dw": 3}) if isinstance(block, UIB) else block
        for block in base.blocks
    ]
    return SearchSpace(with_blocks(base, _coarse_holes(base, plain, options), f"{base.name}-coarse"))


def fine_space(coarse_result: ArchSpec, options: FineOptions | None = None) -> SearchSpace:
    """The two depthwise layers of every UIB block; everything else stays as the coarse stage found it.

    A block with a stride keeps its middle depthwise (3x3 or 5x5): the stride sits there, as in all published networks.
    Source: paper section 4.
    """
    name = coarse_result.name.removesuffix("-coarse")
    blocks = _fine_holes(coarse_result, list(coarse_result.blocks), options or FineOptions())
    return SearchSpace(with_blocks(coarse_result, blocks, f"{name}-fine"))


def one_stage_space(
    base: ArchSpec, coarse: CoarseOptions | None = None, fine: FineOptions | None = None
) -> SearchSpace:
    """All decisions of both stages at once: the paper's baseline (its table 3)."""
    blocks = _fine_holes(base, list(base.blocks), fine or FineOptions())
    return SearchSpace(
        with_blocks(base, _coarse_holes(base, blocks, coarse or CoarseOptions()), f"{base.name}-one-stage")
    )


def hybrid_space(base: ArchSpec, options: HybridOptions | None = None) -> SearchSpace:
    """For every UIB block of the last stages that keeps its input's shape: that block, or attention in its place.

    Everything else stays as the base has it. The paper places attention by hand; searching it is ours.

    Raises:
      ValueError: if the last stages have no such block.
    """
    options = options or HybridOptions()
    last = list(stages(base))[-options.stages :]
    names = {index: f"{stage}.{place}" for stage, indices in last for place, index in enumerate(indices)}
    blocks: list[Any] = []
    for index, block, width, _ in base.walk():
        if index not in names or block.spatial_stride != 1 or block.out_channels(width) != width:
            blocks.append(block)
            continue
        name = names[index]
        blocks.append(block.model_copy(update={"present": _hole((True, False), f"{name}.block")}))
        blocks.append(
            MQA.model_validate(
                {
                    "present": _hole((False, True), f"{name}.block"),
                    "heads": _hole(options.heads, f"{name}.heads"),
                    "key_dim": _hole(options.key_dims, f"{name}.key_dim"),
                    "kv_stride": _hole(options.kv_strides, f"{name}.kv_stride"),
                    "layer_scale": options.layer_scale,
                }
            )
        )
    if len(blocks) == len(base.blocks):
        raise ValueError(
            f"base {base.name!r} has no uib block that keeps its shape in its last {options.stages} stages"
        )
    return SearchSpace(with_blocks(base, blocks, f"{base.name.removesuffix('-fine')}-hybrid"))


def stages(base: ArchSpec) -> Iterator[tuple[str, list[int]]]:
    """(name, block indices) of every run of UIB blocks of equal width.

    The number in a name is the paper's: how often the input has been halved; letters tell runs of one stage apart.
    """
    runs: list[tuple[int, list[int]]] = []
    halved, width = 0, None
    for index, block in enumerate(base.blocks):
        halved += block.spatial_stride == 2
        if isinstance(block, Attention):
            continue  # it keeps the shape: attention between UIB blocks does not end their stage
        if not isinstance(block, UIB):
            width = None
        elif block.stride == 1 and block.filters == width:
            runs[-1][1].append(index)
        else:
            width = block.filters
            runs.append((halved, [index]))
    for number, indices in runs:
        same = [run for run in runs if run[0] == number]
        place = same.index((number, indices))
        letter = string.ascii_lowercase[place % 26] * (1 + place // 26) if len(same) > 1 else ""
        yield f"stage{number}{letter}", indices


def _coarse_holes(base: ArchSpec, blocks: list[Any], options: CoarseOptions) -> list[Any]:
    for stage, indices in stages(base):
        fixed = len(indices) if options.min_depth is None else min(options.min_depth, len(indices))
        depths = range(len(indices), fixed - 1, -1)  # deepest first
        filters = None
        for place, index in enumerate(indices):
            update: dict[str, Any] = {}
            optional = place >= fixed
            if filters is None or (options.filters_by == "block" and not optional):
                tag = stage if options.filters_by == "stage" else f"{stage}.{place}"
                width = blocks[index].filters
                if not isinstance(width, int):
                    raise ValueError(f"base {base.name!r} has holes already (blocks[{index}].filters): freeze it first")
                widths = tuple(dict.fromkeys(make_divisible(width * m) for m in options.multipliers))
                filters = _hole(widths, f"{tag}.filters")
            update["filters"] = filters
            tag = stage if options.expansion_by == "stage" else f"{stage}.{place}"
            update["expansion"] = _hole(options.expansions, f"{tag}.expansion")
            if optional and len(depths) > 1:
                update["present"] = _hole(tuple(place < depth for depth in depths), f"{stage}.depth")
            blocks[index] = blocks[index].model_copy(update=update)
    return blocks


def _fine_holes(base: ArchSpec, blocks: list[Any], options: FineOptions) -> list[Any]:
    for stage, indices in stages(base):
        for place, index in enumerate(indices):
            middle = options.middle_dw
            if blocks[index].stride != 1:
                middle = tuple(kernel for kernel in middle if kernel) or tuple(options_of(blocks[index].middle_dw))
            update = {
                "start_dw": _hole(options.start_dw, f"{stage}.{place}.start_dw"),
                "middle_dw": _hole(middle, f"{stage}.{place}.middle_dw"),
            }
            blocks[index] = blocks[index].model_copy(update=update)
    return blocks


def _hole(options: Sequence[Any], name: str) -> Any:
    return OneOf[Any](options=tuple(options), name=name) if len(options) > 1 else options[0]


SPACES: Mapping[str, Callable[[ArchSpec], SearchSpace]] = {
    "coarse": coarse_space,
    "fine": fine_space,
    "hybrid": hybrid_space,
    "one-stage": one_stage_space,
}
"""Each kind of space that is made from a base, with its default options."""
