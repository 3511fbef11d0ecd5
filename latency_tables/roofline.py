"""The roofline model of MobileNetV4: the time of an operation is that of its arithmetic or of its traffic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces import ArchSpec, OpCall, lower

INFINITE_BANDWIDTH_GMACS_S = 200.0
"""Peak that the paper's figures use at ridge point 0, which it defines as infinite bandwidth."""

_PADDED_IMAGE_CHANNELS = 4  # accelerators pad an RGB image; the figures count MACs and bytes of 4 channels


def ops_ms(ops: Sequence[OpCall], ridge_point: float, bandwidth_gb_s: float = 40.0) -> np.ndarray:
    """Time of each operation on a roofline.

    t = max(MACs / (ridge_point * bandwidth), (weight bytes + input bytes) / bandwidth), int8: one byte an element.
    Elementwise operations (add, mean) cost nothing, as in the paper's figures.

    Args:
      ops: operations.
      ridge_point: MACs/byte at which arithmetic and traffic balance; 0 means infinite bandwidth (then 200 GMAC/s).
      bandwidth_gb_s: memory bandwidth in GB/s (1e9 bytes/s).

    Returns:
      [len(ops)] float64, milliseconds.

    Raises:
      ValueError: for a negative ridge point or a bandwidth that is not positive.

    Source: paper equation 1; which bytes count, the padded image and 40 GB/s: read out of its figures 7-9.
    """
    if ridge_point < 0 or bandwidth_gb_s <= 0:
        raise ValueError(
            f"roofline: got ridge_point={ridge_point}, bandwidth_gb_s={bandwidth_gb_s}; expected >= 0, > 0"
        )
    macs = np.array([op.macs * _padding(op) for op in ops], np.float64)
    if ridge_point == 0:
        return macs / INFINITE_BANDWIDTH_GMACS_S * 1e-6
    bytes_ = np.array([op.weights * _padding(op) + op.input_elements * _padding(op) for op in ops], np.float64)
    return np.maximum(macs / ridge_point, np.where(macs > 0, bytes_, 0.0)) / bandwidth_gb_s * 1e-6


def roofline_ops_ms(spec: ArchSpec, ridge_point: float = 50.0, bandwidth_gb_s: float = 40.0) -> np.ndarray:
    """Milliseconds of each operation of `lower(spec)`, [operations]; see `ops_ms`."""
    return ops_ms(lower(spec), ridge_point, bandwidth_gb_s)


def roofline_ms(spec: ArchSpec, ridge_point: float = 50.0, bandwidth_gb_s: float = 40.0) -> float:
    """Milliseconds of a network for one image: the sum over its operations; see `ops_ms`."""
    return float(roofline_ops_ms(spec, ridge_point, bandwidth_gb_s).sum())


def _padding(op: OpCall) -> float:
    return _PADDED_IMAGE_CHANNELS / 3 if op.input.channels == 3 else 1.0
