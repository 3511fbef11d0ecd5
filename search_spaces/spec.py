"""ArchSpec: the one description of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic

from search_spaces.blocks import BaseBlock, Block, Classifier, Pool, Width
from search_spaces.choice import Frozen, OneOf, options_of
from search_spaces.ops import OpCall, Shape


class FoundCost(Frozen):
    """What the architecture costs on one target, what was asked for, and the cost of the policy's most likely one."""

    value: float
    target: float
    unit: str
    most_likely: float


class Found(Frozen):
    """Where a found architecture comes from (the `found:` section of its YAML)."""

    stage: str
    space: str
    seed: int
    config_hash: str
    dataset_hash: str
    quality: dict[str, float]
    cost: dict[str, FoundCost]
    decisions: dict[str, int]
    versions: dict[str, str]
    seconds: float


class ArchSpec(Frozen):
    """A network from image to logits, or (with holes) a family of networks.

    Attributes:
      name: for people.
      resolution: height and width of the input image in pixels.
      input_channels: channels of the input image.
      blocks: in order; the last one is the classifier.
      found: provenance, if a search made this spec.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    resolution: Annotated[int, pydantic.Field(ge=1, strict=True)]
    input_channels: Annotated[int, pydantic.Field(ge=1, strict=True)] = 3
    blocks: tuple[Block, ...]
    found: Found | None = None

    @property
    def classes(self) -> int:
        """Number of classes of the classifier."""
        last = self.blocks[-1]
        assert isinstance(last, Classifier)
        return last.classes

    @property
    def is_frozen(self) -> bool:
        """Whether there is no hole left."""
        return not any(True for block in self.blocks for _ in block.holes())

    def walk(self) -> Iterator[tuple[int, BaseBlock, Width, tuple[int, int]]]:
        """(index, block, input channels (perhaps a hole), (height, width) of the input) of every block."""
        channels: Width = self.input_channels
        size = (self.resolution, self.resolution)
        for index, block in enumerate(self.blocks):
            yield index, block, channels, size
            channels = block.out_channels(channels)
            stride = block.spatial_stride
            size = (-(-size[0] // stride), -(-size[1] // stride)) if stride else (1, 1)

    @pydantic.model_validator(mode="after")
    def _blocks_form_a_chain(self) -> ArchSpec:
        if not self.blocks or not isinstance(self.blocks[-1], Classifier):
            raise ValueError("blocks: the last block must be a classifier")
        pooled = False
        for index, block, channels, size in self.walk():
            where = f"blocks[{index}]"
            if isinstance(block, Classifier) and index != len(self.blocks) - 1:
                raise ValueError(f"{where}: a classifier must be the last block")
            if isinstance(block, Classifier) and not pooled:
                raise ValueError(f"{where}: the classifier needs a pooled input; put `kind: pool` before it")
            fixed = channels if isinstance(channels, int) else None
            if fixed is None and not block.takes_any_width:
                raise ValueError(
                    f"{where}: a {type(block).__name__} block needs an input of one width, but gets "
                    f"{_show(channels)}; fix the filters before it"
                )
            if problem := block.problem(*size, fixed):
                raise ValueError(f"{where}.{problem}")
            pooled = pooled or isinstance(block, Pool)
            if False in options_of(block.present):
                self._check_optional(where, block, channels)
        return self

    def _check_optional(self, where: str, block: BaseBlock, channels: Width) -> None:
        if isinstance(block, Classifier):
            raise ValueError(f"{where}.present: the classifier cannot be left out")
        if block.present is False:
            raise ValueError(f"{where}.present: got false in a block without a choice; leave the block out")
        out = block.out_channels(channels)
        if block.spatial_stride != 1 or out != channels:
            raise ValueError(
                f"{where}.present: only a block that keeps its input's shape can be left out; got stride "
                f"{block.spatial_stride}, input channels {_show(channels)}, filters {_show(out)}"
            )


def _show(value: Any) -> str:
    return f"one of {list(value.options)} ({value.name})" if isinstance(value, OneOf) else str(value)


def lower(spec: ArchSpec) -> tuple[OpCall, ...]:
    """The primitive operations of a frozen spec, in the order in which they run.

    The only place that knows what a spec means to a machine: parameters, MACs, bytes, latency tables and the check of
    an export all read it.

    Raises:
      ValueError: if the spec has holes.
    """
    return tuple(op for ops in lower_by_block(spec) for op in ops)


def lower_by_block(spec: ArchSpec) -> tuple[tuple[OpCall, ...], ...]:
    """As `lower`, one tuple of operations for every block."""
    out = []
    for index, block, channels, (height, width) in spec.walk():
        if isinstance(channels, OneOf) or isinstance(block.present, OneOf):
            hole = channels if isinstance(channels, OneOf) else block.present
            assert isinstance(hole, OneOf)
            raise ValueError(f"the hole {hole.name!r} is open: freeze the space before lowering it")
        out.append(lower_block(block, Shape(height, width, channels), index))
    return tuple(out)


def lower_block(block: BaseBlock, at: Shape, index: int) -> tuple[OpCall, ...]:
    """The operations of one block without holes on an input of shape `at`; `index` is noted in each."""
    return tuple(dataclasses.replace(op, block=index) for op in block.lower(at))


def params(spec: ArchSpec) -> int:
    """Trainable parameters of a frozen spec: convolutions, norms (2 a channel), classifier with bias."""
    return sum(op.params for op in lower(spec))


def macs(spec: ArchSpec) -> int:
    """Multiply-accumulates of convolutions and dense layers for one image; see `attention_macs` for the rest."""
    return sum(op.macs for op in lower(spec) if op.kind != "matmul")


def attention_macs(spec: ArchSpec) -> int:
    """Multiply-accumulates of products of activations (queries with keys, weights with values) for one image."""
    return sum(op.macs for op in lower(spec) if op.kind == "matmul")
