"""Sparse teacher labels: the largest probabilities, and the mass of the rest.

Letters: b images, n classes, k kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Sparse(NamedTuple):
    """The k largest probabilities of each row, largest first; the other classes share the rest.

    Attributes:
      classes: uint16 [b, k].
      values: float16 [b, k].
    """

    classes: np.ndarray
    values: np.ndarray


def keep_top(probabilities: np.ndarray, k: int) -> Sparse:
    """Keep the k largest probabilities of each row; ties are ordered by class.

    Args:
      probabilities: float [b, n], at most 65,536 classes.
      k: Number of probabilities to keep, at most n.

    Returns:
      The sparse labels.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return Sparse(order.astype("<u2"), np.take_along_axis(probabilities, order, 1).astype("<f2"))


def dense(sparse: Sparse, classes: int) -> np.ndarray:
    """Expand sparse labels; the mass of the rest is spread evenly over the classes not kept.

    Args:
      sparse: Sparse labels [b, k].
      classes: Number of classes n.

    Returns:
      float32 [b, n], rows sum to 1.
    """
    kept = sparse.values.astype(np.float32)
    others = classes - kept.shape[1]
    rest = (
        np.maximum(1 - kept.sum(1, keepdims=True), 0)
        if others
        else np.zeros((len(kept), 1), np.float32)
    )
    probabilities = np.repeat(rest / max(others, 1), classes, axis=1)
    np.put_along_axis(probabilities, sparse.classes.astype(np.int64), kept, 1)
    return probabilities / probabilities.sum(1, keepdims=True)


def rest_mass(sparse: Sparse) -> np.ndarray:
    """Mass of the probabilities that were not kept.

    Args:
      sparse: Sparse labels [b, k].

    Returns:
      float64 [b]; 0 or rounding where all were kept.
    """
    return np.maximum(1 - sparse.values.astype(np.float64).sum(1), 0)


def lost_nats(probabilities: np.ndarray, sparse: Sparse) -> np.ndarray:
    """Information lost: sum of p * log(p / q), where q is the result of `dense`.

    Args:
      probabilities: float [b, n], p.
      sparse: Sparse labels [b, k] made of them.

    Returns:
      float64 [b], in nats.
    """
    p = probabilities.astype(np.float64)
    q = dense(sparse, probabilities.shape[1]).astype(np.float64)
    return np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / np.maximum(q, 1e-12)), 0).sum(1)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Normalised entropy: -sum of p log p / log n.

    Args:
      probabilities: float [b, n].

    Returns:
      float64 [b]: 0 for a certain teacher, 1 for a uniform one.
    """
    p = probabilities.astype(np.float64)
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(1) / np.log(p.shape[1])
