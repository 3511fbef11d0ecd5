"""CostModel: the exact cost of any architecture of a space as a sum of table entries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latency_tables.kinds import Device
from search_spaces import OneOf, OpCall, SearchSpace, Shape, freeze, lower
from search_spaces.choice import resolve
from search_spaces.spec import lower_block


@dataclasses.dataclass(frozen=True)
class Target:
    """What an architecture should cost on a device, in the device's unit.

    Attributes:
      device: the device.
      value: the cost that is asked for.
      confidence: None: the estimate should be `value`; p: the measured cost should stay below it with probability p.
    """

    device: Device
    value: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError(f"target on {self.device.name}: got {self.value}, expected more than 0 {self.device.unit}")
        if self.confidence is not None and self.device.calibration is None:
            raise ValueError(
                f"target {self.text}: a confidence needs a calibrated device, and {self.device.name} has never been "
                "compared with measured networks; fit it first (`nas-latency fit`), or leave the confidence out"
            )
        if self.aim == 0:
            assert self.device.calibration is not None
            count = len(self.device.calibration.ratios)
            raise ValueError(
                f"target {self.text}: {self.device.name} was compared with {count} networks, too few to promise "
                f"{self.confidence:g}; at most {count / (count + 1):.3g} can be asked for"
            )

    @property
    def aim(self) -> float:
        """The estimate to aim at: `value`, or so far below it that the confidence is kept."""
        if self.confidence is None or self.device.calibration is None:
            return self.value
        return self.value / self.device.calibration.factor(self.confidence)

    @property
    def text(self) -> str:
        """As a person writes it, e.g. "pixel6-cpu:2.4ms"."""
        confidence = "" if self.confidence is None else f"@{self.confidence:g}"
        return f"{self.device.name}:{self.value:g}{self.device.unit}{confidence}"


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs of all architectures of a space on some devices.

    features(v) = sum over blocks b of table[:, offsets[b] + strides[b] . v],  cost(v) = device.total(features(v))

    Every block has one entry for each combination of the decisions that its operations depend on (its own, and its
    input width's), so the sum is exact, not an approximation; an absent block's entries are 0. Most devices have one
    feature, the cost itself.

    Attributes:
      space: the space.
      devices: the devices, in the order of the costs.
      table: [features of all devices, entries] float64.
      offsets: [blocks] int32, where a block's entries begin.
      strides: [blocks, decisions] int32.
      overheads: [devices] float64, what every architecture costs beside its operations.
    """

    space: SearchSpace
    devices: tuple[Device, ...]
    table: np.ndarray
    offsets: np.ndarray
    strides: np.ndarray
    overheads: np.ndarray

    @classmethod
    def build(cls, space: SearchSpace, devices: Sequence[Device]) -> CostModel:
        """Lower every block under every combination of its local decisions and ask the devices for each operation."""
        if not devices:
            raise ValueError("a cost model needs at least one device")
        entries, offsets, strides = _entries(space)
        distinct = _distinct(entries)
        table = np.concatenate([_sum_by_entry(device, distinct, entries) for device in devices])
        any_network = lower(freeze(space, [0] * len(space.decisions)))
        overheads = np.array([device.overhead(any_network) for device in devices])
        return cls(space, tuple(devices), table, offsets, strides, overheads)

    def __call__(self, vectors: Any) -> np.ndarray:
        """Costs of decision vectors: [..., decisions] int -> [..., devices] float64, in the devices' units."""
        vectors = np.asarray(vectors)
        counts = np.array([decision.options for decision in self.space.decisions])
        if vectors.shape[-1:] != counts.shape or (vectors < 0).any() or (vectors >= counts).any():
            raise ValueError(
                f"decision vectors of {self.space.name}: got shape {vectors.shape}, expected [..., {len(counts)}] with "
                f"indices below {counts.tolist()}"
            )
        flat = np.ascontiguousarray(vectors.reshape(-1, len(counts)).T, np.int32)  # a decision's options side by side
        sums = np.zeros((len(self.table), flat.shape[1]))
        for offset, row in zip(self.offsets, self.strides, strict=True):
            index = np.full(flat.shape[1], offset, np.int32)
            for decision in np.flatnonzero(row):
                index += row[decision] * flat[decision]
            sums += np.take(self.table, index, axis=1)
        return self.totals(sums.T).reshape(*vectors.shape[:-1], len(self.devices))

    def totals(self, sums: Any) -> Any:
        """Costs from summed features: [..., features of all devices] of numpy or JAX -> [..., devices]."""
        costs, start = [], 0
        for device in self.devices:
            width = len(device.pieces[0].weights)
            costs.append(device.total(sums[..., start : start + width])[..., None])
            start += width
        joined = costs[0].__array_namespace__().concat(costs, axis=-1)
        return joined + self.overheads.astype(joined.dtype)

    def range(self, device: int = 0) -> tuple[float, float]:
        """Bounds of the cost on one device over the whole space.

        Exact for a device whose cost is a sum. For one with several pieces (a cache) the upper bound is exact and the
        lower one is that of the piece that is largest: no architecture costs less.
        """
        start = sum(len(d.pieces[0].weights) for d in self.devices[:device])
        lows, highs = [], []
        for piece in self.devices[device].pieces:
            weights = np.array(piece.weights)
            row = weights @ self.table[start : start + len(weights)]
            constant = piece.constant + self.overheads[device]
            lows.append(self._extreme(row, np.min) + constant)
            highs.append(self._extreme(row, np.max) + constant)
        return max(lows), max(highs)

    def difference(self, first: int, second: int, aims: Sequence[float]) -> tuple[float, float] | None:
        """Exact range of cost / aim on one device less that on another; 0 outside of it: no architecture meets both.

        Args:
          first, second: places of two devices.
          aims: cost aimed at on each device.

        Returns:
          (low, high), or None where the cost of one of them is no sum (a cache).
        """
        row, constant, start = np.zeros(self.table.shape[1]), 0.0, 0
        for place, device in enumerate(self.devices):
            piece, *others = device.pieces
            width = len(piece.weights)
            if place in (first, second):
                if others:
                    return None
                share = (1 if place == first else -1) / aims[place]
                row = row + share * (np.array(piece.weights) @ self.table[start : start + width])
                constant += share * (piece.constant + float(self.overheads[place]))
            start += width
        return self._extreme(row, np.min) + constant, self._extreme(row, np.max) + constant

    def _extreme(self, entries: np.ndarray, reduce: Callable[..., np.ndarray]) -> float:
        """Least or largest sum of one entry a block, of `entries` [entries].

        Eliminates the decisions one by one (min-sum on the chain of blocks): exact, and fast as a chain is narrow.
        """
        factors = []
        for block, row in enumerate(self.strides):
            names = sorted(np.flatnonzero(row), key=lambda d: -row[d])
            shape = [self.space.decisions[d].options for d in names]
            start = self.offsets[block]
            factors.append((tuple(names), entries[start : start + int(np.prod(shape))].reshape(shape)))
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
      table: [features, entries].
      offsets: [blocks].
      strides: [blocks, decisions].
      vectors: [..., decisions] int.

    Returns:
      [..., features], summed over the blocks; `CostModel.totals` makes costs of them.
    """
    index = (vectors[..., None, :] * strides).sum(-1) + offsets  # [..., blocks]
    return table.T[index].sum(-2)


def operations(space: SearchSpace) -> tuple[OpCall, ...]:
    """Every operation that some architecture of a space has, as a device runs it, once: what a table must hold."""
    return tuple(dict.fromkeys(op.folded for op in _distinct(_entries(space)[0])))


def _distinct(entries: list[tuple[OpCall, ...]]) -> list[OpCall]:
    return list(dict.fromkeys(op for ops in entries for op in ops))


def _entries(space: SearchSpace) -> tuple[list[tuple[OpCall, ...]], np.ndarray, np.ndarray]:
    """Operations of every block under every combination of its local decisions; where and how they are indexed."""
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
    return entries, np.array(offsets, np.int32), strides


def _sum_by_entry(device: Device, distinct: list[OpCall], entries: list[tuple[OpCall, ...]]) -> np.ndarray:
    """[features, entries]: each operation is asked for once."""
    features = device.features(distinct)
    place = {op: i for i, op in enumerate(distinct)}
    return np.stack([features[[place[op] for op in ops]].sum(0) for ops in entries], -1)


def _aligned(array: np.ndarray, names: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """`array` with its axes put at the places that `names` have among `axes`, size 1 elsewhere."""
    order = sorted(range(len(names)), key=lambda i: axes.index(names[i]))
    shape = [array.shape[names.index(a)] if a in names else 1 for a in axes]
    return array.transpose(order).reshape(shape)
