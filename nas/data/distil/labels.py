"""Sparse teacher labels: the largest probabilities, and the mass of the rest.

Letters: b images, n classes, k kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Sparse(NamedTuple):
    """The k largest probabilities of each row, largest first; what is missing to 1 belongs to the other classes."""

    classes: np.ndarray  # uint16 [b, k]
    values: np.ndarray  # float16 [b, k]


def keep_top(probabilities: np.ndarray, k: int) -> Sparse:
    """The k largest of each row [b, n], ties by class; k at most n; at most 65,536 classes."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return Sparse(order.astype("<u2"), np.take_along_axis(probabilities, order, 1).astype("<f2"))


def dense(sparse: Sparse, classes: int) -> np.ndarray:
    """float32 [b, n] whose rows sum to 1: the rest's mass is spread evenly over the classes that were not kept."""
    kept = sparse.values.astype(np.float32)
    others = classes - kept.shape[1]
    rest = np.maximum(1 - kept.sum(1, keepdims=True), 0) if others else np.zeros((len(kept), 1), np.float32)
    out = np.repeat(rest / max(others, 1), classes, axis=1)
    np.put_along_axis(out, sparse.classes.astype(np.int64), kept, 1)
    return out / out.sum(1, keepdims=True)


def rest_mass(sparse: Sparse) -> np.ndarray:
    """[b] mass of what was not kept (0 or rounding where all was)."""
    return np.maximum(1 - sparse.values.astype(np.float64).sum(1), 0)


def lost_nats(probabilities: np.ndarray, sparse: Sparse) -> np.ndarray:
    """[b] information lost: sum of p * log(p / q) in nats, q what `dense` gives."""
    p, q = probabilities.astype(np.float64), dense(sparse, probabilities.shape[1]).astype(np.float64)
    return np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / np.maximum(q, 1e-12)), 0).sum(1)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """[b] -sum of p log p / log n: 0 for a certain teacher, 1 for one that knows nothing."""
    p = probabilities.astype(np.float64)
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(1) / np.log(p.shape[1])
