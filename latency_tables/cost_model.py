"""CostModel: the exact cost of any architecture of a space as a sum of table entries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latency_tables.device import Device
from search_spaces import OneOf, OpCall, SearchSpace, Shape
from search_spaces.choice import resolve
from search_spaces.spec import lower_block


@dataclasses.dataclass(frozen=True)
class Target:
    """What an architecture should cost on a device, in the device's unit."""

    device: Device
    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError(f"target on {self.device.name}: got {self.value}, expected more than 0 {self.device.unit}")

    @property
    def text(self) -> str:
        """As a person writes it, e.g. "pixel6-cpu:2.4ms"."""
        return f"{self.device.name}:{self.value:g}{self.device.unit}"


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs of all architectures of a space on some devices.

    cost(v) = sum over blocks b of table[:, offsets[b] + strides[b] . v]

    Every block has one entry for each combination of the decisions that its operations depend on (its own, and its
    input width's), so the sum is exact, not an approximation; an absent block's entries are 0.

    Attributes:
      space: the space.
      devices: the devices, in the order of the table's rows.
      table: [devices, entries] float64, in the devices' units.
      offsets: [blocks] int32, where a block's entries begin.
      strides: [blocks, decisions] int32.
    """

    space: SearchSpace
    devices: tuple[Device, ...]
    table: np.ndarray
    offsets: np.ndarray
    strides: np.ndarray

    @classmethod
    def build(cls, space: SearchSpace, devices: Sequence[Device]) -> CostModel:
        """Lower every block under every combination of its local decisions and ask the devices for each operation."""
        if not devices:
            raise ValueError("a cost model needs at least one device")
        entries: list[tuple[OpCall, ...]] = []
        offsets, strides = [], np.zeros((len(space.spec.blocks), len(space.decisions)), np.int32)
        for index, block, channels, (height, width) in space.spec.walk():
            holes: list[OneOf[Any]] = [hole for _, hole, _ in block.holes()]
            holes += [channels] if isinstance(channels, OneOf) else []
            names = list(dict.fromkeys(hole.name for hole in holes))
            counts = [space.decisions[space.position(name)].options for name in names]
            offsets.append(len(entries))
            for place, name in enumerate(names):
                strides[index, space.position(name)] = int(np.prod(counts[place + 1 :], dtype=np.int64))
            for combination in itertools.product(*map(range, counts)):
                chosen = dict(zip(names, combination, strict=True))
                fields = {field: resolve(hole, chosen) for field, hole, _ in block.holes()}
                if fields.get("present", True):
                    shape = Shape(height, width, resolve(channels, chosen))
                    entries.append(lower_block(block.model_copy(update=fields), shape, index))
                else:
                    entries.append(())
        distinct = list(dict.fromkeys(op for ops in entries for op in ops))
        table = np.stack([_sum_by_entry(device, distinct, entries) for device in devices])
        return cls(space, tuple(devices), table, np.array(offsets, np.int32), strides)

    def __call__(self, vectors: Any) -> np.ndarray:
        """Costs of decision vectors: [..., decisions] int -> [..., devices] float64, in the devices' units."""
        vectors = np.asarray(vectors)
        counts = np.array([decision.options for decision in self.space.decisions])
        if vectors.shape[-1:] != counts.shape or (vectors < 0).any() or (vectors >= counts).any():
            raise ValueError(
                f"decision vectors of {self.space.name}: got shape {vectors.shape}, expected [..., {len(counts)}] with "
                f"indices below {counts.tolist()}"
            )
        return gather(self.table, self.offsets, self.strides, vectors)

    def range(self, device: int = 0) -> tuple[float, float]:
        """The exact cost of the cheapest and of the dearest architecture of the space on one device."""
        return self._extreme(device, np.min), self._extreme(device, np.max)

    def _extreme(self, device: int, reduce: Callable[..., np.ndarray]) -> float:
        """Eliminate the decisions one by one (min-sum on the chain of blocks): exact, and fast as a chain is narrow."""
        factors = []
        for block, row in enumerate(self.strides):
            names = sorted(np.flatnonzero(row), key=lambda d: -row[d])
            shape = [self.space.decisions[d].options for d in names]
            start = self.offsets[block]
            factors.append((tuple(names), self.table[device, start : start + int(np.prod(shape))].reshape(shape)))
        remaining = set(range(len(self.space.decisions)))
        while remaining:
            neighbours = {d: set().union(*(f[0] for f in factors if d in f[0])) for d in remaining}
            out = min(remaining, key=lambda d: len(neighbours[d]))
            touched = [f for f in factors if out in f[0]]
            kept = tuple(sorted(neighbours[out] - {out}))
            axes = (*kept, out)
            joint = sum((_aligned(array, names, axes) for names, array in touched), np.zeros((1,) * len(axes)))
            factors = [f for f in factors if out not in f[0]] + [(kept, reduce(joint, axis=-1))]
            remaining.remove(out)
        return float(sum(array.sum() for _, array in factors))


def gather(table: Any, offsets: Any, strides: Any, vectors: Any) -> Any:
    """The sum of table entries for decision vectors; the arguments may be numpy or JAX arrays.

    Args:
      table: [devices, entries].
      offsets: [blocks].
      strides: [blocks, decisions].
      vectors: [..., decisions] int.

    Returns:
      [..., devices].
    """
    index = (vectors[..., None, :] * strides).sum(-1) + offsets  # [..., blocks]
    return table.T[index].sum(-2)


def _sum_by_entry(device: Device, distinct: list[OpCall], entries: list[tuple[OpCall, ...]]) -> np.ndarray:
    costs = dict(zip(distinct, device.op_costs(distinct), strict=True))
    return np.array([sum(costs[op] for op in ops) for ops in entries], np.float64)


def _aligned(array: np.ndarray, names: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """`array` with its axes put at the places that `names` have among `axes`, size 1 elsewhere."""
    order = sorted(range(len(names)), key=lambda i: axes.index(names[i]))
    shape = [array.shape[names.index(a)] if a in names else 1 for a in axes]
    return array.transpose(order).reshape(shape)
