"""Fit the few parameters of a device to measured networks or operations: a roofline, or one with an on-chip cache."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import numpy as np
import pydantic

from latency_tables import roofline
from search_spaces import OpCall
from search_spaces.choice import Frozen

_TIE = 1e-6  # losses this close (relative) are the same: the data do not tell the parameters apart
_ROUNDS = 2  # of a coarse-to-fine search, after the coarse one
_Predict = Callable[[Sequence[Sequence[OpCall]]], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class _Fitted:
    """What was measured, and what the fit says of it: with all rows known, and of each row with its fold left out.

    Attributes:
      measured_ms, fitted_ms, held_out_ms: [networks] float64.
    """

    measured_ms: np.ndarray
    fitted_ms: np.ndarray
    held_out_ms: np.ndarray

    @property
    def error(self) -> float:
        """Median relative error on the rows that were fitted."""
        return float(np.median(np.abs(self.fitted_ms / self.measured_ms - 1)))

    @property
    def held_out_error(self) -> float:
        """Median relative error on rows that were not, by k-fold."""
        return float(np.median(np.abs(self.held_out_ms / self.measured_ms - 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class RooflineFit(_Fitted):
    """A roofline fitted to measurements; see `fit_roofline`.

    Attributes:
      ridge_point: MACs/byte.
      bandwidth_gb_s: GB/s.
      call_ms: cost of one run, whatever runs.
      ridge_range: lowest and highest ridge point that fit within 2 % as well: 0 or infinity if every operation may be
        bound by arithmetic, or by traffic; then the time is known, but not the ridge point.
      outputs, elementwise: the options of `roofline.ops_ms` with which it was fitted.
    """

    ridge_point: float
    bandwidth_gb_s: float
    call_ms: float
    ridge_range: tuple[float, float]
    outputs: bool
    elementwise: bool


class CachedRoofline(Frozen):
    """A device that keeps weights in a small memory on the chip and streams those that do not fit, at every run.

    t = call + (input + output of the network) / io + sum over operations of
        max(MACs / peak, (weights + input) / on-chip bandwidth) + [streamed] reads * weights / stream bandwidth,
    reads = 1 + (output pixels - 1) / pixels_per_read. int8: one byte an element.
    Output channels are rounded up to `channel_multiple`, in the weights and in the MACs. Weights are cached whole, an
    operation after the other as they run; those that do not fit into what is left are streamed.

    Attributes:
      call_ms: cost of one run.
      peak_gmacs_s: of rounded-up MACs.
      onchip_gb_s, io_gb_s, stream_gb_s: bandwidths of the memory on the chip, of the input and output of a network, of
        streamed weights; infinite where the measurements show none of their cost.
      cache_bytes: of weights kept on the chip; infinite: all.
      pixels_per_read: streamed weights are read once more for so many output pixels.
      channel_multiple: of the arithmetic array.
    """

    call_ms: Annotated[float, pydantic.Field(ge=0)]
    peak_gmacs_s: Annotated[float, pydantic.Field(gt=0)]
    onchip_gb_s: Annotated[float, pydantic.Field(gt=0)] = math.inf
    io_gb_s: Annotated[float, pydantic.Field(gt=0)] = math.inf
    stream_gb_s: Annotated[float, pydantic.Field(gt=0)] = math.inf
    cache_bytes: Annotated[float, pydantic.Field(ge=0)] = math.inf
    pixels_per_read: Annotated[float, pydantic.Field(ge=1)] = math.inf
    channel_multiple: Annotated[int, pydantic.Field(ge=1)] = 1

    def ops_ms(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Milliseconds of the operations of one network, in the order in which they run, [operations]."""
        net = _Networks([ops], self.channel_multiple)
        compute = np.maximum(net.macs / self.peak_gmacs_s, net.traffic / self.onchip_gb_s)
        reads = 1 + (net.pixels - 1) / self.pixels_per_read
        return (compute + net.streamed(self.cache_bytes) * net.weights * reads / self.stream_gb_s) * 1e-6

    def weight_bytes(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Bytes that the weights of each operation take in the cache, [operations]."""
        return _Networks([ops], self.channel_multiple).weights

    def overhead_ms(self, ops: Sequence[OpCall]) -> float:
        """Milliseconds of a run of a network that are no operation's: the call, its input and output."""
        return self.call_ms + (ops[0].input.elements + ops[-1].output.elements) / self.io_gb_s * 1e-6

    def network_ms(self, ops: Sequence[OpCall]) -> float:
        """Milliseconds of one run of a network, given as its operations in the order in which they run."""
        return self.overhead_ms(ops) + float(self.ops_ms(ops).sum())


@dataclasses.dataclass(frozen=True, eq=False)
class CachedFit(_Fitted):
    """A cached roofline fitted to measurements; see `fit_cached_roofline`.

    Attributes:
      model: the device.
      cache_range: smallest and largest cache that fit equally well: a cliff lies between two measured networks.
    """

    model: CachedRoofline
    cache_range: tuple[float, float]


def best_roofline(
    ops_lists: Sequence[Sequence[OpCall]], measured_ms: Sequence[float] | np.ndarray, *, folds: int = 5, seed: int = 0
) -> RooflineFit:
    """The fit with the smallest held-out error of those with and without outputs and elementwise operations."""
    fits = [
        fit_roofline(ops_lists, measured_ms, folds=folds, seed=seed, outputs=outputs, elementwise=elementwise)
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
    """The roofline that is nearest to measured times.

    minimise over R, 1/B, c >= 0: sum_i |t_i / measured_i - 1|,  t_i = c + sum over operations of roofline(R, B)
    For given R this is convex in (1/B, c); R is searched from coarse to fine between the smallest and the largest
    intensity of an operation, outside of which nothing changes. The middle is taken of ridge points that fit equally.

    Args:
      ops_lists: operations of each measured network; one operation each if operations were measured.
      measured_ms: [networks].
      folds: for the held-out error: that many parts, each predicted from the others; at most one a network.
      seed: of the split into folds.
      outputs, elementwise: see `roofline.ops_ms`.

    Raises:
      ValueError: fewer than 4 networks, a time that is not positive, a network without MACs.
    """
    ms = _checked(ops_lists, measured_ms, least=4)
    macs, traffic, owner = _roofline_terms(ops_lists, outputs)
    options = {"outputs": outputs, "elementwise": elementwise}
    after = np.zeros(len(macs))  # bytes that nothing overlaps
    if elementwise:
        every = [op for ops in ops_lists for op in ops]
        after = roofline.activation_elements(every)
        traffic = np.where(macs > 0, traffic, roofline.ops_ms(every, 1.0, 1.0, elementwise=True) * 1e6 - after)
    busy = macs > 0
    intensity = macs[busy] / traffic[busy]

    def solve(rows: np.ndarray) -> tuple[RooflineFit, _Predict]:
        def at(ridge: float) -> tuple[float, np.ndarray]:
            column = np.bincount(owner, np.maximum(macs / ridge, traffic) + after, len(ms)) * 1e-6
            return _nonnegative(np.stack([np.ones(len(ms)), column], 1)[rows], ms[rows])

        grid = np.geomspace(intensity.min(), intensity.max(), 33)
        best = _search(lambda ridge: at(ridge)[0], grid, slack=0.02)
        low, high = best.range
        ridge_range = (low if low > grid[0] else 0.0, high if high < grid[-1] else math.inf)
        call, slope = at(best.value)[1]
        bandwidth = 1 / slope if slope else math.inf

        def predict(lists: Sequence[Sequence[OpCall]]) -> np.ndarray:
            return np.array([call + roofline.ops_ms(ops, best.value, bandwidth, **options).sum() for ops in lists])

        empty = np.zeros(0)
        return RooflineFit(empty, empty, empty, best.value, bandwidth, float(call), ridge_range, **options), predict

    fit, predict = solve(np.arange(len(ms)))
    held_out = _held_out(lambda rows: solve(rows)[1], ops_lists, folds, seed, least=3)
    return dataclasses.replace(fit, measured_ms=ms, fitted_ms=predict(ops_lists), held_out_ms=held_out)


def fit_cached_roofline(
    ops_lists: Sequence[Sequence[OpCall]],
    measured_ms: Sequence[float] | np.ndarray,
    *,
    channel_multiples: Iterable[int] = (1, 8, 16, 32, 64, 128),
    folds: int = 5,
    seed: int = 0,
) -> CachedFit:
    """The `CachedRoofline` that is nearest to measured times of whole networks.

    As in `fit_roofline` the sum of |t_i / measured_i - 1| is minimised: convex in the call and the five reciprocal
    rates, with coarse-to-fine searches in turn over cache size and ridge point, for each channel multiple.

    Args:
      ops_lists: operations of each measured network, in the order in which they run.
      measured_ms: [networks].
      channel_multiples: those to try.
      folds, seed: as in `fit_roofline`; all parameters are fitted anew in each fold.

    Raises:
      ValueError: fewer than 10 networks, a time that is not positive, a network without MACs.
    """
    ms = _checked(ops_lists, measured_ms, least=10)
    variants = {multiple: _Networks(ops_lists, multiple) for multiple in channel_multiples}

    def solve(rows: np.ndarray) -> tuple[float, CachedRoofline, tuple[float, float]]:
        return min(
            (_fit_cached(networks, multiple, ms, rows) for multiple, networks in variants.items()),
            key=lambda fitted: fitted[0],
        )

    def predictor(model: CachedRoofline) -> _Predict:
        return lambda lists: np.array([model.network_ms(ops) for ops in lists])

    _, model, cache_range = solve(np.arange(len(ms)))
    held_out = _held_out(lambda rows: predictor(solve(rows)[1]), ops_lists, folds, seed, least=8)
    return CachedFit(ms, predictor(model)(ops_lists), held_out, model, cache_range)


class _Networks:
    """Operations of some networks as flat arrays, [operations], and which network each belongs to."""

    def __init__(self, ops_lists: Sequence[Sequence[OpCall]], channel_multiple: int) -> None:
        ops = [op for ops in ops_lists for op in ops]
        self.macs, self.traffic, self.owner = _roofline_terms(ops_lists)
        self.io = np.array([o[0].input.elements + o[-1].output.elements for o in ops_lists], np.float64)
        self.pixels = np.array([op.output.height * op.output.width for op in ops], np.float64)
        channels = np.array([op.out_channels for op in ops], np.float64)
        rounding = np.ceil(channels / channel_multiple) * channel_multiple / channels
        counted = np.array([op.macs for op in ops], np.float64)
        image = np.divide(self.macs, counted, out=np.ones(len(ops)), where=counted > 0)  # 4/3 of an RGB image, or 1
        unrounded = np.array([op.weights for op in ops], np.float64) * image
        self.weights = unrounded * rounding
        self.macs = np.where(unrounded > 0, self.macs * rounding, self.macs)
        self.traffic = self.traffic + self.weights - unrounded
        self._streamed: dict[float, np.ndarray] = {}

    def streamed(self, cache_bytes: float) -> np.ndarray:
        """Whether an operation's weights do not fit, [operations] bool."""
        if cache_bytes not in self._streamed:
            out, left, network = np.zeros(len(self.weights), bool), 0.0, -1
            for index, (weights, owner) in enumerate(zip(self.weights.tolist(), self.owner.tolist(), strict=True)):
                if owner != network:
                    left, network = cache_bytes, owner
                out[index] = weights > left
                left -= 0.0 if out[index] else weights
            self._streamed[cache_bytes] = out
        return self._streamed[cache_bytes]

    def columns(self, ridge: float, cache_bytes: float) -> np.ndarray:
        """What the call and the reciprocal rates multiply: [networks, 5]: call, on-chip, io, stream, stream again."""
        streamed = self.streamed(cache_bytes) * self.weights
        total = functools.partial(np.bincount, self.owner, minlength=len(self.io))
        compute = total(np.maximum(self.macs / ridge, self.traffic))
        again = total(streamed * (self.pixels - 1))
        return np.stack([np.full(len(self.io), 1e6), compute, self.io, total(streamed), again], 1) * 1e-6


def _fit_cached(
    networks: _Networks, multiple: int, ms: np.ndarray, rows: np.ndarray
) -> tuple[float, CachedRoofline, tuple[float, float]]:
    """Loss, device and range of caches for one channel multiple."""
    busy = (networks.macs > 0) & (networks.traffic > 0)
    intensity = networks.macs[busy] / networks.traffic[busy]
    sizes = np.bincount(networks.owner, networks.weights, len(ms))[rows]
    ridges = np.geomspace(intensity.min(), intensity.max(), 9)
    caches = np.append(np.geomspace(max(sizes.min() / 2, 1.0), max(sizes.max(), 2.0), 49), math.inf)

    def at(ridge: float, cache: float) -> tuple[float, np.ndarray]:
        return _nonnegative(networks.columns(ridge, cache)[rows], ms[rows])

    ridge = float(np.sqrt(intensity.min() * intensity.max()))
    found = _Found(math.inf, (math.inf, math.inf), math.inf)
    for rounds in (0, _ROUNDS):
        found = _search(lambda cache, ridge=ridge: at(ridge, cache)[0], caches, rounds=rounds)
        ridge = _search(lambda r, cache=found.value: at(r, cache)[0], ridges, rounds=rounds).value
    loss, (call, compute, io, stream, again) = _nonnegative(networks.columns(ridge, found.value)[rows], ms[rows], 100)
    stream = max(stream, again)  # the smallest pixels_per_read is 1
    model = CachedRoofline(
        call_ms=float(call),
        peak_gmacs_s=ridge * _reciprocal(compute),
        onchip_gb_s=_reciprocal(compute),
        io_gb_s=_reciprocal(io),
        stream_gb_s=_reciprocal(stream),
        cache_bytes=found.value,
        pixels_per_read=float(stream) * _reciprocal(again) if stream else math.inf,
        channel_multiple=multiple,
    )
    return loss, model, found.range


@dataclasses.dataclass(frozen=True)
class _Found:
    value: float
    range: tuple[float, float]
    loss: float


def _search(loss: Callable[[float], float], grid: np.ndarray, slack: float = _TIE, rounds: int = _ROUNDS) -> _Found:
    """The best point of a grid, refined between its neighbours; the middle of points that are equally good.

    The range is that of all points tried whose loss is within `slack` (relative) of the best, without gaps.
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
    value = math.sqrt(values[first] * values[last])  # infinite if infinity is as good
    value = value if loss(value) <= losses[middle] * (1 + _TIE) else middle
    _, (first, last) = _best_run(losses, slack)
    return _Found(value, (values[first], values[last]), losses[middle])


def _best_run(losses: dict[float, float], slack: float) -> tuple[list[float], tuple[int, int]]:
    """The points in order; first and last index of the run around the best whose losses are within `slack` of it."""
    values = sorted(losses)
    level = np.array([losses[value] for value in values])
    first = last = int(level.argmin())
    allowed = level[first] * (1 + slack) + 1e-12
    while first > 0 and level[first - 1] <= allowed:
        first -= 1
    while last < len(level) - 1 and level[last + 1] <= allowed:
        last += 1
    return values, (first, last)


def nonnegative_fit(columns: np.ndarray, ms: np.ndarray) -> np.ndarray:
    """min over x >= 0 of sum_i |(columns @ x)_i / ms_i - 1|: the least relative error of a linear model.

    Args:
      columns: [n, p], not negative.
      ms: [n], positive.

    Returns:
      x [p] float64; 0 for a column of zeros.
    """
    return _nonnegative(columns, ms, 100)[1]


def _nonnegative(columns: np.ndarray, ms: np.ndarray, rounds: int = 8) -> tuple[float, np.ndarray]:
    """min over x >= 0 of mean |columns @ x / ms - 1|, by reweighted least squares: the loss, and x [columns]."""
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
    """min over x >= 0 of x' gram x / 2 - right' x, at once if only those of `guess` are not 0.

    An active-set method: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
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
            x = x + (x[falling] / np.maximum(x[falling] - target[falling], 1e-300)).min() * (target - x)
            free &= x > 1e-14
            x[~free] = 0
            target = solve(free)
        x = target
    return x


def _held_out(
    fit: Callable[[np.ndarray], _Predict], ops_lists: Sequence[Sequence[OpCall]], folds: int, seed: int, least: int
) -> np.ndarray:
    """Of each network what a fit without its fold predicts, [networks]."""
    count = len(ops_lists)
    folds = min(folds, count)
    if folds < 2 or count - -(-count // folds) < least:
        raise ValueError(f"fit: {count} networks in {folds} folds leave fewer than {least} to fit; use more folds")
    part = np.random.default_rng(seed).permutation(count) % folds
    out = np.empty(count)
    for fold in range(folds):
        rows = np.flatnonzero(part == fold)
        out[rows] = fit(np.flatnonzero(part != fold))([ops_lists[row] for row in rows.tolist()])
    return out


def _roofline_terms(
    ops_lists: Sequence[Sequence[OpCall]], outputs: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MACs, bytes and network of each operation, [operations], by the rules of `roofline.ops_ms` at its two limits."""
    ops = [op for ops in ops_lists for op in ops]
    macs = roofline.ops_ms(ops, 0) * (roofline.INFINITE_BANDWIDTH_GMACS_S * 1e6)
    traffic = roofline.ops_ms(ops, math.inf, 1.0, outputs=outputs) * 1e6
    return macs, traffic, np.repeat(np.arange(len(ops_lists)), [len(ops) for ops in ops_lists])


def _checked(
    ops_lists: Sequence[Sequence[OpCall]], measured_ms: Sequence[float] | np.ndarray, least: int
) -> np.ndarray:
    ms = np.asarray(measured_ms, np.float64)
    if ms.shape != (len(ops_lists),):
        raise ValueError(
            f"fit: got {len(ops_lists)} networks and times of shape {ms.shape}; expected one time for each"
        )
    if len(ms) < least:
        raise ValueError(f"fit: got {len(ms)} measured networks, expected at least {least}")
    for index, (ops, value) in enumerate(zip(ops_lists, ms, strict=True)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"fit: network {index}: got {value} ms, expected a positive number")
        if not any(op.macs for op in ops):
            raise ValueError(f"fit: network {index}: has no operation with MACs, which is all that a roofline times")
    return ms


def _reciprocal(value: float) -> float:
    return 1 / float(value) if value > 0 else math.inf
