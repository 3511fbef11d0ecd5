"""A roofline whose weights are in a cache on the chip."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pydantic

from latency_tables import roofline
from search_spaces import OpCall
from search_spaces.frozen import FrozenModel

Infinite = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=True)]
"""A bandwidth above 0, which may be infinite."""


class CachedRoofline(FrozenModel):
    """A device that keeps weights in a small memory on the chip, and streams the others every run.

    t = call + (input + output of the network) / io
        + sum over operations of max(MACs / peak, (weights + input) / on-chip bandwidth)
                                 + [streamed] reads * weights / stream bandwidth
    reads = 1 + (output pixels - 1) / pixels_per_read

    int8: one byte an element. Output channels are rounded up to `channel_multiple`, in the weights
    and in the MACs. Weights are cached whole, one operation after the other in the order in which
    they run; those that do not fit into the rest of the cache are streamed.

    Attributes:
      call_ms: Cost of one run.
      peak_gmacs_s: Peak of rounded-up MACs.
      onchip_gb_s: Bandwidth of the memory on the chip; infinite where the measurements show no
        cost.
      io_gb_s: Bandwidth of the input and output of a network; infinite as `onchip_gb_s`.
      stream_gb_s: Bandwidth of streamed weights; infinite as `onchip_gb_s`.
      cache_bytes: Bytes of weights kept on the chip; infinite for all.
      pixels_per_read: Number of output pixels for which streamed weights are read once more.
      channel_multiple: Multiple of channels that the arithmetic array computes.
    """

    call_ms: Annotated[float, pydantic.Field(ge=0)]
    peak_gmacs_s: Annotated[float, pydantic.Field(gt=0)]
    onchip_gb_s: Infinite = math.inf
    io_gb_s: Infinite = math.inf
    stream_gb_s: Infinite = math.inf
    cache_bytes: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=True)] = math.inf
    pixels_per_read: Annotated[float, pydantic.Field(ge=1, allow_inf_nan=True)] = math.inf
    channel_multiple: Annotated[int, pydantic.Field(ge=1)] = 1

    def ops_ms(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Compute the time of each operation of one network.

        Args:
          ops: Operations of the network in the order in which they run.

        Returns:
          [operations] float64 ms.
        """
        net = OperationArrays([ops], self.channel_multiple)
        compute = np.maximum(net.macs / self.peak_gmacs_s, net.traffic / self.onchip_gb_s)
        reads = 1 + (net.pixels - 1) / self.pixels_per_read
        return (
            compute + net.streamed(self.cache_bytes) * net.weights * reads / self.stream_gb_s
        ) * 1e-6

    def weight_bytes(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Compute the bytes that the weights of each operation take in the cache.

        Args:
          ops: The operations.

        Returns:
          [operations] float64 bytes.
        """
        return OperationArrays([ops], self.channel_multiple).weights

    def fixed_ms(self, ops: Sequence[OpCall]) -> float:
        """Compute the time of a run beside the operations: the call, its input and its output.

        Args:
          ops: Operations of the network in the order in which they run.

        Returns:
          The time in ms.
        """
        io_elements = ops[0].input.elements + ops[-1].output.elements
        return self.call_ms + io_elements / self.io_gb_s * 1e-6

    def network_ms(self, ops: Sequence[OpCall]) -> float:
        """Compute the time of one run of a network.

        Args:
          ops: Operations of the network in the order in which they run.

        Returns:
          The time in ms.
        """
        return self.fixed_ms(ops) + float(self.ops_ms(ops).sum())


class OperationArrays:
    """Operations of some networks as flat arrays.

    Args:
      ops_lists: Operations of each network in the order in which they run.
      channel_multiple: Multiple that output channels are rounded up to.

    Attributes:
      macs: [operations] MACs with rounded-up channels.
      traffic: [operations] bytes of weights and input.
      weights: [operations] bytes of weights with rounded-up channels.
      pixels: [operations] pixels of the output.
      owner: [operations] position of the network.
      io: [networks] elements of input and output.
    """

    def __init__(self, ops_lists: Sequence[Sequence[OpCall]], channel_multiple: int) -> None:
        ops = [op for ops in ops_lists for op in ops]
        self.macs, self.traffic, self.owner = roofline_terms(ops_lists)
        self.io = np.array(
            [o[0].input.elements + o[-1].output.elements for o in ops_lists], np.float64
        )
        self.pixels = np.array([op.output.height * op.output.width for op in ops], np.float64)
        channels = np.array([op.out_channels for op in ops], np.float64)
        rounding = np.ceil(channels / channel_multiple) * channel_multiple / channels
        counted = np.array([op.macs for op in ops], np.float64)
        # 4/3 for an RGB image, else 1
        image = np.divide(self.macs, counted, out=np.ones(len(ops)), where=counted > 0)
        unrounded = np.array([op.weights for op in ops], np.float64) * image
        self.weights = unrounded * rounding
        self.macs = np.where(unrounded > 0, self.macs * rounding, self.macs)
        self.traffic = self.traffic + self.weights - unrounded
        self._streamed: dict[float, np.ndarray] = {}

    def streamed(self, cache_bytes: float) -> np.ndarray:
        """Determine the operations whose weights do not fit into a cache.

        Args:
          cache_bytes: Size of the cache.

        Returns:
          [operations] bool.
        """
        if cache_bytes not in self._streamed:
            out, left, network = np.zeros(len(self.weights), bool), 0.0, -1
            for index, (weights, owner) in enumerate(
                zip(self.weights.tolist(), self.owner.tolist(), strict=True)
            ):
                if owner != network:
                    left, network = cache_bytes, owner
                out[index] = weights > left
                left -= 0.0 if out[index] else weights
            self._streamed[cache_bytes] = out
        return self._streamed[cache_bytes]

    def columns(self, ridge: float, cache_bytes: float) -> np.ndarray:
        """Compute the factors of the call and of the reciprocal rates in a network's time.

        Args:
          ridge: Ridge point in MACs/byte.
          cache_bytes: Size of the cache.

        Returns:
          [networks, 5]: call, on-chip, io, stream, repeated stream.
        """
        streamed = self.streamed(cache_bytes) * self.weights
        total = functools.partial(np.bincount, self.owner, minlength=len(self.io))
        compute = total(np.maximum(self.macs / ridge, self.traffic))
        again = total(streamed * (self.pixels - 1))
        return (
            np.stack([np.full(len(self.io), 1e6), compute, self.io, total(streamed), again], 1)
            * 1e-6
        )


def roofline_terms(
    ops_lists: Sequence[Sequence[OpCall]], outputs: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute MACs and bytes of operations by the rules of `roofline.ops_ms` at its two limits.

    Args:
      ops_lists: Operations of each network.
      outputs: Whether the bytes that are written count, too.

    Returns:
      [operations] MACs, bytes, and position of the network.
    """
    ops = [op for ops in ops_lists for op in ops]
    macs = roofline.ops_ms(ops, 0) * (roofline.INFINITE_BANDWIDTH_GMACS_S * 1e6)
    traffic = roofline.ops_ms(ops, math.inf, 1.0, outputs=outputs) * 1e6
    return macs, traffic, np.repeat(np.arange(len(ops_lists)), [len(ops) for ops in ops_lists])
