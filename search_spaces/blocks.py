"""Blocks: the vocabulary of specs, and which primitive operations each one means.

To add a block: a class here with its fields and its `lower`, a row in `Block`, and its module in
`nas/model/layers/blocks.py`. Everything else (YAML, spaces, costs, exports) reads `lower`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic

from search_spaces.choice import Frozen, HoleKind, OneOf, options_of
from search_spaces.ops import Activation, OpCall, Shape, make_divisible


def _value_or_hole(data: Any) -> str:
    return "hole" if isinstance(data, dict | OneOf) else "value"


_EITHER = pydantic.Discriminator(_value_or_hole)
_VALUE, _HOLE = pydantic.Tag("value"), pydantic.Tag("hole")
_Filters = Annotated[int, pydantic.Field(ge=1, strict=True)]
_Expansion = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False, strict=True)]
_DepthwiseKernel = Literal[0, 3, 5]
_Present = Annotated[bool, pydantic.Field(strict=True)]

# A field that may be a hole, and (HoleKind) what warm-up does with its decision.
Filters = Annotated[Annotated[_Filters, _VALUE] | Annotated[OneOf[_Filters], _HOLE], _EITHER, "filter"]
Expansion = Annotated[Annotated[_Expansion, _VALUE] | Annotated[OneOf[_Expansion], _HOLE], _EITHER, "filter"]
DepthwiseKernel = Annotated[
    Annotated[_DepthwiseKernel, _VALUE] | Annotated[OneOf[_DepthwiseKernel], _HOLE], _EITHER, "operator"
]
Present = Annotated[Annotated[_Present, _VALUE] | Annotated[OneOf[_Present], _HOLE], _EITHER, "operator"]
Stride = Annotated[Literal[1, 2], pydantic.Field()]
ConvKernel = Literal[1, 3, 5, 7]


class BaseBlock(Frozen):
    """What every block has."""

    present: Present = True

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """The operations of this block (without holes) on an input of shape `at`."""
        raise NotImplementedError

    @property
    def out_filters(self) -> int | OneOf[int] | None:
        """Output channels (perhaps a hole); None if the block keeps its input's."""
        return None

    @property
    def spatial_stride(self) -> int:
        """Factor by which the block divides height and width; 0 if it reduces both to 1."""
        return 1

    def holes(self) -> Iterator[tuple[str, OneOf[Any], HoleKind]]:
        """(field, hole, kind) of every hole, in the order of the fields, `present` first."""
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if isinstance(value, OneOf):
                kind: HoleKind = "operator" if "operator" in info.metadata else "filter"
                yield field, value, kind


class _Filtered(BaseBlock):
    filters: Filters
    stride: Stride = 1

    @property
    def out_filters(self) -> int | OneOf[int]:
        return self.filters

    @property
    def spatial_stride(self) -> int:
        return self.stride


def expanded_width(in_channels: int, expansion: float) -> int:
    """Channels inside an inverted bottleneck: make_divisible(in_channels * expansion, 8)."""
    return make_divisible(in_channels * expansion)


class Conv(_Filtered):
    """k x k convolution, batch norm, activation."""

    kind: Literal["conv"] = "conv"
    kernel: ConvKernel = 3
    activation: Activation = "relu"

    def lower(self, at: Shape) -> Iterator[OpCall]:
        yield OpCall(
            "conv2d", at, _fixed(self.filters), self.kernel, self.stride, self.activation, norm=True, role="conv"
        )


class FusedIB(_Filtered):
    """k x k convolution to the expanded width (stride, norm, activation), then a 1x1 projection and its norm.

    `project_activation` is "relu" in the published Conv-S only. A residual is added where shapes match and the
    projection is linear.
    Source: paper section 3; activation behind Conv-S's 1x1 from the released code.
    """

    kind: Literal["fused_ib"] = "fused_ib"
    kernel: ConvKernel = 3
    expansion: Expansion = 4.0
    activation: Activation = "relu"
    project_activation: Activation = "none"

    def lower(self, at: Shape) -> Iterator[OpCall]:
        filters = _fixed(self.filters)
        width = expanded_width(at.channels, _fixed(self.expansion))
        yield OpCall("conv2d", at, width, self.kernel, self.stride, self.activation, norm=True, role="expand")
        inner = at.after(channels=width, stride=self.stride)
        yield OpCall("conv2d", inner, filters, activation=self.project_activation, norm=True, role="project")
        if self.has_residual(at.channels):
            yield OpCall("add", inner.after(channels=filters), filters, role="residual")

    def has_residual(self, in_channels: int) -> bool:
        """Whether the input is added: stride 1, equal widths, linear projection."""
        return self.stride == 1 and in_channels == self.filters and self.project_activation == "none"


