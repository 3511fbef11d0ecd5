"""The roofline model of MobileNetV4: the larger of an operation's arithmetic and traffic time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces import ArchSpec, OpCall, lower

INFINITE_BANDWIDTH_GMACS_S = 200.0
"""Peak that the paper's figures use at ridge point 0, which it defines as infinite bandwidth."""

# accelerators pad an RGB image; the figures count MACs and bytes of 4 channels
_PADDED_IMAGE_CHANNELS = 4


def ops_ms(
    ops: Sequence[OpCall],
    ridge_point: float,
    bandwidth_gb_s: float = 40.0,
    *,
    element_bytes: float = 1.0,
    outputs: bool = False,
    elementwise: bool = False,
) -> np.ndarray:
    """Compute the time of each operation on a roofline.

    t = max(MACs / (ridge_point * bandwidth), (weight bytes + input bytes) / bandwidth)

    The defaults are those of the paper's figures: int8, outputs not counted, elementwise operations
    (add, mean) free.

    Args:
      ops: Operations.
      ridge_point: MACs/byte at which arithmetic and traffic balance; 0 for infinite bandwidth (then
        200 GMAC/s).
      bandwidth_gb_s: Memory bandwidth in GB/s (1e9 bytes/s).
      element_bytes: Bytes of a weight or value: 1 int8, 2 float16, 4 float32. The ridge point is in
        MACs per byte.
      outputs: Whether the bytes that are written count, too.
      elementwise: Whether operations without MACs cost their traffic: all inputs and the output. So
        does an activation that runtimes do not fuse (all but relu and relu6): the output, read and
        written once more.

    Returns:
      [len(ops)] float64, milliseconds.

    Raises:
      ValueError: A negative ridge point, or a bandwidth that is not positive.

    Source: paper equation 1; the bytes that count, the padded image and 40 GB/s: read out of its
    figures 7-9. The options are ours; the totals of its figures 2 and 6 suggest that elementwise
    operations were counted there.
    """
    if ridge_point < 0 or bandwidth_gb_s <= 0:
        raise ValueError(
            f"roofline: got ridge_point={ridge_point}, bandwidth_gb_s={bandwidth_gb_s}; "
            "expected >= 0, > 0"
        )
    macs = np.array([op.macs * _padding(op) for op in ops], np.float64)
    if ridge_point == 0:
        return macs / INFINITE_BANDWIDTH_GMACS_S * 1e-6
    elements = np.array([_elements(op, outputs) for op in ops], np.float64)
    traffic = elements * element_bytes
    if not elementwise:
        return (
            np.maximum(macs / ridge_point, np.where(macs > 0, traffic, 0.0)) / bandwidth_gb_s * 1e-6
        )
    return (
        (np.maximum(macs / ridge_point, traffic) + activation_elements(ops) * element_bytes)
        / bandwidth_gb_s
        * 1e-6
    )


def activation_elements(ops: Sequence[OpCall]) -> np.ndarray:
    """Count the values that activations read and write which runtimes do not fuse.

    Args:
      ops: The operations.

    Returns:
      [len(ops)] float64: 2 for each element of the output of an operation with an activation other
      than relu and relu6.
    """
    return np.array([0.0 if op.activation in _FUSED else 2.0 * op.output.elements for op in ops])


_FUSED = ("none", "relu", "relu6")
"""Activations that convolutions of TFLite, and so XNNPACK and the Edge TPU, have built in."""


def roofline_ops_ms(
    spec: ArchSpec, ridge_point: float = 50.0, bandwidth_gb_s: float = 40.0
) -> np.ndarray:
    """Compute the time of each operation of a network; see `ops_ms`.

    Args:
      spec: Network without choices.
      ridge_point: MACs/byte; 0 for infinite bandwidth.
      bandwidth_gb_s: Memory bandwidth in GB/s.

    Returns:
      [operations] float64 ms, in the order of `lower(spec)`.
    """
    return ops_ms(lower(spec), ridge_point, bandwidth_gb_s)


def roofline_ms(spec: ArchSpec, ridge_point: float = 50.0, bandwidth_gb_s: float = 40.0) -> float:
    """Compute the time of a network for one image, the sum over its operations; see `ops_ms`.

    Args:
      spec: Network without choices.
      ridge_point: MACs/byte; 0 for infinite bandwidth.
      bandwidth_gb_s: Memory bandwidth in GB/s.

    Returns:
      The time in ms.
    """
    return float(roofline_ops_ms(spec, ridge_point, bandwidth_gb_s).sum())


def _padding(op: OpCall) -> float:
    return _PADDED_IMAGE_CHANNELS / 3 if op.input.channels == 3 else 1.0


def _elements(op: OpCall, outputs: bool) -> float:
    """Number of weights and values that an operation reads or writes."""
    if not op.macs:
        second = (op.other or op.input) if op.kind in ("add", "mul", "concat") else None
        return op.input.elements + (second.elements if second else 0) + op.output.elements
    return (op.weights + op.input_elements) * _padding(op) + (op.output.elements if outputs else 0)
