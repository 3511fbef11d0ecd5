"""Primitive operations: what a network is made of when it runs, and what each one counts."""

from __future__ import annotations

import dataclasses
from typing import Literal

OpKind = Literal["conv2d", "depthwise_conv2d", "fully_connected", "mean", "add"]
Activation = Literal["relu", "gelu", "none"]


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of `divisor`, never below `divisor` and never by more than 10 % downwards.

    Source: the MobileNet reference code (`make_divisible`), used by MobileNetV4 for filters and expanded widths.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Size of one image inside a network: height and width in pixels, and channels."""

    height: int
    width: int
    channels: int

    @property
    def elements(self) -> int:
        """Number of values: h * w * c."""
        return self.height * self.width * self.channels

    def after(self, *, channels: int, stride: int = 1) -> Shape:
        """The shape behind an operation with "SAME" padding: ceil(h / stride), ceil(w / stride), `channels`."""
        return Shape(-(-self.height // stride), -(-self.width // stride), channels)


@dataclasses.dataclass(frozen=True, slots=True)
class OpCall:
    """One primitive operation on one image; every field but `block` and `role` is part of its identity in tables.

    Attributes:
      kind: the primitive. A norm behind a convolution is folded into it (`norm`), an activation is fused.
      input: shape of the (first) input.
      out_channels: channels of the output.
      kernel: side of the square kernel, 1 where there is none.
      stride: of the kernel; `mean` reduces all of h and w.
      activation: fused activation.
      norm: whether a batch norm follows (2 parameters a channel in training).
      bias: whether the operation has a bias of its own.
      block: index of the block in `spec.blocks` that it comes from.
      role: what it does in its block ("expand", "middle_dw", ...).
    """

    kind: OpKind
    input: Shape
    out_channels: int
    kernel: int = 1
    stride: int = 1
    activation: Activation = "none"
    norm: bool = False
    bias: bool = False
    block: int = dataclasses.field(default=-1, compare=False)
    role: str = dataclasses.field(default="", compare=False)

    @property
    def output(self) -> Shape:
        """Shape of the output."""
        if self.kind == "mean":
            return Shape(1, 1, self.out_channels)
        return self.input.after(channels=self.out_channels, stride=self.stride)

    @property
    def weights(self) -> int:
        """Elements of the kernel: k*k*c_in*c_out, k*k*c for a depthwise convolution, 0 for operations without one."""
        if self.kind == "depthwise_conv2d":
            return self.kernel**2 * self.out_channels
        if self.kind in ("conv2d", "fully_connected"):
            return self.kernel**2 * self.input.channels * self.out_channels
        return 0

    @property
    def params(self) -> int:
        """Trainable parameters: weights, 2 a channel for the norm, 1 a channel for the bias."""
        return self.weights + self.out_channels * (2 * self.norm + self.bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers for one image: weights * output pixels."""
        return self.weights * self.output.height * self.output.width
