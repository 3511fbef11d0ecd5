"""What every block has, and the fields that may be holes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pydantic

from search_spaces.choice import Frozen, HoleKind, OneOf
from search_spaces.ops import OpCall, Shape


def _value_or_hole(data: Any) -> str:
    return "hole" if isinstance(data, dict | OneOf) else "value"


_EITHER = pydantic.Discriminator(_value_or_hole)
_VALUE, _HOLE = pydantic.Tag("value"), pydantic.Tag("hole")

Count = Annotated[int, pydantic.Field(ge=1, strict=True)]
_Expansion = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False, strict=True)]
_DepthwiseKernel = Literal[0, 3, 5]
_Present = Annotated[bool, pydantic.Field(strict=True)]

Kernel = Literal[1, 3, 5, 7]
Width = int | OneOf[int]
Stride = Literal[1, 2]

# A field that may be a hole, and (HoleKind) what warm-up does with its decision.
Filters = Annotated[Annotated[Count, _VALUE] | Annotated[OneOf[Count], _HOLE], _EITHER, "filter"]
Expansion = Annotated[Annotated[_Expansion, _VALUE] | Annotated[OneOf[_Expansion], _HOLE], _EITHER, "filter"]
DepthwiseKernel = Annotated[
    Annotated[_DepthwiseKernel, _VALUE] | Annotated[OneOf[_DepthwiseKernel], _HOLE], _EITHER, "operator"
]
StrideChoice = Annotated[Annotated[Stride, _VALUE] | Annotated[OneOf[Stride], _HOLE], _EITHER, "operator"]
Present = Annotated[Annotated[_Present, _VALUE] | Annotated[OneOf[_Present], _HOLE], _EITHER, "operator"]

LayerScale = Annotated[float, pydantic.Field(gt=0, le=1)] | None
"""Initial value of a learned factor a channel on a residual branch; None: there is none."""


class BaseBlock(Frozen):
    """What every block has."""

    present: Present = True

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """The operations of this block (without holes) on an input of shape `at`."""
        raise NotImplementedError

    def out_channels(self, in_channels: Width) -> Width:
        """Width of the output for that of the input; both may be holes."""
        return in_channels

    @property
    def spatial_stride(self) -> int:
        """Factor by which the block divides height and width; 0 if it reduces both to 1."""
        return 1

    @property
    def takes_any_width(self) -> bool:
        """Whether its input's width may be a hole: a supernet can mask its channels."""
        return False

    def after(self, at: Shape) -> Shape:
        """Shape of the output for an input of shape `at` (without holes)."""
        channels = fixed(self.out_channels(at.channels))
        return at.after(channels=channels, stride=self.spatial_stride) if self.spatial_stride else Shape(1, 1, channels)

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Why the block cannot take an input of this size ("field: ..."), or None; `channels` is None for a hole."""
        del channels
        if self.spatial_stride > 1 and max(height, width) == 1:
            cure = "use stride 1 or a larger resolution"
            return f"stride: got {self.spatial_stride}, but the input is already 1 x 1; {cure}"
        return None

    def holes(self) -> Iterator[tuple[str, OneOf[Any], HoleKind]]:
        """(field, hole, kind) of every hole, in the order of the fields, `present` first."""
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if isinstance(value, OneOf):
                kind: HoleKind = "operator" if "operator" in info.metadata else "filter"
                yield field, value, kind


class Filtered(BaseBlock):
    """A block that chooses the width of its output and may have a stride."""

    filters: Filters
    stride: Stride = 1

    def out_channels(self, in_channels: Width) -> Width:
        return self.filters

    @property
    def spatial_stride(self) -> int:
        return self.stride


def lower_chain(blocks: Sequence[BaseBlock], at: Shape) -> Iterator[OpCall]:
    """The operations of blocks (without holes) one after the other."""
    for block in blocks:
        yield from block.lower(at)
        at = block.after(at)


def fixed(value: Any) -> Any:
    """A value that must not be a hole. Raises ValueError with the hole's name."""
    if isinstance(value, OneOf):
        raise ValueError(f"the hole {value.name!r} is open: freeze the space before lowering it")
    return value
