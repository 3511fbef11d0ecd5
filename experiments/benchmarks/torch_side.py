"""The same networks in PyTorch, eager and channels_last, as makers for `side_by_side`.

Requires torch==2.13.0. Convolutions pad k // 2 on both sides, as is usual in PyTorch. Images are
floats, and are neither flipped nor scaled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

import search_spaces
from experiments.benchmarks import operators
from nas.host import memory
from search_spaces import ArchSpec, OpCall, Shape, blocks

_ACTIVATIONS = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": lambda: nn.GELU("tanh"),
}


class _Operation(nn.Sequential):
    def __init__(self, op: OpCall):
        channels = op.input.channels
        if op.kind == "fully_connected":
            super().__init__(nn.Flatten(), nn.Linear(channels, op.out_channels))
            return
        if op.kind == "batch_norm":
            super().__init__(nn.BatchNorm2d(channels), _ACTIVATIONS[op.activation]())
            return
        groups = channels if op.kind == "depthwise_conv2d" else op.groups
        conv = nn.Conv2d(
            channels,
            op.out_channels,
            op.kernel,
            op.stride,
            op.kernel // 2,
            groups=groups,
            bias=op.bias,
        )
        super().__init__(
            conv,
            *([nn.BatchNorm2d(op.out_channels)] if op.norm else []),
            _ACTIVATIONS[op.activation](),
        )


class _Block(nn.Module):
    """Operations of a block, one after the other; an addition adds the block's input."""

    def __init__(self, ops: Sequence[OpCall]):
        super().__init__()
        self.kinds = [op.kind for op in ops]
        self.layers = nn.ModuleList(
            nn.Identity() if op.kind in ("add", "mean") else _Operation(op) for op in ops
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = x
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = (
                x + start
                if kind == "add"
                else x.mean((2, 3), keepdim=True)
                if kind == "mean"
                else layer(x)
            )
        return x


class _MobileMQA(nn.Module):
    """Operations of `blocks.MQA` without a query stride, with PyTorch's fused attention."""

    def __init__(self, spec: blocks.MQA, channels: int):
        super().__init__()
        ops = {op.role: op for op in spec.lower(Shape(2, 2, channels))}
        self.keys = ops["key"].out_channels
        self.norm, self.query, self.output = (
            _Operation(ops[role]) for role in ("norm", "query", "output")
        )
        self.key, self.value = (
            nn.Sequential(*(_Operation(ops[role]) for role in (f"{side}_dw", side) if role in ops))
            for side in ("key", "value")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        b, _, h, w = x.shape
        q, k, v = (
            layer(normed).permute(0, 2, 3, 1).reshape(b, 1, -1, self.keys)
            for layer in (self.query, self.key, self.value)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.output(y.reshape(b, h, w, -1).permute(0, 3, 1, 2))


def module(spec: ArchSpec) -> nn.Module:
    """Network of convolutions, additions, pooling and a classifier.

    Args:
      spec: The network.

    Returns:
      Module with as many parameters as the spec has.

    Raises:
      ValueError: The numbers of parameters differ.
    """
    whole = nn.Sequential(*(_Block(ops) for ops in search_spaces.lower_by_block(spec)))
    count = sum(p.numel() for p in whole.parameters())
    if count != search_spaces.params(spec):
        raise ValueError(
            f"{spec.name}: PyTorch's network has {count} parameters, "
            f"the spec {search_spaces.params(spec)}"
        )
    return whole.to(memory_format=torch.channels_last)


def train_step(
    network: str, resolution: int, size: int, precision: str = "float32"
) -> Callable[[], object]:
    """Maker of a training step: forward, backward, SGD with Nesterov momentum.

    Args:
      network: Name of the network.
      resolution: Height and width of images, pixels.
      size: Batch size.
      precision: Type of activations; "bfloat16" uses autocast.

    Returns:
      Function that makes one step.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    spec = search_spaces.base(network).model_copy(update={"resolution": resolution})
    model = module(spec)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(size, 3, resolution, resolution)).astype(np.float32))
    images = images.to(memory_format=torch.channels_last)
    targets = torch.from_numpy(rng.integers(0, spec.classes, size))

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()

    return call


def operator(case: int, backward: bool) -> Callable[[], object]:
    """Maker of a case of `operators.CASES`: forward, or forward and the gradients of y * dy.

    Freed memory is retained, as on the project's side.

    Args:
      case: Index of the case.
      backward: Whether gradients are computed.

    Returns:
      Function that computes the case once.
    """
    memory.retain_freed_memory()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    chosen = operators.CASES[case]
    # The arrays have the layout of channels_last.
    x, dy = (torch.from_numpy(array).permute(0, 3, 1, 2) for array in chosen.arrays())
    block = chosen.block
    bare = (
        _MobileMQA(block, chosen.at.channels)
        if isinstance(block, blocks.MQA)
        else _Block(chosen.ops)
    )
    layer = nn.Sequential(bare, _ACTIVATIONS[chosen.activation]()).to(
        memory_format=torch.channels_last
    )
    if not backward:
        return torch.no_grad()(lambda: layer(x))
    x.requires_grad_(chosen.input_gradient)

    def call() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(dy)

    return call
