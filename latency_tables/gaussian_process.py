"""Gaussian process of the times of one kind of operation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, get_args

import numpy as np
import pydantic

from latency_tables.nonnegative import nonnegative_fit
from search_spaces import OpCall
from search_spaces.frozen import FrozenModel
from search_spaces.ops import Activation

SIZES = (
    "output_pixels",
    "channels",
    "out_channels",
    "kernel",
    "stride",
    "groups",
    "depth",
    "other_elements",
)
LENGTHS = (*SIZES, "activation")
MEAN = ("call", "macs", "input_elements", "output_elements", "weights")
_ACTIVATIONS: tuple[str, ...] = get_args(Activation)
# of one kind: rows that the length scales are tuned on, and rows that are kept; both cost O(rows^3)
_TUNED_ROWS, _MOST_ROWS = 200, 2000
# relative; no stopwatch is better
_NOISE_FLOOR = 0.003
# length scale of a size that never varied: an operation with another value is practically unknown
_UNTRIED = 0.25
# of the search over logarithms of the parameters
_STEPS = (1.0, 0.5, 0.25)


class KindParameters(FrozenModel):
    """Fitted parameters of one kind of operation; with the measured rows they are the model.

    Attributes:
      mean: Coefficients of the mean time in ms, 0 or more, for each of `MEAN`: an operation, a MAC,
        an element read, an element written, a weight.
      lengths: Length scale of each of `LENGTHS`, in doublings of a size.
      signal: Relative deviation of times from the mean.
      noise: Relative deviation of a measurement from the true time.
    """

    mean: Annotated[tuple[float, ...], pydantic.Field(min_length=len(MEAN), max_length=len(MEAN))]
    lengths: Annotated[
        tuple[float, ...], pydantic.Field(min_length=len(LENGTHS), max_length=len(LENGTHS))
    ]
    signal: Annotated[float, pydantic.Field(gt=0)]
    noise: Annotated[float, pydantic.Field(gt=0)]


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A Gaussian process of log times, conditioned on measured operations of one kind.

    See `operator_model.OperatorModel` for its equation.

    Attributes:
      parameters: Parameters of mean and covariance.
      inputs: [n, columns] Training inputs.
      factor: [n, n] Cholesky factor of their covariance.
      weights: [n] Weights of the covariances with them.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1,
    equation 4.17.
    """

    parameters: KindParameters
    inputs: np.ndarray
    factor: np.ndarray
    weights: np.ndarray

    @classmethod
    def condition(
        cls, parameters: KindParameters, ops: Sequence[OpCall], ms: np.ndarray
    ) -> GaussianProcess:
        """Condition on measured operations.

        Args:
          parameters: Parameters that `tune` found for these operations.
          ops: [n] distinct operations.
          ms: [n] ms, positive.

        Returns:
          The process.
        """
        rows = _thinned(len(ops), _MOST_ROWS)
        ops, ms = [ops[row] for row in rows], ms[rows]
        inputs = _inputs(ops)
        correlation = _correlation(inputs, inputs, parameters.lengths)
        factor = np.linalg.cholesky(
            parameters.signal**2 * correlation + parameters.noise**2 * np.eye(len(ms))
        )
        residual = np.log(ms) - _log_mean(parameters.mean, ops)
        weights = np.linalg.solve(factor.T, np.linalg.solve(factor, residual))
        return cls(parameters, inputs, factor, weights)

    def predict_ms(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Predict times.

        Args:
          ops: [n] operations.

        Returns:
          [n] float64 ms.
        """
        log_mean = _log_mean(self.parameters.mean, ops)
        return np.exp(log_mean + self._covariance(ops) @ self.weights)

    def deviation(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Compute the standard deviations of log(measured / predicted).

        Args:
          ops: [n] operations.

        Returns:
          [n] float64.
        """
        signal, noise = self.parameters.signal, self.parameters.noise
        known = (np.linalg.solve(self.factor, self._covariance(ops).T) ** 2).sum(0)
        return np.sqrt(noise**2 + np.maximum(signal**2 - known, 0.0))

    def _covariance(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Covariance of operations with the measured ones, [n, measured]."""
        correlation = _correlation(_inputs(ops), self.inputs, self.parameters.lengths)
        return self.parameters.signal**2 * correlation


def tune(ops: Sequence[OpCall], ms: np.ndarray) -> KindParameters:
    """Fit the mean by least relative error, and the other parameters by marginal likelihood.

    Args:
      ops: [n] distinct operations of one kind.
      ms: [n] ms, positive.

    Returns:
      The parameters, rounded to the digits that a file keeps.
    """
    rows = _thinned(len(ops), _TUNED_ROWS)
    ops, ms = [ops[row] for row in rows], ms[rows]
    # rounded to the digits that a file keeps
    mean = tuple(float(f"{value:.6g}") for value in nonnegative_fit(_counts(ops), ms))
    residual = np.log(ms) - _log_mean(mean, ops)
    inputs = _inputs(ops)
    varied = np.append(np.ptp(inputs[:, : len(SIZES)], 0) > 0, True)

    def unlikelihood(logs: np.ndarray) -> float:
        lengths, signal, noise = np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1])
        correlation = _correlation(inputs, inputs, lengths.tolist())
        covariance = signal**2 * correlation + noise**2 * np.eye(len(ms))
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return math.inf
        return float(
            0.5 * (np.linalg.solve(factor, residual) ** 2).sum() + np.log(np.diag(factor)).sum()
        )

    start = np.where(varied, 2.0, _UNTRIED)
    logs = np.log([*start, 0.3, 0.02])
    low = np.log([*[0.15] * len(LENGTHS), 0.02, _NOISE_FLOOR])
    high = np.log([*[150.0] * len(LENGTHS), 3.0, 1.0])
    searched = np.flatnonzero(np.append(varied, [True, True]))
    best = unlikelihood(logs)
    for step in _STEPS:
        improved = len(ms) > 1
        while improved:
            improved = False
            for index, sign in itertools.product(searched, (1.0, -1.0)):
                trial = logs.copy()
                trial[index] = np.clip(trial[index] + sign * step, low[index], high[index])
                value = unlikelihood(trial)
                if value < best - 1e-4:
                    best, logs, improved = value, trial, True
    values = [float(f"{value:.4g}") for value in np.exp(logs)]
    return KindParameters(
        mean=mean, lengths=tuple(values[:-2]), signal=values[-2], noise=values[-1]
    )


def _sizes(op: OpCall) -> tuple[float, ...]:
    # a mean has one output pixel, whatever it reads
    pixels = op.input if op.kind == "mean" else op.output
    other = op.other.elements if op.other else 0
    sizes = (
        pixels.height * pixels.width,
        op.input.channels,
        op.out_channels,
        op.kernel,
        op.stride,
        op.groups,
    )
    return (*sizes, op.depth + 1, other + 1)


def _inputs(ops: Sequence[OpCall]) -> np.ndarray:
    """[n, sizes + activations]: log2 of sizes; different activations are a distance of 1 apart."""
    is_activation = [[op.activation == name for name in _ACTIVATIONS] for op in ops]
    one_hot = np.array(is_activation, np.float64) * math.sqrt(0.5)
    return np.concatenate([np.log2(np.array([_sizes(op) for op in ops])), one_hot], 1)


def _counts(ops: Sequence[OpCall]) -> np.ndarray:
    """Factors of the coefficients of the mean, [n, MEAN]."""
    rows = [(1, op.macs, op.input_elements, op.output.elements, op.weights) for op in ops]
    return np.array(rows, np.float64)


def _log_mean(mean: Sequence[float], ops: Sequence[OpCall]) -> np.ndarray:
    return np.log(np.maximum(_counts(ops) @ np.array(mean), 1e-9))


def _correlation(a: np.ndarray, b: np.ndarray, lengths: Sequence[float]) -> np.ndarray:
    """Matern 5/2 correlation of two sets of inputs, [n, m]."""
    scale = np.array([*lengths[:-1], *[lengths[-1]] * len(_ACTIVATIONS)])
    a, b = a / scale, b / scale
    square = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    distance = np.sqrt(5 * np.maximum(square, 0.0))
    return (1 + distance + distance**2 / 3) * np.exp(-distance)


def _thinned(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` rows, always the same ones."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
