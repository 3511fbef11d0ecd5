"""Blocks of the hybrids EfficientViT and Next-ViT, which have no holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

import pydantic

from search_spaces.blocks.base import BaseBlock, Count, Stride, Width, lower_chain, require_frozen
from search_spaces.blocks.classic import AvgPool, Composite, Depthwise, Residual
from search_spaces.blocks.mobile import Conv
from search_spaces.ops import Activation, OpCall, Shape

if TYPE_CHECKING:
    from search_spaces.blocks import Block


class BatchNorm(BaseBlock):
    """Batch norm on its own, where no convolution before it can absorb it.

    Attributes:
      kind: Kind of block.
    """

    kind: Literal["batch_norm"] = "batch_norm"

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield OpCall("batch_norm", at, at.channels, role="norm")


class Concat(Composite):
    """Concatenation of the input and of blocks that keep its height and width.

    [x, blocks(x)] along the channels

    Attributes:
      kind: Kind of block.
      blocks: The blocks of the branch.
    """

    kind: Literal["concat"] = "concat"
    blocks: tuple[Block, ...]

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks of the branch."""
        return self.blocks

    def out_channels(self, in_channels: Width) -> Width:
        """The channels of the input and of the branch."""
        channels = in_channels
        for block in self.blocks:
            channels = block.out_channels(channels)
        return require_frozen(in_channels) + require_frozen(channels)

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check the blocks of the branch; see `BaseBlock.problem`."""
        if channels is None:
            return None
        at = Shape(height, width, channels)
        for index, block in enumerate(self.blocks):
            if problem := block.problem(at.height, at.width, at.channels):
                return f"blocks[{index}].{problem}"
            at = block.after(at)
        if (at.height, at.width) != (height, width):
            return (
                f"blocks: must keep the input's {height} x {width} pixels, but give "
                f"{at.height} x {at.width}"
            )
        return super().problem(height, width, channels)

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        yield from lower_chain(self.blocks, at)
        out = self.after(at)
        other = Shape(at.height, at.width, out.channels - at.channels)
        yield OpCall("concat", at, out.channels, other=other, role="concat")


class LinearAttention(BaseBlock):
    """Attention whose cost is linear in the number of pixels.

    norm(W_o(relu(q) (relu(k)^T v) / (relu(q) (relu(k)^T 1))))

    Queries, keys and values come from one projection. A depthwise convolution of that projection,
    followed by a 1x1 convolution within each head, gives a second set of them, hence twice the
    heads. There is no norm and no bias before the output. A column of ones behind the values of a
    head gives the divisor with the same two products, so those count key_dim + 1 columns.

    Attributes:
      kind: Kind of block.
      heads: Number of heads of one set.
      key_dim: Size of a query, a key and a value.
      kernel: Kernel size of the depthwise convolution.

    Source: EfficientViT (arXiv 2205.14756); the column of ones: released code. That code multiplies
    in the other order where there are no more pixels than `key_dim` (nowhere in its networks at 224
    x 224); this block never does.
    """

    kind: Literal["linear_attention"] = "linear_attention"
    heads: Count
    key_dim: Count
    kernel: Literal[3, 5, 7] = 5

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        heads, size, pixels = 2 * self.heads, self.key_dim, at.height * at.width
        project = OpCall("conv2d", at, 3 * self.heads * size, role="project")
        yield project
        x = project.output
        yield OpCall("depthwise_conv2d", x, x.channels, self.kernel, role="aggregate_dw")
        yield OpCall("conv2d", x, x.channels, groups=3 * self.heads, role="aggregate")
        pair, half = at.after(channels=heads * size), at.after(channels=heads * size // 2)
        yield OpCall(
            "concat", pair, 2 * heads * size, activation="relu", other=pair, role="queries_keys"
        )
        yield OpCall("concat", half, heads * size, other=half, role="values")
        ones = OpCall(
            "concat", pair, heads * (size + 1), other=at.after(channels=heads), role="ones"
        )
        yield ones
        keys = Shape(size, 1, heads * pixels)
        state = OpCall(
            "matmul", keys, heads * (size + 1), other=ones.output, depth=pixels, role="state"
        )
        yield state
        yield OpCall("matmul", pair, heads * (size + 1), other=state.output, depth=size, role="mix")
        yield OpCall("mul", pair, heads * size, other=at.after(channels=heads), role="divide")
        yield OpCall("conv2d", pair, at.channels, norm=True, role="output")


class EfficientViTBlock(Composite):
    """Linear attention, + input; then 1x1, depthwise 3x3, 1x1, + input.

    Of the three convolutions, only the last one has a norm.

    Attributes:
      kind: Kind of block.
      heads: Number of heads of one set, see `LinearAttention`.
      key_dim: Size of a query, a key and a value.
      expanded: Channels behind the first 1x1 convolution.
      kernel: Kernel size of the depthwise convolution in the attention.
      activation: Activation of the convolutions.

    Source: EfficientViT (arXiv 2205.14756, the "EfficientViT module"); norms and biases: released
    code.
    """

    kind: Literal["efficientvit"] = "efficientvit"
    heads: Count
    key_dim: Count
    expanded: Count
    kernel: Literal[3, 5, 7] = 5
    activation: Activation = "hard_swish"

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks that the block stands for; see `Composite.parts`."""
        attention = LinearAttention(heads=self.heads, key_dim=self.key_dim, kernel=self.kernel)
        local = (
            Conv(
                filters=self.expanded, kernel=1, activation=self.activation, norm="none", bias=True
            ),
            Depthwise(activation=self.activation, norm="none", bias=True),
            Conv(filters=in_channels, kernel=1, activation="none"),
        )
        return Residual(blocks=(attention,)), Residual(blocks=local)


