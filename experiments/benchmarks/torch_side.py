"""The same networks in PyTorch, eager and channels_last, as makers for `side_by_side`. Needs torch==2.13.0.

Convolutions pad k // 2 on both sides, as PyTorch's users do; images come as floats, so they are not flipped or scaled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

import search_spaces
from search_spaces import ArchSpec, OpCall

_ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": lambda: nn.GELU("tanh")}


class _Operation(nn.Sequential):
    def __init__(self, op: OpCall):
        channels = op.input.channels
        if op.kind == "fully_connected":
            super().__init__(nn.Flatten(), nn.Linear(channels, op.out_channels))
            return
        groups = channels if op.kind == "depthwise_conv2d" else op.groups
        conv = nn.Conv2d(channels, op.out_channels, op.kernel, op.stride, op.kernel // 2, groups=groups, bias=op.bias)
        super().__init__(conv, *([nn.BatchNorm2d(op.out_channels)] if op.norm else []), _ACTIVATIONS[op.activation]())


class _Block(nn.Module):
    """The operations of a block, one after the other; an addition adds the block's input."""

    def __init__(self, ops: Sequence[OpCall]):
        super().__init__()
        self.kinds = [op.kind for op in ops]
        self.layers = nn.ModuleList(nn.Identity() if op.kind in ("add", "mean") else _Operation(op) for op in ops)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = x
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = x + start if kind == "add" else x.mean((2, 3), keepdim=True) if kind == "mean" else layer(x)
        return x


def network(spec: ArchSpec) -> nn.Module:
    """A network of convolutions, additions, pooling and a classifier; the same parameters as the spec counts."""
    module = nn.Sequential(*(_Block(ops) for ops in search_spaces.lower_by_block(spec)))
    count = sum(p.numel() for p in module.parameters())
    if count != search_spaces.params(spec):
        raise ValueError(
            f"{spec.name}: PyTorch's network has {count} parameters, the spec {search_spaces.params(spec)}"
        )
    return module.to(memory_format=torch.channels_last)


def train_step(network_name: str, resolution: int, size: int) -> Callable[[], object]:
    """A step of training: forward, backward, SGD with Nesterov momentum, in float32."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    spec = search_spaces.base(network_name).model_copy(update={"resolution": resolution})
    model = network(spec)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(size, 3, resolution, resolution)).astype(np.float32))
    images = images.to(memory_format=torch.channels_last)
    targets = torch.from_numpy(rng.integers(0, spec.classes, size))

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()

    return call
