"""Primitive operations: what a network is made of when it runs, and the counts of each one."""

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
Activation = Literal[
    "relu", "relu6", "gelu", "hard_swish", "swish", "sigmoid", "hard_sigmoid", "none"
]

Padding = Literal["same", "symmetric"]
"""Zeros around the input of a convolution, so that it has ceil(n / stride) outputs along an axis.

"same" is TensorFlow's: as many as the windows need, the odd one at the end. "symmetric" is
PyTorch's, k // 2 at each end, of which the last one may meet no window: the odd one comes first.
They differ where n is even and the stride 2.
"""


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of a divisor, by at most 10 % downwards.

    Args:
      value: Channel count.
      divisor: The divisor, which is also the smallest result.

    Returns:
      The multiple of `divisor`.

    Source: the MobileNet reference code (`make_divisible`), used by MobileNetV4 for filters and
    expanded widths.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Size of one image inside a network.

    Attributes:
      height: Height in pixels.
      width: Width in pixels.
      channels: Number of channels.
    """

    height: int
    width: int
    channels: int

    @property
    def elements(self) -> int:
        """Number of values: h * w * c."""
        return self.height * self.width * self.channels

    def after(self, *, channels: int, stride: int = 1) -> Shape:
        """The shape behind an operation with "SAME" padding.

        Args:
          channels: Channels of the operation's output.
          stride: Stride of the operation.

        Returns:
          ceil(h / stride), ceil(w / stride), `channels`.
        """
        return Shape(-(-self.height // stride), -(-self.width // stride), channels)


@dataclasses.dataclass(frozen=True, slots=True)
class OpCall:
    """One primitive operation on one image.

    Every field but `block` and `role` is part of the operation's identity in tables.

    Attributes:
      kind: The primitive. A norm behind a convolution is folded into it (`norm`), and an activation
        is fused; `batch_norm` is one that cannot be folded.
      input: Shape of the (first) input.
      out_channels: Channels of the output.
      kernel: Side of the square kernel, 1 where there is none.
      stride: Stride of the kernel; `mean` reduces all of h and w, `resize` multiplies them.
      activation: Fused activation.
      norm: Whether a batch norm follows (2 parameters for each channel in training).
      bias: Whether the operation has a bias of its own.
      scale: Whether a per-channel scale (layer scale) follows, which inference folds.
      groups: Groups of a conv2d; a depthwise convolution has as many as input channels.
      other: Shape of the second input of matmul, add, mul, concat, if it is not that of the first.
      depth: Number of products that each output element of a matmul sums.
      block: Index of the block in `spec.blocks` that the operation comes from.
      role: Purpose of the operation in its block ("expand", "middle_dw", ...).
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
            return Shape(
                self.input.height * self.stride, self.input.width * self.stride, self.out_channels
            )
        return self.input.after(channels=self.out_channels, stride=self.stride)

    @property
    def weights(self) -> int:
        """Elements of the kernel, 0 without one.

        k*k*c_in/groups*c_out, or k*k*c_out of a depthwise convolution.
        """
        if self.kind == "depthwise_conv2d":
            return self.kernel**2 * self.out_channels
        if self.kind in ("conv2d", "fully_connected"):
            return self.kernel**2 * self.input.channels // self.groups * self.out_channels
        return 0

    @property
    def params(self) -> int:
        """Trainable parameters.

        The weights, and for each output channel 2 for a norm, 1 for the bias, 1 for the layer
        scale.
        """
        norms = 2 * (self.norm + (self.kind in ("batch_norm", "layer_norm")))
        return self.weights + self.out_channels * (norms + self.bias + self.scale)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image.

        Those of the weights are kernel elements * output pixels; a matmul has those of a product of
        activations.
        """
        return (
            (self.weights + self.out_channels * self.depth) * self.output.height * self.output.width
        )

    @property
    def input_elements(self) -> int:
        """Values read, without weights: those of the first input, and of a matmul's second one."""
        return self.input.elements + (
            self.other.elements if self.kind == "matmul" and self.other else 0
        )

    @property
    def folded(self) -> OpCall:
        """The operation as a device runs it, which is a key of latency tables.

        Norm, bias and layer scale are folded, and its origin is dropped.
        """
        return dataclasses.replace(self, norm=False, bias=False, scale=False, block=-1, role="")

    def __str__(self) -> str:
        """The operation in a few words: "conv2d 3x3 s2 [224, 224, 3] to 32 relu"."""
        kernel = f" {self.kernel}x{self.kernel}" if self.weights else ""
        stride = f" s{self.stride}" if self.stride > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        activation = f" {self.activation}" if self.activation != "none" else ""
        at = f"[{self.input.height}, {self.input.width}, {self.input.channels}]"
        return f"{self.kind}{kernel}{stride}{groups} {at} to {self.out_channels}{activation}"

    @property
    def intensity(self) -> float:
        """Operational intensity; 0 without MACs.

        MACs / (weight bytes + input bytes), with one byte for each element

        Source: paper section 3.
        """
        return self.macs / (self.weights + self.input_elements) if self.macs else 0.0
