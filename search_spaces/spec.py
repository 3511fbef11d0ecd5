"""ArchSpec: the one description of a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import pydantic

from search_spaces.blocks import BaseBlock, Block, Classifier, Pool, Width
from search_spaces.blocks.base import require_frozen
from search_spaces.choice import OneOf, options_of
from search_spaces.frozen import FrozenModel
from search_spaces.heads import Head, split
from search_spaces.naming import Name
from search_spaces.ops import OpCall, Padding, Shape
from search_spaces.provenance import Provenance

Resolution = Annotated[int, pydantic.Field(ge=1, le=2**16, strict=True)]
Channels = Annotated[int, pydantic.Field(ge=1, le=2**20, strict=True)]
BlockIndex = Annotated[int, pydantic.Field(ge=0, lt=2**31, strict=True)]


class _Schema1(FrozenModel):
    """The keys of a file of schema 1, which has one chain of blocks from image to logits."""

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Name
    resolution: Resolution
    input_channels: Channels = 3
    blocks: tuple[Block, ...]
    found: Provenance | None = None


class ArchSpec(FrozenModel):
    """A network from image to logits, or (with holes) a family of networks.

    Attributes:
      schema_version: Version of the file format; files of schema 1 are converted when they are
        read.
      name: Name of the network, for people and for file names.
      resolution: Height and width of the input image in pixels.
      input_channels: Channels of the input image.
      padding: Zeros around the input of convolutions with a stride: "same" as in TensorFlow and the
        paper, "symmetric" as in PyTorch and timm's published weights.
      backbone: Blocks from the image to the last feature map, in order.
      head: Blocks from the last feature map to the output.
      endpoints: Index of the backbone block whose output is an endpoint, by the endpoint's name;
        None for the default of `named_endpoints`.
      found: Provenance, if a search found this architecture.
    """

    schema_version: Annotated[Literal[2], pydantic.Field(alias="schema")] = 2
    name: Name
    resolution: Resolution
    input_channels: Channels = 3
    padding: Padding = "same"
    backbone: tuple[Block, ...]
    head: Head
    endpoints: dict[Name, BlockIndex] | None = None
    found: Provenance | None = None

    @classmethod
    def form_of(cls, data: Any) -> type[FrozenModel]:
        """Model whose keys `data` has: an older form for files of schema 1.

        Args:
          data: Plain data, such as the content of a file.

        Returns:
          This class, or the model of schema 1.
        """
        return _Schema1 if _is_schema_1(data) else cls

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in order: those of the backbone, then those of the head."""
        return self.backbone + self.head.blocks

    @property
    def classes(self) -> int:
        """Number of classes of the classifier."""
        return self.head.classes

    @property
    def is_frozen(self) -> bool:
        """Whether there is no hole left."""
        return not any(True for block in self.blocks for _ in block.holes())

    @property
    def named_endpoints(self) -> dict[str, int]:
        """Index of the backbone block whose output is an endpoint, by the endpoint's name.

        Without `endpoints`, there is one for each stride 2^k that the backbone reaches: "c{k}" is
        the last block whose output is 2^k times smaller than the image.
        """
        if self.endpoints is not None:
            return dict(self.endpoints)
        last: dict[int, int] = {}
        stride = 1
        for index, block in enumerate(self.backbone):
            stride *= block.spatial_stride
            last[stride] = index
        return {f"c{stride.bit_length() - 1}": index for stride, index in last.items()}

    def walk(self) -> Iterator[tuple[int, BaseBlock, Width, tuple[int, int]]]:
        """Iterate over all blocks and their inputs.

        Yields:
          Index in `blocks`, block, channels of its input (perhaps a hole), and (height, width) of
          its input.
        """
        channels: Width = self.input_channels
        size = (self.resolution, self.resolution)
        for index, block in enumerate(self.blocks):
            yield index, block, channels, size
            channels = block.out_channels(channels)
            stride = block.spatial_stride
            size = (-(-size[0] // stride), -(-size[1] // stride)) if stride else (1, 1)

    def with_blocks(self, blocks: Sequence[Any], **updates: Any) -> ArchSpec:
        """Copy the spec with other blocks, which are checked again, and without provenance.

        Args:
          blocks: All blocks in order; the head starts with the first pool.
          **updates: Other fields to replace, by name.

        Returns:
          The new spec.

        Raises:
          ValueError: The blocks form no network, or a field is out of bounds.
        """
        backbone, head = split([type(block)(**dict(block)) for block in blocks])
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        del fields["schema_version"]
        changed = {"found": None, **updates, "backbone": backbone, "head": head}
        return type(self)(**{**fields, **changed})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the spec without checks; use `with_blocks` to replace its blocks.

        Args:
          update: Fields to replace, by name.
          deep: Whether to copy the values of the fields as well.

        Returns:
          The new spec.

        Raises:
          ValueError: `update` has `blocks`, which a copy would ignore.
        """
        if update and "blocks" in update:
            raise ValueError("model_copy: blocks cannot be updated; use with_blocks(blocks)")
        return super().model_copy(update=update, deep=deep)

    def digest(self) -> str:
        """Hash of the spec, by which runs recognise their search space.

        The hash of a network that schema 1 can express is that of its schema 1 form, so that it
        does not change when an older file is read.

        Returns:
          First 16 hex digits of the sha256 of the spec's canonical JSON.
        """
        data = self.model_dump(mode="json")
        data["found"] = self.found and self.found.model_dump(mode="json", by_alias=True)
        if self.padding == "same":  # as before there was a choice
            del data["padding"]
        if self.head.kind == "classifier" and self.endpoints is None:
            data["schema_version"] = 1
            data["blocks"] = data.pop("backbone") + data.pop("head")["blocks"]
            del data["endpoints"]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        # Endpoints and provenance are dictionaries: specs that differ only there share a hash.
        return hash(
            (
                self.name,
                self.resolution,
                self.input_channels,
                self.padding,
                self.backbone,
                self.head,
            )
        )

    def __repr__(self) -> str:
        if self.is_frozen:
            counts = f"{_short(params(self))} parameters, {_short(macs(self))} MACs"
        else:
            holes = {hole.name for block in self.blocks for _, hole, _ in block.holes()}
            counts = f"{len(holes)} decisions"
        return f"ArchSpec({self.name!r}, {self.resolution} px, {counts})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The network as a table in a notebook."""
        # The tables are built on this module.
        from search_spaces import tables

        return tables.spec_html(self)

    # The last validator is the outermost one: it sees the data before any other.
    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: pydantic.ModelWrapValidatorHandler[Self]) -> Self:
        """Convert data of schema 1, and check that the blocks form a network."""
        if isinstance(data, cls):
            return handler(data)
        if isinstance(data, Mapping) and data.get("schema", 2) not in (1, 2):
            raise ValueError(f"schema: got {data['schema']!r}, expected one of 1, 2")
        if not _is_schema_1(data):
            spec = handler(data)
            spec._check(spec._place)
            return spec
        fields = dict(_Schema1.model_validate(data))
        del fields["schema_version"]
        backbone, head = split(fields.pop("blocks"))
        spec = handler({**fields, "backbone": backbone, "head": head})
        spec._check("blocks[{}]".format)
        return spec

    def _place(self, index: int) -> str:
        """Key path of a block of `blocks`."""
        head = index - len(self.backbone)
        return f"backbone[{index}]" if head < 0 else f"head.blocks[{head}]"

    def _check(self, place: Callable[[int], str]) -> None:
        """Raise ValueError, with `place` of the block, if the blocks form no network."""
        for index, block, channels, size in self.walk():
            where = place(index)
            last = index == len(self.blocks) - 1
            if isinstance(block, Classifier) and not last:
                raise ValueError(f"{where}: a classifier must be the last block")
            if isinstance(block, Pool) and index < len(self.backbone):
                raise ValueError(f"{where}: a pool belongs to the head; move it to head.blocks")
            fixed = channels if isinstance(channels, int) else None
            if fixed is None and not block.takes_any_width:
                raise ValueError(
                    f"{where}: a {type(block).__name__} block needs an input of one width, but "
                    f"gets {_show(channels)}; fix the filters before it"
                )
            if problem := block.problem(*size, fixed):
                raise ValueError(f"{where}.{problem}")
            if False in options_of(block.present):
                _check_optional(where, block, channels)
        for name, index in (self.endpoints or {}).items():
            if index >= len(self.backbone):
                raise ValueError(
                    f"endpoints.{name}: got {index}, expected the index of a backbone block, "
                    f"0 to {len(self.backbone) - 1}"
                )


def _is_schema_1(data: Any) -> bool:
    if not isinstance(data, Mapping):
        return False
    return data.get("schema", 1 if "blocks" in data else 2) == 1


def _check_optional(where: str, block: BaseBlock, channels: Width) -> None:
    if isinstance(block, Classifier):
        raise ValueError(f"{where}.present: the classifier cannot be left out")
    if block.present is False:
        raise ValueError(
            f"{where}.present: got false in a block without a choice; leave the block out"
        )
    out = block.out_channels(channels)
    if block.spatial_stride != 1 or out != channels:
        raise ValueError(
            f"{where}.present: only a block that keeps its input's shape can be left out; got "
            f"stride {block.spatial_stride}, input channels {_show(channels)}, "
            f"filters {_show(out)}"
        )


def _short(count: int) -> str:
    """A count with three digits and a unit: "3.77 M"."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def _show(value: Any) -> str:
    return (
        f"one of {list(value.options)} ({value.name})" if isinstance(value, OneOf) else str(value)
    )


def lower(spec: ArchSpec) -> tuple[OpCall, ...]:
    """The primitive operations of a frozen spec, in the order in which they run.

    No other function knows which operations a spec means: parameters, MACs, bytes, latency tables
    and the check of an export all read this one.

    Args:
      spec: A spec without holes.

    Returns:
      Operations of one image.

    Raises:
      ValueError: The spec has holes.
    """
    return tuple(op for ops in lower_by_block(spec) for op in ops)


def lower_by_block(spec: ArchSpec) -> tuple[tuple[OpCall, ...], ...]:
    """The primitive operations of a frozen spec, one tuple for each of its `blocks`.

    Args:
      spec: A spec without holes.

    Returns:
      Operations of one image by block.

    Raises:
      ValueError: The spec has holes.
    """
    out = []
    for index, block, channels, (height, width) in spec.walk():
        at = Shape(height, width, require_frozen(channels))
        require_frozen(block.present)
        out.append(lower_block(block, at, index))
    return tuple(out)


def lower_block(block: BaseBlock, at: Shape, index: int) -> tuple[OpCall, ...]:
    """The primitive operations of one block without holes.

    Args:
      block: The block.
      at: Shape of its input.
      index: Index of the block, noted in each operation.

    Returns:
      Operations of one image.

    Raises:
      ValueError: The block has holes.
    """
    return tuple(dataclasses.replace(op, block=index) for op in block.lower(at))


def params(spec: ArchSpec) -> int:
    """Number of trainable parameters of a frozen spec.

    Args:
      spec: A spec without holes.

    Returns:
      Weights of convolutions and dense layers with their biases, and 2 for each channel of a norm.
    """
    return sum(op.params for op in lower(spec))


def macs(spec: ArchSpec) -> int:
    """Multiply-accumulates of convolutions and dense layers, without `attention_macs`.

    Args:
      spec: A spec without holes.

    Returns:
      Multiply-accumulates for one image.
    """
    return sum(op.macs for op in lower(spec) if op.kind != "matmul")


def attention_macs(spec: ArchSpec) -> int:
    """Multiply-accumulates of products of activations: queries with keys, weights with values.

    Args:
      spec: A spec without holes.

    Returns:
      Multiply-accumulates for one image.
    """
    return sum(op.macs for op in lower(spec) if op.kind == "matmul")
