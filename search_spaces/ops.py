"""Primitive operations: what a network is made of when it runs, and what each one counts."""

from __future__ import annotations

import dataclasses
from typing import Literal

OpKind = Literal[
    "conv2d",
    "depthwise_conv2d",
    "fully_connected",
    "matmul",
    "softmax",
    "batch_norm",
    "layer_norm",
    "mean",
    "avg_pool",
    "max_pool",
    "resize",
    "add",
    "mul",
    "concat",
]
Activation = Literal["relu", "relu6", "gelu", "hard_swish", "swish", "sigmoid", "hard_sigmoid", "none"]


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
      kind: the primitive. A norm behind a convolution is folded into it (`norm`), an activation is fused; `batch_norm`
        is one that cannot be folded.
      input: shape of the (first) input.
      out_channels: channels of the output.
      kernel: side of the square kernel, 1 where there is none.
      stride: of the kernel; `mean` reduces all of h and w, `resize` multiplies them.
      activation: fused activation.
      norm: whether a batch norm follows (2 parameters a channel in training).
      bias: whether the operation has a bias of its own.
      scale: whether a learned factor a channel (layer scale) follows, which inference folds.
      groups: of a conv2d; a depthwise convolution has as many as input channels.
      other: shape of the second input of matmul, add, mul, concat, if it is not that of the first.
      depth: how many products each output element of a matmul sums.
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
    scale: bool = False
    groups: int = 1
    other: Shape | None = None
    depth: int = 0
    block: int = dataclasses.field(default=-1, compare=False)
    role: str = dataclasses.field(default="", compare=False)

    @property
    def output(self) -> Shape:
        """Shape of the output."""
        if self.kind == "mean":
            return Shape(1, 1, self.out_channels)
        if self.kind == "resize":
            return Shape(self.input.height * self.stride, self.input.width * self.stride, self.out_channels)
        return self.input.after(channels=self.out_channels, stride=self.stride)

    @property
    def weights(self) -> int:
        """Elements of the kernel: k*k*c_in/groups*c_out, k*k*c_out of a depthwise one, 0 without a kernel."""
        if self.kind == "depthwise_conv2d":
            return self.kernel**2 * self.out_channels
        if self.kind in ("conv2d", "fully_connected"):
            return self.kernel**2 * self.input.channels // self.groups * self.out_channels
        return 0

    @property
    def params(self) -> int:
        """Trainable parameters: weights; a channel: 2 for a norm, 1 for the bias, 1 for the layer scale."""
        norms = 2 * (self.norm + (self.kind in ("batch_norm", "layer_norm")))
        return self.weights + self.out_channels * (norms + self.bias + self.scale)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image: of weights (kernel * output pixels), or of a product of activations."""
        return (self.weights + self.out_channels * self.depth) * self.output.height * self.output.width

    @property
    def input_elements(self) -> int:
        """Values read, without weights: of the first input, and of a matmul's second."""
        return self.input.elements + (self.other.elements if self.kind == "matmul" and self.other else 0)

    @property
    def folded(self) -> OpCall:
        """The operation as a device runs it, a key of latency tables: norm, bias and layer scale folded, no origin."""
        return dataclasses.replace(self, norm=False, bias=False, scale=False, block=-1, role="")

    @property
    def text(self) -> str:
        """In a few words, for people: "conv2d 3x3 s2 [224, 224, 3] to 32 relu"."""
        kernel = f" {self.kernel}x{self.kernel}" if self.weights else ""
        stride = f" s{self.stride}" if self.stride > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        activation = f" {self.activation}" if self.activation != "none" else ""
        at = f"[{self.input.height}, {self.input.width}, {self.input.channels}]"
        return f"{self.kind}{kernel}{stride}{groups} {at} to {self.out_channels}{activation}"

    @property
    def intensity(self) -> float:
        """Operational intensity: MACs / (weight bytes + input bytes), one byte an element; 0 without MACs.

        Source: paper section 3.
        """
        return self.macs / (self.weights + self.input_elements) if self.macs else 0.0