class PooledAttention(BaseBlock):
    """Attention with keys and values of pooled pixels.

    W_o(concat over heads of softmax(q k^T / sqrt(key_dim)) v), all W with bias

    A `reduction` of r > 1 averages every r^2 pixels that follow each other row by row, and norms
    them, before the projections to keys and to values. Seen as an image r pixels wide, which costs
    nothing, those are its r x r windows.

    Attributes:
      kind: Kind of block.
      heads: Number of heads.
      key_dim: Size of a query, a key and a value.
      reduction: Square root r of the number of pixels that are averaged.

    Source: E-MHSA of Next-ViT (arXiv 2207.05501); which pixels are averaged, norm and biases:
    released code.
    """

    kind: Literal["pooled_attention"] = "pooled_attention"
    heads: Count
    key_dim: Count = 32
    reduction: Count = 1

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check the reduction; see `BaseBlock.problem`."""
        if height * width % self.reduction**2:
            pixels = f"{height} x {width} pixels"
            return (
                f"reduction: got {self.reduction}, whose square must divide the number of the "
                f"input's {pixels}"
            )
        return super().problem(height, width, channels)

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        query = OpCall("conv2d", at, self.heads * self.key_dim, bias=True, role="query")
        yield query
        kv = at
        if (r := self.reduction) > 1:
            narrow = Shape(at.height * at.width // r, r, at.channels)
            pool = OpCall("avg_pool", narrow, at.channels, r, r, norm=True, role="pool")
            yield pool
            kv = pool.output
        key = OpCall("conv2d", kv, query.out_channels, bias=True, role="key")
        yield key
        yield dataclasses.replace(key, role="value")
        pixels = kv.height * kv.width
        scores = OpCall(
            "matmul",
            query.output,
            self.heads * pixels,
            other=key.output,
            depth=self.key_dim,
            role="scores",
        )
        yield scores
        yield OpCall("softmax", scores.output, scores.out_channels, role="softmax")
        mix = OpCall(
            "matmul", scores.output, query.out_channels, other=key.output, depth=pixels, role="mix"
        )
        yield mix
        yield OpCall("conv2d", mix.output, at.channels, bias=True, role="output")


class _NextBlock(Composite):
    """Base of both blocks of Next-ViT.

    Attributes:
      filters: Channels of the output.
      stride: Factor by which the block divides height and width.
      head_dim: Channels of a head of attention.
    """

    filters: Count
    stride: Stride = 1
    head_dim: Count = 32

    @pydantic.model_validator(mode="after")
    def _heads_fill_the_width(self) -> Self:
        _check_heads("filters", self.filters, self.head_dim)
        return self

    @property
    def spatial_stride(self) -> int:
        """The block's stride."""
        return self.stride

    def out_channels(self, in_channels: Width) -> Width:
        """The block's filters."""
        return self.filters


