"""CostModel: the exact cost of any architecture of a space as a sum of table entries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latency_tables.device import DeviceModel
from search_spaces import OneOf, OpCall, SearchSpace, Shape, freeze, lower
from search_spaces.choice import resolve
from search_spaces.spec import lower_block


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs of all architectures of a space on some devices.

    features(v) = sum over blocks b of table[:, offsets[b] + strides[b] . v]
    cost(v) = device.total(features(v)) + device.fixed_cost

    Every block has one entry for each combination of the decisions that its operations depend on
    (its own, and those of its input width). So the sum is exact, not an approximation. The entries
    of an absent block are 0. Most devices have one feature, the cost itself.

    The sum exists twice. A call of the model (numpy) checks the vectors, uses little memory, and is
    for many vectors on the host: candidates, searchers, repair. `gather` and `totals` (numpy or
    JAX) check nothing, hold [vectors, blocks] entries at once, and are for the few vectors of a
    compiled step.

    Attributes:
      space: Search space.
      devices: Devices, in the order of the costs.
      table: [features of all devices, entries] float64.
      offsets: [blocks] int32, index of a block's first entry.
      strides: [blocks, decisions] int32, step in the entries for one step of a decision.
      fixed_costs: [devices] float64, cost of every architecture beside its operations.
    """

    space: SearchSpace
    devices: tuple[DeviceModel, ...]
    table: np.ndarray
    offsets: np.ndarray
    strides: np.ndarray
    fixed_costs: np.ndarray

    @classmethod
    def build(cls, space: SearchSpace, devices: Sequence[DeviceModel]) -> CostModel:
        """Compute the costs of every block under every combination of its local decisions.

        Args:
          space: Search space.
          devices: Devices; each computes every distinct operation once.

        Returns:
          The cost model.

        Raises:
          ValueError: No device, or an operation that a device's table lacks.
        """
        if not devices:
            raise ValueError("a cost model needs at least one device")
        entries, offsets, strides = _entries(space)
        distinct = _distinct(entries)
        table = np.concatenate([_sum_by_entry(device, distinct, entries) for device in devices])
        any_network = lower(freeze(space, [0] * len(space.decisions)))
        fixed_costs = np.array([device.fixed_cost(any_network) for device in devices])
        return cls(space, tuple(devices), table, offsets, strides, fixed_costs)

    def on_device(self, index: int) -> CostModel:
        """Return the cost model of one of the devices.

        Args:
          index: Position of the device.

        Returns:
          A model with the same costs as `build` for that device alone.
        """
        return dataclasses.replace(
            self,
            devices=(self.devices[index],),
            table=self.table[self._rows(index)],
            fixed_costs=self.fixed_costs[index : index + 1],
        )

    def __call__(self, vectors: Any) -> np.ndarray:
        """Compute costs on the host, for many vectors; see `gather` for a compiled step.

        Args:
          vectors: [..., decisions] int.

        Returns:
          [..., devices] float64, in the devices' units.

        Raises:
          ValueError: Vectors that are not of the space.
        """
        vectors = np.asarray(vectors)
        counts = np.array([decision.options for decision in self.space.decisions])
        if vectors.shape[-1:] != counts.shape or (vectors < 0).any() or (vectors >= counts).any():
            raise ValueError(
                f"decision vectors of {self.space.name}: got shape {vectors.shape}, "
                f"expected [..., {len(counts)}] with indices below {counts.tolist()}"
            )
        # [decisions, vectors]: the options of a decision are contiguous
        flat = np.ascontiguousarray(vectors.reshape(-1, len(counts)).T, np.int32)
        sums = np.zeros((len(self.table), flat.shape[1]))
        for offset, row in zip(self.offsets, self.strides, strict=True):
            index = np.full(flat.shape[1], offset, np.int32)
            for decision in np.flatnonzero(row):
                index += row[decision] * flat[decision]
            sums += np.take(self.table, index, axis=1)
        return self.totals(sums.T).reshape(*vectors.shape[:-1], len(self.devices))

    def totals(self, sums: Any) -> Any:
        """Compute costs from summed features, the result of `gather`.

        `gather` and `totals` are for compiled steps. On the host call the model itself: it checks
        the vectors, and needs less memory.

        Args:
          sums: [..., features of all devices] of numpy or JAX.

        Returns:
          [..., devices], in the devices' units.
        """
        costs = []
        for index, device in enumerate(self.devices):
            costs.append(device.total(sums[..., self._rows(index)])[..., None])
        joined = costs[0].__array_namespace__().concat(costs, axis=-1)
        return joined + self.fixed_costs.astype(joined.dtype)

    def range(self, device: int = 0) -> tuple[float, float]:
        """Bounds of the cost on one device over the whole space.

        Exact for a device whose cost is a sum. For one with several terms (a cache) the upper bound
        is exact, and the lower one is that of the term with the largest minimum: no architecture
        costs less.

        Args:
          device: Position of the device.

        Returns:
          Lowest and highest cost, in the device's unit.
        """
        rows = self.table[self._rows(device)]
        lows, highs = [], []
        for term in self.devices[device].terms:
            entries = np.array(term.weights) @ rows
            constant = term.constant + self.fixed_costs[device]
            lows.append(self._extreme(entries, np.min) + constant)
            highs.append(self._extreme(entries, np.max) + constant)
        return max(lows), max(highs)

    def difference(
        self, first: int, second: int, aims: Sequence[float]
    ) -> tuple[float, float] | None:
        """Exact range of cost / aim on one device minus cost / aim on another.

        A range without 0 means that no architecture meets both aims.

        Args:
          first: Position of one device.
          second: Position of another device.
          aims: [devices] Cost aimed at on each device.

        Returns:
          (low, high), or None where the cost of one of the devices is not a sum (a cache).
        """
        entries, constant = np.zeros(self.table.shape[1]), 0.0
        for index in sorted({first, second}):
            term, *others = self.devices[index].terms
            if others:
                return None
            share = (1 if index == first else -1) / aims[index]
            entries = entries + share * (np.array(term.weights) @ self.table[self._rows(index)])
            constant += share * (term.constant + float(self.fixed_costs[index]))
        return self._extreme(entries, np.min) + constant, self._extreme(entries, np.max) + constant

    def _rows(self, device: int) -> slice:
        """Rows of the table with the features of a device."""
        widths = [len(model.terms[0].weights) for model in self.devices]
        start = sum(widths[:device])
        return slice(start, start + widths[device])

    def _extreme(self, entries: np.ndarray, reduce: Callable[..., np.ndarray]) -> float:
        """Least or largest sum of `entries` [entries], one of each block.

        Eliminates the decisions one by one (min-sum on the chain of blocks). This is exact, and
        fast because a chain is narrow.
        """
        factors = []
        for block, row in enumerate(self.strides):
            names = sorted(np.flatnonzero(row), key=lambda d: -row[d])
            shape = [self.space.decisions[d].options for d in names]
            start = self.offsets[block]
            block_entries = entries[start : start + int(np.prod(shape))]
            factors.append((tuple(names), block_entries.reshape(shape)))
        remaining = set(range(len(self.space.decisions)))
        while remaining:
            neighbours = {d: set().union(*(f[0] for f in factors if d in f[0])) for d in remaining}
            out = min(remaining, key=lambda d: len(neighbours[d]))
            touched = [f for f in factors if out in f[0]]
            kept = tuple(sorted(neighbours[out] - {out}))
            axes = (*kept, out)
            joint = sum(
                (_aligned(array, names, axes) for names, array in touched),
                np.zeros((1,) * len(axes)),
            )
            factors = [f for f in factors if out not in f[0]] + [(kept, reduce(joint, axis=-1))]
            remaining.remove(out)
        return float(sum(array.sum() for _, array in factors))


