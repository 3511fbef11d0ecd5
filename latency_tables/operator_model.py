"""OperatorModel: the time of any operation from those that were measured, with how far off it may be."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, get_args

import numpy as np
import pydantic

from latency_tables.fit import nonnegative_fit
from search_spaces import OpCall
from search_spaces.choice import Frozen
from search_spaces.ops import Activation

SIZES = ("output_pixels", "channels", "out_channels", "kernel", "stride", "groups", "depth", "other_elements")
LENGTHS = (*SIZES, "activation")
MEAN = ("call", "macs", "input_elements", "output_elements", "weights")
_ACTIVATIONS: tuple[str, ...] = get_args(Activation)
_TUNED_ROWS, _MOST_ROWS = 200, 2000  # a kind's rows that the length scales are tuned on, and that are kept: O(rows^3)
_NOISE_FLOOR = 0.003  # relative; no stopwatch is better
_UNTRIED = 0.25  # length of a size that never varied: an operation with another value is as good as unknown
_STEPS = (1.0, 0.5, 0.25)  # of the search over logarithms of the parameters


class KindParameters(Frozen):
    """What is fitted for one kind of operation; with the measured rows it is the whole model.

    Attributes:
      mean: nonnegative ms for each of `MEAN`: an operation, a MAC, an element.
      lengths: for each of `LENGTHS`, over how many doublings of a size times stay alike.
      signal, noise: relative deviation of times from the mean, and of a measurement from the truth.
    """

    mean: Annotated[tuple[float, ...], pydantic.Field(min_length=len(MEAN), max_length=len(MEAN))]
    lengths: Annotated[tuple[float, ...], pydantic.Field(min_length=len(LENGTHS), max_length=len(LENGTHS))]
    signal: Annotated[float, pydantic.Field(gt=0)]
    noise: Annotated[float, pydantic.Field(gt=0)]


class OperatorParameters(Frozen):
    """Parameters of an `OperatorModel`, one set a kind of operation."""

    kinds: dict[str, KindParameters]


@dataclasses.dataclass(frozen=True, eq=False)
class _Kind:
    """A conditioned Gaussian process: training inputs [n, columns], Cholesky factor [n, n], weights [n]."""

    parameters: KindParameters
    inputs: np.ndarray
    factor: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class OperatorModel:
    """Times of operations from measured ones, a Gaussian process for each kind of operation.

    log t = log(mean . counts) + g,  g ~ GP(0, signal^2 Matern_5/2(|log2 sizes - log2 sizes'| / lengths) + noise^2)
    Near measured operations the measurements speak; far from them the mean does: a constant, and so much a MAC, an
    element read or written, a weight. A kernel or another size of which only one value was measured tells nothing of
    other values: there the deviation is `signal`, and the estimate a guess. The same rows give the same model, whatever
    their order.

    To keep a model: `parameters` as YAML (`yaml_io.to_yaml`), and the rows as the CSV of a table; `build` puts them
    together. Or keep the rows only and fit again: it takes about a second.

    Attributes:
      parameters: see `KindParameters`.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1, equation 4.17.
    """

    parameters: OperatorParameters
    _kinds: Mapping[str, _Kind]

    @classmethod
    def fit(cls, ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray) -> OperatorModel:
        """Tune the parameters to measured operations by marginal likelihood, and condition on the operations.

        An operation that occurs more than once counts once, with the mean of its times.

        Args:
          ops: [n] operations.
          ms: [n], time of one run of each.

        Raises:
          ValueError: no operation, or a time that is not positive.
        """
        rows = _by_kind(ops, ms)
        return cls.build(OperatorParameters(kinds={kind: _tuned(*row) for kind, row in rows.items()}), ops, ms)

    @classmethod
    def build(
        cls, parameters: OperatorParameters, ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray
    ) -> OperatorModel:
        """Condition on measured operations with parameters that were fitted to them before.

        Raises:
          ValueError: as `fit`; or parameters and rows are not of the same kinds of operation.
        """
        rows = _by_kind(ops, ms)
        if set(rows) != set(parameters.kinds):
            raise ValueError(
                f"operator model: got rows of {', '.join(sorted(rows))}, but parameters of "
                f"{', '.join(sorted(parameters.kinds))}; take the rows that the parameters were fitted to"
            )
        kinds = {kind: _conditioned(parameters.kinds[kind], *row) for kind, row in rows.items()}
        return cls(parameters, kinds)

    @classmethod
    def held_out(
        cls, ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray, *, folds: int = 5, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """What models predict of operations that they were not fitted to: k-fold by distinct operation.

        Rows of one operation are in one fold: else a model would be asked what it was told. Every kind of operation is
        spread over all folds.

        Args:
          ops, ms: as `fit`.
          folds: number of parts, each predicted from the others.
          seed: of the split.

        Returns:
          ms [n], relative deviation [n], as `predict`; NaN for an operation that is the only one of its kind.

        Raises:
          ValueError: as `fit`, or fewer than 2 folds.
        """
        if folds < 2:
            raise ValueError(f"operator model: got {folds} folds, expected at least 2")
        times, rng = np.asarray(ms, np.float64), np.random.default_rng(seed)
        part: dict[OpCall, int] = {}
        for distinct, _ in _by_kind(ops, times).values():
            places = rng.permutation(len(distinct)) % folds
            part |= dict(zip(distinct, places.tolist(), strict=True))
        fold_of = np.array([part[op.folded] for op in ops])
        out, deviation = np.full(len(ops), math.nan), np.full(len(ops), math.nan)
        for fold in sorted(set(part.values())):
            known, asked = np.flatnonzero(fold_of != fold).tolist(), np.flatnonzero(fold_of == fold).tolist()
            kinds = {ops[row].kind for row in known}
            asked = [row for row in asked if ops[row].kind in kinds]
            if asked:
                model = cls.fit([ops[row] for row in known], times[known])
                out[asked], deviation[asked] = model.predict([ops[row] for row in asked])
        return out, deviation

    def predict(self, ops: Sequence[OpCall]) -> tuple[np.ndarray, np.ndarray]:
        """Times of operations, measured or not.

        Returns:
          ms [n] float64; relative deviation [n] float64: the standard deviation of log(measured / ms).

        Raises:
          ValueError: a kind of operation of which none was measured.
        """
        out, deviation = np.empty(len(ops)), np.empty(len(ops))
        for name in {op.kind: None for op in ops}:
            if name not in self._kinds:
                raise ValueError(
                    f"operator model: no {name} was measured, only {', '.join(sorted(self._kinds))}; "
                    f"measure some, or estimate {name} from another source"
                )
            rows = [index for index, op in enumerate(ops) if op.kind == name]
            chosen = [ops[index] for index in rows]
            out[rows], deviation[rows] = _predicted(self._kinds[name], chosen)
        return out, deviation


def _by_kind(ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray) -> dict[str, tuple[list[OpCall], np.ndarray]]:
    """Distinct operations and their mean times, by kind, in an order that does not depend on that of the rows."""
    times = np.asarray(ms, np.float64)
    if times.shape != (len(ops),) or not len(ops):
        raise ValueError(f"operator model: got {len(ops)} operations and times of shape {times.shape}")
    for index in np.flatnonzero(~(np.isfinite(times) & (times > 0))).tolist():
        raise ValueError(f"operator model: row {index}: got {times[index]} ms, expected a positive number")
    seen: dict[OpCall, list[float]] = {}
    for op, value in zip(ops, times.tolist(), strict=True):
        seen.setdefault(op.folded, []).append(value)
    out: dict[str, tuple[list[OpCall], np.ndarray]] = {}
    for kind in sorted({op.kind for op in seen}):
        distinct = sorted((op for op in seen if op.kind == kind), key=repr)
        out[kind] = (distinct, np.array([math.fsum(seen[op]) / len(seen[op]) for op in distinct]))
    return out


def _sizes(op: OpCall) -> tuple[float, ...]:
    pixels = op.input if op.kind == "mean" else op.output  # a mean has one output pixel, whatever it reads
    other = op.other.elements if op.other else 0
    sizes = (pixels.height * pixels.width, op.input.channels, op.out_channels, op.kernel, op.stride, op.groups)
    return (*sizes, op.depth + 1, other + 1)


def _inputs(ops: Sequence[OpCall]) -> np.ndarray:
    """[n, sizes + activations]: log2 of sizes; different activations are a distance of 1 apart."""
    one_hot = np.array([[op.activation == name for name in _ACTIVATIONS] for op in ops], np.float64) * math.sqrt(0.5)
    return np.concatenate([np.log2(np.array([_sizes(op) for op in ops])), one_hot], 1)


def _counts(ops: Sequence[OpCall]) -> np.ndarray:
    """What the coefficients of the mean multiply, [n, MEAN]."""
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


def _tuned(ops: list[OpCall], ms: np.ndarray) -> KindParameters:
    """Mean by least relative error; lengths, signal and noise by a search of the marginal likelihood."""
    rows = _thinned(len(ops), _TUNED_ROWS)
    ops, ms = [ops[row] for row in rows], ms[rows]
    mean = tuple(float(f"{value:.6g}") for value in nonnegative_fit(_counts(ops), ms))  # as they are written
    residual = np.log(ms) - _log_mean(mean, ops)
    inputs = _inputs(ops)
    varied = np.append(np.ptp(inputs[:, : len(SIZES)], 0) > 0, True)

    def unlikelihood(logs: np.ndarray) -> float:
        lengths, signal, noise = np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1])
        covariance = signal**2 * _correlation(inputs, inputs, lengths.tolist()) + noise**2 * np.eye(len(ms))
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return math.inf
        return float(0.5 * (np.linalg.solve(factor, residual) ** 2).sum() + np.log(np.diag(factor)).sum())

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
    return KindParameters(mean=mean, lengths=tuple(values[:-2]), signal=values[-2], noise=values[-1])


def _conditioned(parameters: KindParameters, ops: list[OpCall], ms: np.ndarray) -> _Kind:
    rows = _thinned(len(ops), _MOST_ROWS)
    ops, ms = [ops[row] for row in rows], ms[rows]
    inputs = _inputs(ops)
    correlation = _correlation(inputs, inputs, parameters.lengths)
    factor = np.linalg.cholesky(parameters.signal**2 * correlation + parameters.noise**2 * np.eye(len(ms)))
    residual = np.log(ms) - _log_mean(parameters.mean, ops)
    weights = np.linalg.solve(factor.T, np.linalg.solve(factor, residual))
    return _Kind(parameters, inputs, factor, weights)


def _predicted(kind: _Kind, ops: Sequence[OpCall]) -> tuple[np.ndarray, np.ndarray]:
    parameters = kind.parameters
    shared = parameters.signal**2 * _correlation(_inputs(ops), kind.inputs, parameters.lengths)
    log_ms = _log_mean(parameters.mean, ops) + shared @ kind.weights
    known = (np.linalg.solve(kind.factor, shared.T) ** 2).sum(0)
    variance = parameters.noise**2 + np.maximum(parameters.signal**2 - known, 0.0)
    return np.exp(log_ms), np.sqrt(variance)


def _thinned(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` rows, the same ones always."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
