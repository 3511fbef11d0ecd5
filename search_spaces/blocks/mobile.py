"""The convolutional blocks of MobileNetV4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic

from search_spaces.blocks.base import (
    BaseBlock,
    DepthwiseKernel,
    Expansion,
    Filtered,
    Kernel,
    LayerScale,
    Width,
    require_frozen,
)
from search_spaces.choice import options_of
from search_spaces.ops import Activation, OpCall, Shape, make_divisible


def expanded_width(in_channels: int, expansion: float) -> int:
    """Number of channels inside an inverted bottleneck.

    make_divisible(in_channels * expansion, 8)

    Args:
      in_channels: Channels of the block's input.
      expansion: Expansion ratio.

    Returns:
      Channels.
    """
    return make_divisible(in_channels * expansion)


class Conv(Filtered):
    """k x k convolution, batch norm (or none), activation.

    Attributes:
      kind: Kind of block.
      kernel: Kernel size k.
      activation: Activation.
      norm: Norm behind the convolution.
      bias: Whether the convolution has a bias.
      groups: Number of groups of channels that the convolution treats separately.
    """

    kind: Literal["conv"] = "conv"
    kernel: Kernel = 3
    activation: Activation = "relu"
    norm: Literal["batch", "none"] = "batch"
    bias: Annotated[bool, pydantic.Field(strict=True)] = False
    groups: Annotated[int, pydantic.Field(ge=1, strict=True)] = 1

    @property
    def takes_any_width(self) -> bool:
        """Whether there is one group only: a supernet can mask the channels of the input."""
        return self.groups == 1

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check the groups; see `BaseBlock.problem`."""
        for name, count in (("input channels", channels), ("filters", self.filters)):
            if self.groups > 1 and (not isinstance(count, int) or count % self.groups):
                return f"groups: got {self.groups}, which must divide the {name} ({count})"
        return super().problem(height, width, channels)

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall(
            "conv2d",
            at,
            require_frozen(self.filters),
            self.kernel,
            self.stride,
            self.activation,
            norm=self.norm == "batch",
            bias=self.bias,
            groups=self.groups,
            role="conv",
        )


class FusedIB(Filtered):
    """Fused inverted bottleneck: k x k convolution to the expanded width, 1x1 projection.

    The convolution has the stride; norms follow both. The input is added where shapes match and the
    projection is linear.

    Attributes:
      kind: Kind of block.
      kernel: Kernel size k.
      expansion: Expansion ratio, see `expanded_width`.
      activation: Activation behind the k x k convolution.
      project_activation: Activation behind the projection; "relu" in the published Conv-S only.

    Source: paper section 3; activation behind Conv-S's 1x1 from the released code.
    """

    kind: Literal["fused_ib"] = "fused_ib"
    kernel: Kernel = 3
    expansion: Expansion = 4.0
    activation: Activation = "relu"
    project_activation: Activation = "none"

    @property
    def takes_any_width(self) -> bool:
        """True: a supernet can mask the channels of the input."""
        return True

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        filters = require_frozen(self.filters)
        width = expanded_width(at.channels, require_frozen(self.expansion))
        yield OpCall(
            "conv2d", at, width, self.kernel, self.stride, self.activation, norm=True, role="expand"
        )
        inner = at.after(channels=width, stride=self.stride)
        yield OpCall(
            "conv2d", inner, filters, activation=self.project_activation, norm=True, role="project"
        )
        if self.has_residual(at.channels):
            yield OpCall("add", inner.after(channels=filters), filters, role="residual")

    def has_residual(self, in_channels: int) -> bool:
        """Whether the input is added: stride 1, equal widths, linear projection.

        Args:
          in_channels: Channels of the input.

        Returns:
          Whether there is a residual connection.
        """
        return (
            self.stride == 1 and in_channels == self.filters and self.project_activation == "none"
        )


