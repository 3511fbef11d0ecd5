"""The search spaces of MobileNetV4: coarse, fine, their union, and hybrid."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pydantic

from search_spaces.blocks import MQA, UIB, Attention
from search_spaces.blocks.base import LayerScale
from search_spaces.choice import OneOf, options_of
from search_spaces.frozen import FrozenModel
from search_spaces.naming import space_name
from search_spaces.ops import make_divisible
from search_spaces.space import SearchSpace
from search_spaces.spec import ArchSpec

_Options = Annotated[
    tuple[Annotated[float, pydantic.Field(gt=0, le=1000)], ...], pydantic.Field(min_length=1)
]
_Counts = Annotated[
    tuple[Annotated[int, pydantic.Field(ge=1, le=2**20)], ...], pydantic.Field(min_length=1)
]


class CoarseOptions(FrozenModel):
    """Options of the coarse stage, which decides widths, expansions and depths of UIB blocks.

    Attributes:
      multipliers: Factors on the base's filters. The paper does not state its options; these are
        TuNAS's without 2.
      filters_by: Whether blocks share one width in each run of equal width ("stage"), or each block
        that is not optional has its own ("block").
      expansions: Expansion ratios; a single one is fixed. The paper fixes 4.
      expansion_by: Whether each stage or each block has its own ratio.
      min_depth: Smallest number of blocks in a stage; null fixes the base's depth.
    """

    multipliers: _Options = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5)
    filters_by: Literal["stage", "block"] = "stage"
    expansions: _Options = (4.0,)
    expansion_by: Literal["stage", "block"] = "block"
    min_depth: Annotated[int, pydantic.Field(ge=1)] | None = 1


class FineOptions(FrozenModel):
    """Options of the fine stage, which decides the two depthwise layers of UIB blocks.

    Attributes:
      start_dw: Kernel sizes of the depthwise layer before the expansion; 0 leaves it out.
      middle_dw: Kernel sizes of the depthwise layer behind the expansion; 0 leaves it out.

    Source: paper section 4 (presence, and 3x3 or 5x5, of both layers).
    """

    start_dw: Annotated[tuple[Literal[0, 3, 5], ...], pydantic.Field(min_length=1)] = (0, 3, 5)
    middle_dw: Annotated[tuple[Literal[0, 3, 5], ...], pydantic.Field(min_length=1)] = (0, 3, 5)


class HybridOptions(FrozenModel):
    """Options of the hybrid stage, which may replace UIB blocks by attention.

    The published hybrids have 4 or 8 heads, key sizes 48 or 64, stride 2 of keys and values at 1/16
    of the image's resolution and 1 at 1/32.

    Attributes:
      stages: Number of last stages that may have attention. The paper's hybrids have it in two.
      heads: Numbers of heads of every attention block.
      key_dims: Sizes of a key of every attention block.
      kv_strides: Strides of keys and values of every attention block.
      layer_scale: Initial value of the per-channel scale on the attention branch; null for none.
    """

    stages: Annotated[int, pydantic.Field(ge=1)] = 2
    heads: _Counts = (4, 8)
    key_dims: _Counts = (32, 64)
    kv_strides: Annotated[tuple[Literal[1, 2], ...], pydantic.Field(min_length=1)] = (1, 2)
    layer_scale: LayerScale = 1e-5


def coarse_space(base: ArchSpec, options: CoarseOptions | None = None) -> SearchSpace:
    """Space of the coarse stage: filters, expansion and depth of every stage of UIB blocks.

    Each UIB block becomes an inverted bottleneck with a 3x3 depthwise layer. Stages 1 and 2 (conv,
    fused_ib) and the head stay as in the base.

    Args:
      base: Spec without holes.
      options: Options of the stage; None for the defaults.

    Returns:
      The space, called "NAME-coarse".

    Raises:
      ValueError: The base has holes, or there is nothing to decide.

    Source: paper section 4 (filters; IB; 3x3; expansion 4). Depth and expansion as decisions:
    TuNAS.
    """
    options = options or CoarseOptions()
    plain = [
        block.model_copy(update={"start_dw": 0, "middle_dw": 3})
        if isinstance(block, UIB)
        else block
        for block in base.blocks
    ]
    blocks = _coarse_holes(base, plain, options)
    return SearchSpace(base.with_blocks(blocks, name=space_name(base.name, "coarse")))


def fine_space(coarse_result: ArchSpec, options: FineOptions | None = None) -> SearchSpace:
    """Space of the fine stage: the two depthwise layers of every UIB block.

    Everything else stays as in the coarse result. A block with a stride keeps its middle depthwise
    layer (3x3 or 5x5): the stride sits there, as in all published networks.

    Args:
      coarse_result: Spec that the coarse stage found, or any other with UIB blocks.
      options: Options of the stage; None for the defaults.

    Returns:
      The space, called "NAME-fine"; "-coarse" is dropped from the name.

    Raises:
      ValueError: There is nothing to decide, or the options leave a stride without its layer.

    Source: paper section 4.
    """
    blocks = _fine_holes(coarse_result, list(coarse_result.blocks), options or FineOptions())
    name = space_name(coarse_result.name, "fine", after="coarse")
    return SearchSpace(coarse_result.with_blocks(blocks, name=name))


def one_stage_space(
    base: ArchSpec, coarse: CoarseOptions | None = None, fine: FineOptions | None = None
) -> SearchSpace:
    """Space of all decisions of the coarse and the fine stage at once, the paper's baseline.

    Args:
      base: Spec without holes.
      coarse: Options of the coarse stage; None for the defaults.
      fine: Options of the fine stage; None for the defaults.

    Returns:
      The space, called "NAME-one-stage".

    Raises:
      ValueError: As for `coarse_space` and `fine_space`.

    Source: paper table 3.
    """
    blocks = _fine_holes(base, list(base.blocks), fine or FineOptions())
    blocks = _coarse_holes(base, blocks, coarse or CoarseOptions())
    return SearchSpace(base.with_blocks(blocks, name=space_name(base.name, "one-stage")))


def hybrid_space(base: ArchSpec, options: HybridOptions | None = None) -> SearchSpace:
    """Space of the hybrid stage: UIB blocks of the last stages, or attention in place of each.

    Only blocks that keep their input's shape can be replaced. Everything else stays as in the base.
    The paper places attention by hand; searching it is ours.

    Args:
      base: Spec without holes, such as a result of the fine stage.
      options: Options of the stage; None for the defaults.

    Returns:
      The space, called "NAME-hybrid"; "-fine" is dropped from the name.

    Raises:
      ValueError: The last stages have no block that keeps its shape.
    """
    options = options or HybridOptions()
    last = list(stages(base))[-options.stages :]
    names = {
        index: f"{stage}.{place}" for stage, indices in last for place, index in enumerate(indices)
    }
    blocks: list[Any] = []
    moved: dict[int, int] = {}  # index in the base: index in the space of the last in its place
    for index, block, width, _ in base.walk():
        keeps_shape = block.spatial_stride == 1 and block.out_channels(width) == width
        if index in names and keeps_shape:
            blocks += _block_or_attention(block, names[index], options)
        else:
            blocks.append(block)
        moved[index] = len(blocks) - 1
    if len(blocks) == len(base.blocks):
        raise ValueError(
            f"base {base.name!r} has no uib block that keeps its shape in its last "
            f"{options.stages} stages"
        )
    name = space_name(base.name, "hybrid", after="fine")
    endpoints = base.endpoints and {at: moved[index] for at, index in base.endpoints.items()}
    return SearchSpace(base.with_blocks(blocks, name=name, endpoints=endpoints))


def _block_or_attention(block: Any, name: str, options: HybridOptions) -> tuple[Any, MQA]:
    """Two blocks of which exactly one is present: the block itself, and attention."""
    attention = MQA.model_validate(
        {
            "present": _hole((False, True), f"{name}.block"),
            "heads": _hole(options.heads, f"{name}.heads"),
            "key_dim": _hole(options.key_dims, f"{name}.key_dim"),
            "kv_stride": _hole(options.kv_strides, f"{name}.kv_stride"),
            "layer_scale": options.layer_scale,
        }
    )
    present = _hole((True, False), f"{name}.block")
    return block.model_copy(update={"present": present}), attention


def stages(base: ArchSpec) -> Iterator[tuple[str, list[int]]]:
    """Iterate over the stages of a base: its runs of UIB blocks of equal width.

    The number in a stage's name is the paper's: how often the input has been halved. Letters tell
    the runs of one stage apart.

    Args:
      base: Spec, whose filters may be holes.

    Yields:
      Name of the stage, and the indices of its blocks.
    """
    runs: list[tuple[int, list[int]]] = []
    halved, width = 0, None
    for index, block in enumerate(base.blocks):
        halved += block.spatial_stride == 2
        if isinstance(block, Attention):
            # attention keeps the shape: between UIB blocks, it does not end their stage
            continue
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
                    raise ValueError(
                        f"base {base.name!r} has holes already (blocks[{index}].filters): "
                        "freeze it first"
                    )
                widths = tuple(
                    dict.fromkeys(make_divisible(width * m) for m in options.multipliers)
                )
                filters = _hole(widths, f"{tag}.filters")
            update["filters"] = filters
            tag = stage if options.expansion_by == "stage" else f"{stage}.{place}"
            update["expansion"] = _hole(options.expansions, f"{tag}.expansion")
            if optional and len(depths) > 1:
                update["present"] = _hole(
                    tuple(place < depth for depth in depths), f"{stage}.depth"
                )
            blocks[index] = blocks[index].model_copy(update=update)
    return blocks


def _fine_holes(base: ArchSpec, blocks: list[Any], options: FineOptions) -> list[Any]:
    for stage, indices in stages(base):
        for place, index in enumerate(indices):
            middle = options.middle_dw
            if blocks[index].stride != 1:
                middle = tuple(kernel for kernel in middle if kernel) or tuple(
                    options_of(blocks[index].middle_dw)
                )
            update = {
                "start_dw": _hole(options.start_dw, f"{stage}.{place}.start_dw"),
                "middle_dw": _hole(middle, f"{stage}.{place}.middle_dw"),
            }
            blocks[index] = blocks[index].model_copy(update=update)
    return blocks


def _hole(options: Sequence[Any], name: str) -> Any:
    return OneOf[Any](options=tuple(options), name=name) if len(options) > 1 else options[0]