def gather(table: Any, offsets: Any, strides: Any, vectors: Any) -> Any:
    """Sum the table entries of decision vectors in a compiled step; see `CostModel` for the host.

    The arrays are arguments, so that a compiled step does not contain them as constants.

    Args:
      table: [features, entries] of numpy or JAX.
      offsets: [blocks].
      strides: [blocks, decisions].
      vectors: [..., decisions] int.

    Returns:
      [..., features], summed over the blocks; `CostModel.totals` turns them into costs.
    """
    index = (vectors[..., None, :] * strides).sum(-1) + offsets  # [..., blocks]
    return table.T[index].sum(-2)


def operations(space: SearchSpace) -> tuple[OpCall, ...]:
    """List every operation of the architectures of a space: the rows that a table needs.

    Args:
      space: Search space.

    Returns:
      Each operation once, in the form in which a device runs it.
    """
    return tuple(dict.fromkeys(op.folded for op in _distinct(_entries(space)[0])))


def _distinct(entries: list[tuple[OpCall, ...]]) -> list[OpCall]:
    return list(dict.fromkeys(op for ops in entries for op in ops))


def _entries(space: SearchSpace) -> tuple[list[tuple[OpCall, ...]], np.ndarray, np.ndarray]:
    """Operations of every block under every combination of its local decisions.

    Returns:
      [entries] Operations of each combination, `CostModel.offsets` and `CostModel.strides`.
    """
    entries: list[tuple[OpCall, ...]] = []
    offsets: list[int] = []
    strides = np.zeros((len(space.spec.blocks), len(space.decisions)), np.int32)
    for index, block, channels, (height, width) in space.spec.walk():
        holes: list[OneOf[Any]] = [hole for _, hole, _ in block.holes()]
        holes += [channels] if isinstance(channels, OneOf) else []
        names = list(dict.fromkeys(hole.name for hole in holes))
        counts = [space.decisions[space.position(name)].options for name in names]
        offsets.append(len(entries))
        for axis, name in enumerate(names):
            strides[index, space.position(name)] = int(np.prod(counts[axis + 1 :], dtype=np.int64))
        for combination in itertools.product(*map(range, counts)):
            chosen = dict(zip(names, combination, strict=True))
            fields = {field: resolve(hole, chosen) for field, hole, _ in block.holes()}
            if fields.get("present", True):
                shape = Shape(height, width, resolve(channels, chosen))
                entries.append(lower_block(block.model_copy(update=fields), shape, index))
            else:
                entries.append(())
    return entries, np.array(offsets, np.int32), strides


def _sum_by_entry(
    device: DeviceModel, distinct: list[OpCall], entries: list[tuple[OpCall, ...]]
) -> np.ndarray:
    """Features of every entry, [features, entries]; the device computes each operation once."""
    features = device.features(distinct)
    row = {op: i for i, op in enumerate(distinct)}
    return np.stack([features[[row[op] for op in ops]].sum(0) for ops in entries], -1)


def _aligned(array: np.ndarray, names: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """`array`, whose axes are `names`, reshaped to `axes`, with size 1 for those it lacks."""
    order = sorted(range(len(names)), key=lambda i: axes.index(names[i]))
    shape = [array.shape[names.index(a)] if a in names else 1 for a in axes]
    return array.transpose(order).reshape(shape)