class UIB(_Filtered):
    """Universal inverted bottleneck: [dw] -> 1x1 expand -> [dw] -> 1x1 project -> + input where shapes match.

    `start_dw` and `middle_dw` are kernel sizes, 0 = absent: (0, k) is an inverted bottleneck, (k, 0) ConvNext-like,
    both ExtraDW, none an FFN. Norm behind every convolution; activation behind the expansion and the middle depthwise
    only. The stride sits on the middle depthwise if there is one, else on the start depthwise.
    Source: paper section 3 and the released code (UniversalInvertedBottleneckBlock).
    """

    kind: Literal["uib"] = "uib"
    start_dw: DepthwiseKernel = 0
    middle_dw: DepthwiseKernel = 3
    expansion: Expansion = 4.0
    activation: Activation = "relu"

    @pydantic.model_validator(mode="after")
    def _stride_sits_on_one_depthwise(self) -> UIB:
        start, middle = options_of(self.start_dw), options_of(self.middle_dw)
        if self.stride != 1 and 0 in middle and (len(middle) > 1 or 0 in start):
            raise ValueError(
                f"stride {self.stride} must always sit on the same depthwise layer, but middle_dw may be "
                f"{list(middle)} and start_dw {list(start)}; leave 0 out of middle_dw, or use stride 1"
            )
        return self

    def lower(self, at: Shape) -> Iterator[OpCall]:
        filters, start, middle = _fixed(self.filters), _fixed(self.start_dw), _fixed(self.middle_dw)
        width = expanded_width(at.channels, _fixed(self.expansion))
        x = at
        if start:
            stride = 1 if middle else self.stride
            yield OpCall("depthwise_conv2d", x, x.channels, start, stride, norm=True, role="start_dw")
            x = x.after(channels=x.channels, stride=stride)
        yield OpCall("conv2d", x, width, activation=self.activation, norm=True, role="expand")
        x = x.after(channels=width)
        if middle:
            yield OpCall(
                "depthwise_conv2d", x, width, middle, self.stride, self.activation, norm=True, role="middle_dw"
            )
            x = x.after(channels=width, stride=self.stride)
        yield OpCall("conv2d", x, filters, norm=True, role="project")
        if self.has_residual(at.channels):
            yield OpCall("add", x.after(channels=filters), filters, role="residual")

    def has_residual(self, in_channels: int) -> bool:
        """Whether the input is added: stride 1 and equal widths."""
        return self.stride == 1 and in_channels == self.filters


class Pool(BaseBlock):
    """Global average pooling to 1 x 1."""

    kind: Literal["pool"] = "pool"

    @property
    def spatial_stride(self) -> int:
        return 0

    def lower(self, at: Shape) -> Iterator[OpCall]:
        yield OpCall("mean", at, at.channels, role="pool")


class Classifier(BaseBlock):
    """Dropout, then a dense layer with bias to one logit a class; expects a pooled input."""

    kind: Literal["classifier"] = "classifier"
    classes: Annotated[int, pydantic.Field(ge=2, strict=True)]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0

    @property
    def out_filters(self) -> int:
        return self.classes

    def lower(self, at: Shape) -> Iterator[OpCall]:
        yield OpCall("fully_connected", at, self.classes, bias=True, role="classifier")


Block = Annotated[Conv | FusedIB | UIB | Pool | Classifier, pydantic.Field(discriminator="kind")]
"""Any block; in YAML its `kind` says which."""


def _fixed(value: Any) -> Any:
    if isinstance(value, OneOf):
        raise ValueError(f"the hole {value.name!r} is open: freeze the space before lowering it")
    return value
