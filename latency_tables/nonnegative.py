"""Linear models with coefficients of at least 0, fitted to relative errors."""

from __future__ import annotations

import math

import numpy as np


def nonnegative_fit(columns: np.ndarray, ms: np.ndarray) -> np.ndarray:
    """Minimise the relative error of a linear model over x >= 0.

    sum_i |(columns @ x)_i / ms_i - 1|

    Args:
      columns: [n, p], not negative.
      ms: [n], positive.

    Returns:
      x [p] float64; 0 for a column of zeros.
    """
    return least_relative_error(columns, ms, 100)[1]


def least_relative_error(
    columns: np.ndarray, ms: np.ndarray, rounds: int = 8
) -> tuple[float, np.ndarray]:
    """Minimise mean |columns @ x / ms - 1| over x >= 0 by reweighted least squares.

    Args:
      columns: [n, p], not negative.
      ms: [n], positive.
      rounds: Number of reweightings.

    Returns:
      The loss, and x [p] float64.
    """
    scaled = columns / ms[:, None]
    scale = np.where(scaled.max(0) > 0, scaled.max(0), 1.0)
    scaled = scaled / scale
    weights = np.ones(len(ms))
    x = best_x = np.zeros(columns.shape[1])
    best = math.inf
    for _ in range(rounds):
        weighted = scaled * weights[:, None]
        x = _nonnegative_squares(scaled.T @ weighted, weighted.sum(0), x > 0)
        errors = np.abs(scaled @ x - 1)
        loss = float(errors.mean())
        if loss < best:
            best, best_x = loss, x
        weights = 1 / np.maximum(errors, 1e-5)
    return best, best_x / scale


def _nonnegative_squares(gram: np.ndarray, right: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Minimise x' gram x / 2 - right' x over x >= 0, in one step if `guess` are the positive ones.

    Source: an active-set method; Lawson and Hanson, Solving Least Squares Problems (1974), chapter
    23.
    """

    def solve(free: np.ndarray) -> np.ndarray:
        x = np.zeros(len(right))
        x[free] = np.linalg.lstsq(gram[free][:, free], right[free], rcond=None)[0]
        return x

    tolerance = 1e-9 * float(np.abs(right).max())
    x = solve(guess)
    if guess.any() and x[guess].min() > 0 and (right - gram @ x).max() <= tolerance:
        return x
    x, free = np.zeros(len(right)), np.zeros(len(right), bool)
    for _ in range(3 * len(right)):
        gradient = np.where(free, -np.inf, right - gram @ x)
        if gradient.max() <= tolerance:
            break
        free[gradient.argmax()] = True
        target = solve(free)
        while free.any() and target[free].min() <= 0:
            falling = free & (target <= 0)
            x = x + (x[falling] / np.maximum(x[falling] - target[falling], 1e-300)).min() * (
                target - x
            )
            free &= x > 1e-14
            x[~free] = 0
            target = solve(free)
        x = target
    return x