class NextConvBlock(_NextBlock):
    """[embed] -> convolutional attention -> feed-forward to 3 times the width.

    The last two have a residual connection. Embed: 2x2 mean where there is a stride, then a 1x1 to
    `filters`; nothing where width and size stay. Convolutional attention: 3x3 in groups of
    `head_dim` channels, norm, ReLU, 1x1. Feed-forward: norm, 1x1, ReLU, 1x1 back, with biases.

    Attributes:
      kind: Kind of block.

    Source: Next-ViT (arXiv 2207.05501), the released code's form in training.
    """

    kind: Literal["next_conv"] = "next_conv"

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks that the block stands for; see `Composite.parts`."""
        return (
            *_embed(in_channels, self.filters, self.stride),
            _convolutional_attention(self.filters, self.head_dim),
            _feed_forward(self.filters, 3 * self.filters),
        )


class NextTransformerBlock(_NextBlock):
    """[embed] -> pooled attention -> [x, local(x)] -> feed-forward to twice the width.

    Attention (behind a norm) and feed-forward have a residual connection. The first embedding is to
    `attention_filters`; `local` embeds to the channels that are missing to `filters` and applies
    convolutional attention. `NextConvBlock` explains the terms.

    Attributes:
      kind: Kind of block.
      attention_filters: Channels of the attention.
      reduction: Reduction of the attention's keys and values, see `PooledAttention`.

    Source: Next-ViT (arXiv 2207.05501), the released code's form in training.
    """

    kind: Literal["next_transformer"] = "next_transformer"
    attention_filters: Count
    reduction: Count = 1

    @pydantic.model_validator(mode="after")
    def _attention_leaves_channels(self) -> Self:
        if self.attention_filters >= self.filters:
            raise ValueError(
                f"attention_filters: got {self.attention_filters}, must be below filters "
                f"({self.filters})"
            )
        _check_heads("attention_filters", self.attention_filters, self.head_dim)
        return self

    @property
    def attention(self) -> PooledAttention:
        """The attention inside the block."""
        heads = self.attention_filters // self.head_dim
        return PooledAttention(heads=heads, key_dim=self.head_dim, reduction=self.reduction)

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check the attention inside the block; see `BaseBlock.problem`."""
        at = Shape(height, width, self.attention_filters).after(
            channels=self.attention_filters, stride=self.stride
        )
        return super().problem(height, width, channels) or self.attention.problem(
            at.height, at.width, at.channels
        )

    def parts(self, in_channels: int) -> tuple[BaseBlock, ...]:
        """The blocks that the block stands for; see `Composite.parts`."""
        attended, local = self.attention_filters, self.filters - self.attention_filters
        return (
            *_embed(in_channels, attended, self.stride),
            Residual(blocks=(BatchNorm(), self.attention)),
            Concat(
                blocks=(*_embed(attended, local, 1), _convolutional_attention(local, self.head_dim))
            ),
            _feed_forward(self.filters, 2 * self.filters),
        )


def _embed(in_channels: int, filters: int, stride: Stride) -> tuple[AvgPool | Conv, ...]:
    if stride == 1 and in_channels == filters:
        return ()
    return (
        *((AvgPool(),) if stride == 2 else ()),
        Conv(filters=filters, kernel=1, activation="none"),
    )


def _convolutional_attention(channels: int, head_dim: int) -> Residual:
    mix = Conv(filters=channels, groups=channels // head_dim)
    return Residual(blocks=(mix, Conv(filters=channels, kernel=1, activation="none", norm="none")))


def _feed_forward(channels: int, hidden: int) -> Residual:
    expand = Conv(filters=hidden, kernel=1, norm="none", bias=True)
    return Residual(
        blocks=(
            BatchNorm(),
            expand,
            Conv(filters=channels, kernel=1, activation="none", norm="none", bias=True),
        )
    )


def _check_heads(field: str, channels: int, head_dim: int) -> None:
    if channels % head_dim:
        raise ValueError(
            f"{field}: got {channels}, which must be a multiple of head_dim ({head_dim})"
        )