class UIB(Filtered):
    """Universal inverted bottleneck: [dw] -> 1x1 expand -> [dw] -> 1x1 project.

    The input is added where shapes match. With (start_dw, middle_dw) the block is an inverted
    bottleneck (0, k), ConvNext-like (k, 0), ExtraDW (k, k), or an FFN (0, 0). A norm follows every
    convolution; an activation follows the expansion and the middle depthwise layer only. The stride
    sits on the middle depthwise layer if there is one, else on the start depthwise layer.

    Attributes:
      kind: Kind of block.
      start_dw: Kernel size of the depthwise layer before the expansion; 0 leaves it out.
      middle_dw: Kernel size of the depthwise layer behind the expansion; 0 leaves it out.
      expansion: Expansion ratio, see `expanded_width`.
      activation: Activation.
      layer_scale: Initial value of the per-channel scale on the projection (hybrids: 1e-5).

    Source: paper section 3 and the released code (UniversalInvertedBottleneckBlock).
    """

    kind: Literal["uib"] = "uib"
    start_dw: DepthwiseKernel = 0
    middle_dw: DepthwiseKernel = 3
    expansion: Expansion = 4.0
    activation: Activation = "relu"
    layer_scale: LayerScale = None

    @property
    def takes_any_width(self) -> bool:
        """True: a supernet can mask the channels of the input."""
        return True

    @pydantic.model_validator(mode="after")
    def _stride_sits_on_one_depthwise(self) -> UIB:
        start, middle = options_of(self.start_dw), options_of(self.middle_dw)
        if self.stride != 1 and 0 in middle and (len(middle) > 1 or 0 in start):
            raise ValueError(
                f"stride {self.stride} must always sit on the same depthwise layer, but middle_dw "
                f"may be {list(middle)} and start_dw {list(start)}; leave 0 out of middle_dw, or "
                "use stride 1"
            )
        return self

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        filters, start, middle = (
            require_frozen(self.filters),
            require_frozen(self.start_dw),
            require_frozen(self.middle_dw),
        )
        width = expanded_width(at.channels, require_frozen(self.expansion))
        x = at
        if start:
            stride = 1 if middle else self.stride
            yield OpCall(
                "depthwise_conv2d", x, x.channels, start, stride, norm=True, role="start_dw"
            )
            x = x.after(channels=x.channels, stride=stride)
        yield OpCall("conv2d", x, width, activation=self.activation, norm=True, role="expand")
        x = x.after(channels=width)
        if middle:
            yield OpCall(
                "depthwise_conv2d",
                x,
                width,
                middle,
                self.stride,
                self.activation,
                norm=True,
                role="middle_dw",
            )
            x = x.after(channels=width, stride=self.stride)
        yield OpCall(
            "conv2d", x, filters, norm=True, scale=self.layer_scale is not None, role="project"
        )
        if self.has_residual(at.channels):
            yield OpCall("add", x.after(channels=filters), filters, role="residual")

    def has_residual(self, in_channels: int) -> bool:
        """Whether the input is added: stride 1 and equal widths.

        Args:
          in_channels: Channels of the input.

        Returns:
          Whether there is a residual connection.
        """
        return self.stride == 1 and in_channels == self.filters


class Pool(BaseBlock):
    """Global average pooling to 1 x 1.

    Attributes:
      kind: Kind of block.
    """

    kind: Literal["pool"] = "pool"

    @property
    def takes_any_width(self) -> bool:
        """True: a supernet can mask the channels of the input."""
        return True

    @property
    def spatial_stride(self) -> int:
        """0: height and width become 1."""
        return 0

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall("mean", at, at.channels, role="pool")


class Classifier(BaseBlock):
    """Dropout, then a dense layer with bias to one logit for each class; expects a pooled input.

    Attributes:
      kind: Kind of block.
      classes: Number of classes.
      dropout: Dropout rate.
    """

    kind: Literal["classifier"] = "classifier"
    classes: Annotated[int, pydantic.Field(ge=2, strict=True)]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0

    @property
    def takes_any_width(self) -> bool:
        """True: a supernet can mask the channels of the input."""
        return True

    def out_channels(self, in_channels: Width) -> Width:
        """The number of classes."""
        return self.classes

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall("fully_connected", at, self.classes, bias=True, role="classifier")
