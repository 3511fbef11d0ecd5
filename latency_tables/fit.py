"""Fits of the few parameters of a device: a roofline, or one with an on-chip cache."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from latency_tables import roofline
from latency_tables.cached_roofline import CachedRoofline, OperationArrays, roofline_terms
from latency_tables.nonnegative import least_relative_error
from search_spaces import OpCall

# losses this close (relative) are equal: the data do not distinguish the parameters
_TIE = 1e-6
# of a coarse-to-fine search, after the coarse one
_ROUNDS = 2
_Predict = Callable[[Sequence[Sequence[OpCall]]], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class _Fit:
    """Measured times, and those of the fit.

    Attributes:
      measured_ms: [networks] float64 measured ms.
      fitted_ms: [networks] float64 ms of the fit to all networks.
      held_out_ms: [networks] float64 ms of each network by a fit without its fold.
    """

    measured_ms: np.ndarray
    fitted_ms: np.ndarray
    held_out_ms: np.ndarray

    @property
    def error(self) -> float:
        """Median relative error of the fit to all networks."""
        return float(np.median(np.abs(self.fitted_ms / self.measured_ms - 1)))

    @property
    def held_out_error(self) -> float:
        """Median relative error on held-out networks, by k-fold."""
        return float(np.median(np.abs(self.held_out_ms / self.measured_ms - 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class RooflineFit(_Fit):
    """A roofline fitted to measurements; see `fit_roofline`.

    Attributes:
      ridge_point: Ridge point in MACs/byte.
      bandwidth_gb_s: Memory bandwidth in GB/s.
      call_ms: Fixed cost of one run of any network.
      ridge_range: Lowest and highest ridge point whose loss is within 2 % of the best: 0 or
        infinity if every operation may be bound by arithmetic, or by traffic. Then the time is
        known, but not the ridge point.
      outputs: Option of `roofline.ops_ms` with which it was fitted.
      elementwise: Option of `roofline.ops_ms` with which it was fitted.
    """

    ridge_point: float
    bandwidth_gb_s: float
    call_ms: float
    ridge_range: tuple[float, float]
    outputs: bool
    elementwise: bool


@dataclasses.dataclass(frozen=True, eq=False)
class CachedFit(_Fit):
    """A cached roofline fitted to measurements; see `fit_cached_roofline`.

    Attributes:
      model: Parameters of the device.
      cache_range: Smallest and largest cache that fit equally well: the measurements do not locate
        it more exactly.
    """

    model: CachedRoofline
    cache_range: tuple[float, float]


def best_roofline(
    ops_lists: Sequence[Sequence[OpCall]],
    measured_ms: Sequence[float] | np.ndarray,
    *,
    folds: int = 5,
    seed: int = 0,
) -> RooflineFit:
    """Fit a roofline with and without outputs and elementwise operations, and take the best.

    Args:
      ops_lists: Operations of each measured network; one operation each if operations were
        measured.
      measured_ms: [networks] ms.
      folds: Number of folds; see `fit_roofline`.
      seed: Random seed of the split into folds.

    Returns:
      The fit with the smallest held-out error.

    Raises:
      ValueError: As `fit_roofline`.
    """
    fits = [
        fit_roofline(
            ops_lists, measured_ms, folds=folds, seed=seed, outputs=outputs, elementwise=elementwise
        )
        for elementwise in (False, True)
        for outputs in (False, True)
    ]
    return min(fits, key=lambda fit: fit.held_out_error)


def fit_roofline(
    ops_lists: Sequence[Sequence[OpCall]],
    measured_ms: Sequence[float] | np.ndarray,
    *,
    folds: int = 5,
    seed: int = 0,
    outputs: bool = False,
    elementwise: bool = False,
) -> RooflineFit:
    """Fit a roofline to measured times.

    minimise over R, 1/B, c >= 0: sum_i |t_i / measured_i - 1|
    t_i = c + sum over operations of roofline(R, B)

    For given R this is convex in (1/B, c). R is searched from coarse to fine between the smallest
    and the largest intensity of an operation; outside of it nothing changes. Of ridge points that
    fit equally well the middle is taken.

    Args:
      ops_lists: Operations of each measured network; one operation each if operations were
        measured.
      measured_ms: [networks] ms.
      folds: Number of folds for the held-out error, each predicted from the others; at most the
        number of networks.
      seed: Random seed of the split into folds.
      outputs: Whether the bytes that are written count; see `roofline.ops_ms`.
      elementwise: Whether operations without MACs cost their traffic; see `roofline.ops_ms`.

    Returns:
      The fit.

    Raises:
      ValueError: Fewer than 4 networks, a time that is not positive, or a network without MACs.
    """
    ms = _checked(ops_lists, measured_ms, least=4)
    macs, traffic, owner = roofline_terms(ops_lists, outputs)
    options = {"outputs": outputs, "elementwise": elementwise}
    # bytes whose transfer nothing overlaps
    after = np.zeros(len(macs))
    if elementwise:
        every = [op for ops in ops_lists for op in ops]
        after = roofline.activation_elements(every)
        traffic = np.where(
            macs > 0, traffic, roofline.ops_ms(every, 1.0, 1.0, elementwise=True) * 1e6 - after
        )
    busy = macs > 0
    intensity = macs[busy] / traffic[busy]

    def solve(rows: np.ndarray) -> tuple[RooflineFit, _Predict]:
        def at(ridge: float) -> tuple[float, np.ndarray]:
            column = np.bincount(owner, np.maximum(macs / ridge, traffic) + after, len(ms)) * 1e-6
            return least_relative_error(np.stack([np.ones(len(ms)), column], 1)[rows], ms[rows])

        grid = np.geomspace(intensity.min(), intensity.max(), 33)
        best = _search(lambda ridge: at(ridge)[0], grid, slack=0.02)
        low, high = best.range
        ridge_range = (low if low > grid[0] else 0.0, high if high < grid[-1] else math.inf)
        call, slope = at(best.value)[1]
        bandwidth = 1 / slope if slope else math.inf

        def predict(lists: Sequence[Sequence[OpCall]]) -> np.ndarray:
            sums = [roofline.ops_ms(ops, best.value, bandwidth, **options).sum() for ops in lists]
            return np.array([call + ms_of_ops for ms_of_ops in sums])

        empty = np.zeros(0)
        times = (empty, empty, empty)
        parameters = (best.value, bandwidth, float(call), ridge_range)
        return RooflineFit(*times, *parameters, **options), predict

    fit, predict = solve(np.arange(len(ms)))
    held_out = _held_out(lambda rows: solve(rows)[1], ops_lists, folds, seed, least=3)
    return dataclasses.replace(
        fit, measured_ms=ms, fitted_ms=predict(ops_lists), held_out_ms=held_out
    )


def fit_cached_roofline(
    ops_lists: Sequence[Sequence[OpCall]],
    measured_ms: Sequence[float] | np.ndarray,
    *,
    channel_multiples: Iterable[int] = (1, 8, 16, 32, 64, 128),
    folds: int = 5,
    seed: int = 0,
) -> CachedFit:
    """Fit a `CachedRoofline` to measured times of whole networks.

    As in `fit_roofline` the sum of |t_i / measured_i - 1| is minimised. It is convex in the call
    and the five reciprocal rates. Cache size and ridge point are searched in turn from coarse to
    fine, for each channel multiple.

    Args:
      ops_lists: Operations of each measured network in the order in which they run.
      measured_ms: [networks] ms.
      channel_multiples: Channel multiples to try.
      folds: Number of folds for the held-out error; all parameters are fitted in each fold.
      seed: Random seed of the split into folds.

    Returns:
      The fit.

    Raises:
      ValueError: Fewer than 10 networks, a time that is not positive, or a network without MACs.
    """
    ms = _checked(ops_lists, measured_ms, least=10)
    variants = {multiple: OperationArrays(ops_lists, multiple) for multiple in channel_multiples}

    def solve(rows: np.ndarray) -> tuple[float, CachedRoofline, tuple[float, float]]:
        return min(
            (_fit_cached(networks, multiple, ms, rows) for multiple, networks in variants.items()),
            key=lambda candidate: candidate[0],
        )

    def predictor(model: CachedRoofline) -> _Predict:
        return lambda lists: np.array([model.network_ms(ops) for ops in lists])

    _, model, cache_range = solve(np.arange(len(ms)))
    held_out = _held_out(lambda rows: predictor(solve(rows)[1]), ops_lists, folds, seed, least=8)
    return CachedFit(ms, predictor(model)(ops_lists), held_out, model, cache_range)


def _fit_cached(
    networks: OperationArrays, multiple: int, ms: np.ndarray, rows: np.ndarray
) -> tuple[float, CachedRoofline, tuple[float, float]]:
    """Fit one channel multiple: loss, device and range of equally good caches."""
    busy = (networks.macs > 0) & (networks.traffic > 0)
    intensity = networks.macs[busy] / networks.traffic[busy]
    sizes = np.bincount(networks.owner, networks.weights, len(ms))[rows]
    ridges = np.geomspace(intensity.min(), intensity.max(), 9)
    caches = np.append(np.geomspace(max(sizes.min() / 2, 1.0), max(sizes.max(), 2.0), 49), math.inf)

    def at(ridge: float, cache: float) -> tuple[float, np.ndarray]:
        return least_relative_error(networks.columns(ridge, cache)[rows], ms[rows])

    ridge = float(np.sqrt(intensity.min() * intensity.max()))
    cache = _Optimum(math.inf, (math.inf, math.inf), math.inf)
    for rounds in (0, _ROUNDS):
        cache = _search(lambda size, ridge=ridge: at(ridge, size)[0], caches, rounds=rounds)
        ridge = _search(lambda r, size=cache.value: at(r, size)[0], ridges, rounds=rounds).value
    loss, (call, compute, io, stream, again) = least_relative_error(
        networks.columns(ridge, cache.value)[rows], ms[rows], 100
    )
    # the smallest pixels_per_read is 1
    stream = max(stream, again)
    model = CachedRoofline(
        call_ms=float(call),
        peak_gmacs_s=ridge * _reciprocal(compute),
        onchip_gb_s=_reciprocal(compute),
        io_gb_s=_reciprocal(io),
        stream_gb_s=_reciprocal(stream),
        cache_bytes=cache.value,
        pixels_per_read=float(stream) * _reciprocal(again) if stream else math.inf,
        channel_multiple=multiple,
    )
    return loss, model, cache.range


@dataclasses.dataclass(frozen=True)
class _Optimum:
    """The best point of a search.

    Attributes:
      value: The point.
      range: Lowest and highest point whose loss is within the slack of the best.
      loss: Loss of a point that was tried, equal to that of `value` up to a tie.
    """

    value: float
    range: tuple[float, float]
    loss: float


def _search(
    loss: Callable[[float], float], grid: np.ndarray, slack: float = _TIE, rounds: int = _ROUNDS
) -> _Optimum:
    """Find the best point of a grid, refined between its neighbours.

    Of points that are equally good the middle is taken. The range is that of all points tried whose
    loss is within `slack` (relative) of the best, without gaps.
    """
    losses = {float(value): loss(float(value)) for value in grid}
    for _ in range(rounds):
        values, (first, last) = _best_run(losses, _TIE)
        for low, high in {(max(first - 1, 0), first), (last, min(last + 1, len(values) - 1))}:
            if values[low] < values[high] < math.inf:
                for value in np.geomspace(values[low], values[high], 9)[1:-1]:
                    losses[float(value)] = loss(float(value))
    values, (first, last) = _best_run(losses, _TIE)
    middle = values[(first + last) // 2]
    # infinite if infinity is as good
    value = math.sqrt(values[first] * values[last])
    value = value if loss(value) <= losses[middle] * (1 + _TIE) else middle
    _, (first, last) = _best_run(losses, slack)
    return _Optimum(value, (values[first], values[last]), losses[middle])


def _best_run(losses: dict[float, float], slack: float) -> tuple[list[float], tuple[int, int]]:
    """The points in order, and first and last index of the run of points as good as the best."""
    values = sorted(losses)
    level = np.array([losses[value] for value in values])
    first = last = int(level.argmin())
    allowed = level[first] * (1 + slack) + 1e-12
    while first > 0 and level[first - 1] <= allowed:
        first -= 1
    while last < len(level) - 1 and level[last + 1] <= allowed:
        last += 1
    return values, (first, last)


def _held_out(
    fit: Callable[[np.ndarray], _Predict],
    ops_lists: Sequence[Sequence[OpCall]],
    folds: int,
    seed: int,
    least: int,
) -> np.ndarray:
    """Predict each network by a fit without its fold, [networks]."""
    count = len(ops_lists)
    folds = min(folds, count)
    if folds < 2 or count - -(-count // folds) < least:
        raise ValueError(
            f"fit: {count} networks in {folds} folds leave fewer than {least} to fit; "
            "use more folds"
        )
    fold_of = np.random.default_rng(seed).permutation(count) % folds
    out = np.empty(count)
    for fold in range(folds):
        rows = np.flatnonzero(fold_of == fold)
        out[rows] = fit(np.flatnonzero(fold_of != fold))([ops_lists[row] for row in rows.tolist()])
    return out


def _checked(
    ops_lists: Sequence[Sequence[OpCall]], measured_ms: Sequence[float] | np.ndarray, least: int
) -> np.ndarray:
    ms = np.asarray(measured_ms, np.float64)
    if ms.shape != (len(ops_lists),):
        raise ValueError(
            f"fit: got {len(ops_lists)} networks and times of shape {ms.shape}; "
            "expected one time for each"
        )
    if len(ms) < least:
        raise ValueError(f"fit: got {len(ms)} measured networks, expected at least {least}")
    for index, (ops, value) in enumerate(zip(ops_lists, ms, strict=True)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"fit: network {index}: got {value} ms, expected a positive number")
        if not any(op.macs for op in ops):
            raise ValueError(
                f"fit: network {index}: has no operation with MACs; leave it out, as a roofline "
                "times MACs only"
            )
    return ms


def _reciprocal(value: float) -> float:
    return 1 / float(value) if value > 0 else math.inf
