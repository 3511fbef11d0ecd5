"""Blocks of other published networks, which can be built and exported but have no holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from search_spaces.blocks.base import (
    BaseBlock,
    Count,
    Filtered,
    Kernel,
    LayerScale,
    Stride,
    Width,
    lower_chain,
    require_frozen,
)
from search_spaces.blocks.mobile import Conv
from search_spaces.ops import Activation, OpCall, Shape

if TYPE_CHECKING:
    from search_spaces.blocks import Block

_Norm = Literal["batch", "none"]
_Flag = Annotated[bool, pydantic.Field(strict=True)]


class Depthwise(BaseBlock):
    """k x k depthwise convolution, norm, activation.

    Attributes:
      kind: Kind of block.
      kernel: Kernel size k.
      stride: Factor by which the block divides height and width.
      multiplier: Number of output channels for every input channel.
      activation: Activation.
      norm: Norm behind the convolution.
      bias: Whether the convolution has a bias.
    """

    kind: Literal["depthwise"] = "depthwise"
    kernel: Kernel = 3
    stride: Stride = 1
    multiplier: Count = 1
    activation: Activation = "relu"
    norm: _Norm = "batch"
    bias: _Flag = False

    @property
    def spatial_stride(self) -> int:
        """The block's stride."""
        return self.stride

    def out_channels(self, in_channels: Width) -> Width:
        """The input's channels times the multiplier."""
        return require_frozen(in_channels) * self.multiplier

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall(
            "depthwise_conv2d",
            at,
            at.channels * self.multiplier,
            self.kernel,
            self.stride,
            self.activation,
            norm=self.norm == "batch",
            bias=self.bias,
            role="depthwise",
        )


class PatchConv(BaseBlock):
    """Convolution of patches that do not overlap.

    Attributes:
      kind: Kind of block.
      filters: Channels of the output.
      size: Height and width of a patch in pixels.
      activation: Activation.
      norm: Norm behind the convolution.
      bias: Whether the convolution has a bias.
    """

    kind: Literal["patch_conv"] = "patch_conv"
    filters: Count
    size: Literal[2, 4]
    activation: Activation = "none"
    norm: _Norm = "none"
    bias: _Flag = True

    @property
    def spatial_stride(self) -> int:
        """The size of a patch."""
        return self.size

    def out_channels(self, in_channels: Width) -> Width:
        """The block's filters."""
        return self.filters

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check that the patches tile the input; see `BaseBlock.problem`."""
        if height % self.size or width % self.size:
            return (
                f"size: patches of {self.size} pixels do not tile an input of "
                f"{height} x {width} pixels"
            )
        return super().problem(height, width, channels)

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall(
            "conv2d",
            at,
            self.filters,
            self.size,
            self.size,
            self.activation,
            norm=self.norm == "batch",
            bias=self.bias,
            role="conv",
        )


class LayerNorm(BaseBlock):
    """Norm over the channels of each pixel, then perhaps an activation.

    Attributes:
      kind: Kind of block.
      activation: Activation.
    """

    kind: Literal["layer_norm"] = "layer_norm"
    activation: Activation = "none"

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall("layer_norm", at, at.channels, activation=self.activation, role="norm")


class AvgPool(BaseBlock):
    """Mean of 2 x 2 pixels, stride 2.

    Attributes:
      kind: Kind of block.
    """

    kind: Literal["avg_pool"] = "avg_pool"

    @property
    def spatial_stride(self) -> int:
        """2."""
        return 2

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall("avg_pool", at, at.channels, 2, 2, role="pool")


class SqueezeExcite(BaseBlock):
    """Squeeze-and-excite: channels weighted by a function of their means over the image.

    x * gate(W_2 activation(W_1 mean(x))), both W with bias

    Attributes:
      kind: Kind of block.
      reduced: Channels between W_1 and W_2.
      activation: Activation behind W_1.
      gate: Activation behind W_2.
      output_activation: Activation of the product, for networks that normalise, then squeeze, then
        activate.
    """

    kind: Literal["squeeze_excite"] = "squeeze_excite"
    reduced: Count
    activation: Activation = "relu"
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"
    output_activation: Activation = "none"

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall("mean", at, at.channels, role="squeeze")
        one = Shape(1, 1, at.channels)
        yield OpCall(
            "fully_connected",
            one,
            self.reduced,
            activation=self.activation,
            bias=True,
            role="reduce",
        )
        one = Shape(1, 1, self.reduced)
        yield OpCall(
            "fully_connected", one, at.channels, activation=self.gate, bias=True, role="expand"
        )
        gates = Shape(1, 1, at.channels)
        yield OpCall(
            "mul", at, at.channels, activation=self.output_activation, other=gates, role="excite"
        )


class Composite(BaseBlock):
    """Base of blocks that stand for a chain of others."""

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks that the block stands for.

        Args:
          in_channels: Channels of the input.

        Returns:
          The blocks, in order.
        """
        raise NotImplementedError

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield from lower_chain(self.parts(at.channels), at)


