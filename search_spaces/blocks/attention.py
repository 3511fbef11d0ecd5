"""Attention over the pixels of an image: Mobile MQA, and MHSA for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic

from search_spaces.blocks.base import (
    BaseBlock,
    Count,
    LayerScale,
    Size,
    Stride,
    StrideChoice,
    require_frozen,
)
from search_spaces.choice import options_of
from search_spaces.ops import OpCall, Shape


class Attention(BaseBlock):
    """Base of MQA and MHSA.

    x + layer_scale * W_o(concat over heads of softmax(q k^T / sqrt(key_dim)) v)

    The input is batch-normed first; projections have no bias and no norm.

    Attributes:
      heads: Number of heads.
      key_dim: Size of a query and a key.
      value_dim: Size of a value; None for that of a key.
      kv_stride: 2 puts a depthwise convolution with norm before the projection to keys, and another
        before that to values; 1 puts nothing there.
      kv_kernel: Kernel size of these depthwise convolutions.
      query_stride: 2 averages pixels (and norms them) before the queries, and resizes the result
        back (bilinear).
      output_bias: Whether the output projection has a bias.
      layer_scale: Initial value of the per-channel scale on the branch.

    Source: paper section 3 and equation 2; norms, the two separate depthwise layers and the query
    path: released code.
    """

    heads: Size
    key_dim: Size
    value_dim: Count | None = None
    kv_stride: StrideChoice = 1
    kv_kernel: Literal[3, 5] = 3
    query_stride: Stride = 1
    output_bias: Annotated[bool, pydantic.Field(strict=True)] = False
    layer_scale: LayerScale = None

    @property
    def takes_any_width(self) -> bool:
        """True: a supernet can mask the channels of the input."""
        return True

    @property
    def shares_keys(self) -> bool:
        """Whether all heads use the same keys and values."""
        raise NotImplementedError

    def problem(self, height: int, width: int, channels: int | None) -> str | None:
        """Check the strides; see `BaseBlock.problem`."""
        if max(height, width) == 1:
            return "kind: attention needs more than one pixel; put it before the pooling"
        if self.query_stride > 1 and (height % self.query_stride or width % self.query_stride):
            return (
                f"query_stride: got {self.query_stride}, which must divide the input's "
                f"{height} x {width} pixels"
            )
        if 2 in options_of(self.kv_stride) and min(height, width) < 2:
            return f"kv_stride: got 2 on an input of {height} x {width} pixels; use 1"
        return super().problem(height, width, channels)

    def lower(self, at: Shape) -> Iterator[OpCall]:
        """Lower the block to its operations; see `BaseBlock.lower`."""
        heads, key_dim, kv_stride = (
            require_frozen(self.heads),
            require_frozen(self.key_dim),
            require_frozen(self.kv_stride),
        )
        value_dim = self.value_dim or key_dim
        kv_heads = 1 if self.shares_keys else heads
        yield OpCall("batch_norm", at, at.channels, role="norm")
        x = at
        if self.query_stride > 1:
            pool = OpCall(
                "avg_pool",
                x,
                x.channels,
                self.query_stride,
                self.query_stride,
                norm=True,
                role="query_pool",
            )
            yield pool
            x = pool.output
        query = OpCall("conv2d", x, heads * key_dim, role="query")
        yield query
        sides = {}
        for side, size in (("key", key_dim), ("value", value_dim)):
            kv = at
            if kv_stride > 1:
                reduce = OpCall(
                    "depthwise_conv2d",
                    at,
                    at.channels,
                    self.kv_kernel,
                    kv_stride,
                    norm=True,
                    role=f"{side}_dw",
                )
                yield reduce
                kv = reduce.output
            projection = OpCall("conv2d", kv, kv_heads * size, role=side)
            yield projection
            sides[side] = projection.output
        pixels = sides["key"].height * sides["key"].width
        scores = OpCall(
            "matmul", query.output, heads * pixels, other=sides["key"], depth=key_dim, role="scores"
        )
        yield scores
        yield OpCall("softmax", scores.output, scores.out_channels, role="softmax")
        mixed = OpCall(
            "matmul",
            scores.output,
            heads * value_dim,
            other=sides["value"],
            depth=pixels,
            role="mix",
        )
        yield mixed
        y = mixed.output
        if self.query_stride > 1:
            resize = OpCall("resize", y, y.channels, stride=self.query_stride, role="resize")
            yield resize
            y = resize.output
        scale = self.layer_scale is not None
        yield OpCall("conv2d", y, at.channels, bias=self.output_bias, scale=scale, role="output")
        yield OpCall("add", at, at.channels, role="residual")


class MQA(Attention):
    """Mobile multi-query attention: all heads share one key and one value per pixel.

    Attributes:
      kind: Kind of block.
    """

    kind: Literal["mqa"] = "mqa"

    @property
    def shares_keys(self) -> bool:
        """True: there is one key per pixel."""
        return True


class MHSA(Attention):
    """Multi-head self-attention: every head has keys and values of its own.

    Attributes:
      kind: Kind of block.
    """

    kind: Literal["mhsa"] = "mhsa"

    @property
    def shares_keys(self) -> bool:
        """False: there is one key per pixel and head."""
        return False
