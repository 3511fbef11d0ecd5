"""Base of all blocks, and the types of fields that may be holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pydantic

from search_spaces.choice import HoleKind, OneOf
from search_spaces.frozen import FrozenModel
from search_spaces.ops import OpCall, Shape


def _value_or_hole(data: Any) -> str:
    return "hole" if isinstance(data, dict | OneOf) else "value"


_EITHER = pydantic.Discriminator(_value_or_hole)
_VALUE, _HOLE = pydantic.Tag("value"), pydantic.Tag("hole")

Count = Annotated[int, pydantic.Field(ge=1, le=2**20, strict=True)]
_Expansion = Annotated[float, pydantic.Field(gt=0, le=1000, allow_inf_nan=False, strict=True)]
_DepthwiseKernel = Literal[0, 3, 5]
_Present = Annotated[bool, pydantic.Field(strict=True)]

Kernel = Literal[1, 3, 5, 7]
Width = int | OneOf[int]
Stride = Literal[1, 2]

# Types of fields that may be holes, each with the HoleKind of its decision.
Size = Annotated[Annotated[Count, _VALUE] | Annotated[OneOf[Count], _HOLE], _EITHER, "size"]
Expansion = Annotated[
    Annotated[_Expansion, _VALUE] | Annotated[OneOf[_Expansion], _HOLE], _EITHER, "size"
]
DepthwiseKernel = Annotated[
    Annotated[_DepthwiseKernel, _VALUE] | Annotated[OneOf[_DepthwiseKernel], _HOLE],
    _EITHER,
    "operator",
]
StrideChoice = Annotated[
    Annotated[Stride, _VALUE] | Annotated[OneOf[Stride], _HOLE], _EITHER, "operator"
]
Present = Annotated[
    Annotated[_Present, _VALUE] | Annotated[OneOf[_Present], _HOLE], _EITHER, "operator"
]

LayerScale = Annotated[float, pydantic.Field(gt=0, le=1)] | None
"""Initial value of the per-channel scale on a residual branch; None for no scale."""


class BaseBlock(FrozenModel):
    """Base of all blocks.

    Attributes:
      present: Whether the block is part of the network; a hole makes it optional.
    """

    present: Present = True

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Iterate over the block's primitive operations, in the order in which they run.

        Args:
          at: Shape of the block's input.

        Returns:
          The operations.

        Raises:
          ValueError: The block has a hole.
        """
        raise NotImplementedError

    def out_channels(self, in_channels: Width) -> Width:
        """Width of the output.

        Args:
          in_channels: Width of the input; a hole if it is searched.

        Returns:
          Channels, or a hole.
        """
        return in_channels

    @property
    def spatial_stride(self) -> int:
        """Factor by which the block divides height and width; 0 if it reduces both to 1."""
        return 1

    @property
    def takes_any_width(self) -> bool:
        """Whether the input's width may be a hole, so that a supernet masks its channels."""
        return False

    def after(self, at: Shape) -> Shape:
        """Shape of the output of a block without holes.

        Args:
          at: Shape of the input.

        Returns:
          The shape.
        """
        channels = require_frozen(self.out_channels(at.channels))
        return (
            at.after(channels=channels, stride=self.spatial_stride)
            if self.spatial_stride
            else Shape(1, 1, channels)
        )

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Find out whether the block can take an input of this size.

        Args:
          height: Height of the input in pixels.
          width: Width of the input in pixels.
          channels: Channels of the input; None for a hole.

        Returns:
          "field: what is wrong, and what to do", or None if the block can take the input.
        """
        del channels
        if self.spatial_stride > 1 and max(height, width) == 1:
            cure = "use stride 1 or a larger resolution"
            return f"stride: got {self.spatial_stride}, but the input is already 1 x 1; {cure}"
        return None

    def holes(self) -> Iterator[tuple[str, OneOf[Any], HoleKind]]:
        """Iterate over the block's holes, in the order of its fields, `present` first.

        Yields:
          Name of the field, hole, and kind of its decision.
        """
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if isinstance(value, OneOf):
                kind: HoleKind = "operator" if "operator" in info.metadata else "size"
                yield field, value, kind


class Filtered(BaseBlock):
    """Base of blocks with an output width of their own and perhaps a stride.

    Attributes:
      filters: Channels of the output.
      stride: Factor by which the block divides height and width.
    """

    filters: Size
    stride: Stride = 1

    def out_channels(self, in_channels: Width) -> Width:
        """The block's filters."""
        return self.filters

    @property
    def spatial_stride(self) -> int:
        """The block's stride."""
        return self.stride


def lower_chain(blocks: Sequence[BaseBlock], at: Shape) -> Iterator[OpCall]:
    """Iterate over the operations of blocks that follow each other.

    Args:
      blocks: Blocks without holes.
      at: Shape of the input of the first block.

    Yields:
      The operations.
    """
    for block in blocks:
        yield from block.lower(at)
        at = block.after(at)


def require_frozen(value: Any) -> Any:
    """Return a value that must not be a hole.

    Args:
      value: Value of a field.

    Returns:
      The same value.

    Raises:
      ValueError: The value is a hole.
    """
    if isinstance(value, OneOf):
        raise ValueError(
            f"{value.name!r} is still a choice; call freeze(space, decisions) before lowering"
        )
    return value