class Residual(BaseBlock):
    """Residual connection around blocks that keep the shape.

    x + layer_scale * blocks(x)

    Attributes:
      kind: Kind of block.
      blocks: The blocks of the branch.
      layer_scale: Initial value of the per-channel scale on the branch.
    """

    kind: Literal["residual"] = "residual"
    blocks: tuple[Block, ...]
    layer_scale: LayerScale = None

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check the blocks of the branch; see `BaseBlock.problem`."""
        if channels is None:
            return None
        start = at = Shape(height, width, channels)
        for index, block in enumerate(self.blocks):
            if problem := block.problem(at.height, at.width, at.channels):
                return f"blocks[{index}].{problem}"
            at = block.after(at)
        if at != start:
            return (
                "blocks: a residual needs an output like its input, but "
                f"{_text(start)} becomes {_text(at)}"
            )
        return super().problem(height, width, channels)

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        *ops, last = lower_chain(self.blocks, at)
        yield from ops
        yield dataclasses.replace(last, scale=self.layer_scale is not None)
        yield OpCall("add", at, at.channels, role="residual")


class MBConv(Composite, Filtered):
    """Inverted bottleneck with absolute widths: [1x1] -> depthwise -> [squeeze-excite] -> 1x1.

    The input is added where shapes match.

    Attributes:
      kind: Kind of block.
      kernel: Kernel size of the depthwise convolution.
      expanded: Channels behind the first 1x1 convolution; 0 leaves it out.
      squeeze: Channels inside the squeeze-excite; 0 leaves it out.
      activation: Activation behind the first 1x1 and the depthwise convolution.
      squeeze_activation: Activation inside the squeeze-excite.
      gate: Last activation of the squeeze-excite.

    Source: MobileNetV2 (arXiv 1801.04381), MobileNetV3 (1905.02244), EfficientNet (1905.11946).
    """

    kind: Literal["mbconv"] = "mbconv"
    kernel: Kernel = 3
    expanded: Annotated[int, pydantic.Field(ge=0, strict=True)]
    squeeze: Annotated[int, pydantic.Field(ge=0, strict=True)] = 0
    activation: Activation = "relu6"
    squeeze_activation: Activation = "relu"
    gate: Literal["sigmoid", "hard_sigmoid"] = "sigmoid"

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks that the block stands for; see `Composite.parts`."""
        filters = require_frozen(self.filters)
        expand = (
            (Conv(filters=self.expanded, kernel=1, activation=self.activation),)
            if self.expanded
            else ()
        )
        squeeze = (
            (
                SqueezeExcite(
                    reduced=self.squeeze, activation=self.squeeze_activation, gate=self.gate
                ),
            )
            if self.squeeze
            else ()
        )
        body = (
            *expand,
            Depthwise(kernel=self.kernel, stride=self.stride, activation=self.activation),
            *squeeze,
            Conv(filters=filters, kernel=1, activation="none"),
        )
        return (Residual(blocks=body),) if self.stride == 1 and filters == in_channels else body


class ConvNeXtBlock(Composite):
    """Depthwise 7x7, layer norm, 1x1 to 4 times the width, GELU, 1x1 back, layer scale, + input.

    Attributes:
      kind: Kind of block.

    Source: ConvNeXt (arXiv 2201.03545).
    """

    kind: Literal["convnext"] = "convnext"

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks that the block stands for; see `Composite.parts`."""
        body = (
            Depthwise(kernel=7, activation="none", norm="none", bias=True),
            LayerNorm(),
            Conv(filters=4 * in_channels, kernel=1, activation="gelu", norm="none", bias=True),
            Conv(filters=in_channels, kernel=1, activation="none", norm="none", bias=True),
        )
        return (Residual(blocks=body, layer_scale=1e-6),)


def _text(shape: Shape) -> str:
    return f"[{shape.height}, {shape.width}, {shape.channels}]"
