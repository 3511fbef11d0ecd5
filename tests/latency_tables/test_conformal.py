from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_tables.conformal import Calibration, coverage
from latency_tables.operator_model import OperatorModel
from search_spaces import OpCall, Shape, yaml_io

TEN = Calibration(ratios=tuple(index / 10 for index in range(6, 16)))  # 0.6, 0.7 .. 1.5
levels = st.floats(0.01, 0.99)
distinct = st.lists(st.integers(1, 100_000), min_size=2, max_size=40, unique=True)


@st.composite
def calibrations(draw: st.DrawFn) -> tuple[Calibration, float | None]:
    """A calibration, and a deviation to ask it with."""
    size = draw(st.integers(1, 50))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    estimated, ratios, deviations = (
        rng.uniform(0.1, 10, size),
        rng.lognormal(0, 0.2, size),
        rng.uniform(0.01, 1, size),
    )
    if draw(st.booleans()):
        return Calibration.from_ratios(estimated, estimated * ratios, deviation=deviations), draw(
            st.floats(0.01, 1)
        )
    return Calibration.from_ratios(estimated, estimated * ratios), None


# (n + 1) level = 11 level ranks lie between the ends, in the middle of 0 .. 11.
@pytest.mark.parametrize(
    ("level", "low", "high"),
    [
        (1 / 11, 1.0, 1.1),
        (3 / 11, 0.9, 1.2),
        (9 / 11, 0.6, 1.5),
        (0.5, 0.7, 1.3),
        (0.9, 0.0, 1.5),
        (0.95, 0.0, math.inf),
    ],
)
def test_intervals_by_hand(level: float, low: float, high: float) -> None:
    assert TEN.interval(2.0, level) == pytest.approx((2 * low, 2 * high))


@pytest.mark.parametrize(
    ("p", "factor"), [(1 / 11, 0.6), (5 / 11, 1.0), (0.5, 1.1), (0.9, 1.5), (0.92, math.inf)]
)
def test_factors_by_hand(p: float, factor: float) -> None:
    assert TEN.factor(p) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("target", "p"), [(1.1, 0), (1.2, 1 / 11), (2.0, 5 / 11), (2.9, 9 / 11), (1e9, 10 / 11)]
)
def test_probabilities_by_hand(target: float, p: float) -> None:
    assert TEN.probability_below(2.0, target) == pytest.approx(p)


def test_ratios_are_kept_sorted() -> None:
    assert Calibration.from_ratios([2, 4, 5], [4, 4, 3], level=0.8) == Calibration(
        ratios=(0.6, 1, 2), level=0.8
    )


def test_a_normalised_ratio_is_one_of_deviation_one() -> None:
    """Twice as long at deviation 0.5 is as likely as four times at 1, and 2 ** 0.2 at 0.1."""
    calibration = Calibration.from_ratios([1.0], [2.0], deviation=[0.5])
    assert calibration.ratios == pytest.approx((4.0,)) and calibration.normalised
    assert calibration.factor(0.5, deviation=0.1) == pytest.approx(2**0.2)


@given(distinct, levels)
def test_exactly_the_promised_fraction_of_exchangeable_cases(
    values: list[int], level: float
) -> None:
    """Every case in turn is the new one: of n + 1 cases ceil((n + 1) level) are covered."""
    held, below = 0, 0
    for index, value in enumerate(values):
        others = Calibration.from_ratios(
            [1.0] * (len(values) - 1), values[:index] + values[index + 1 :]
        )
        low, high = others.interval(1.0, level)
        held += low < value <= high
        below += value <= others.factor(level)
    assert held == below == math.ceil(len(values) * level - 1e-9)


@given(calibrations(), levels, levels)
def test_a_higher_level_is_a_wider_interval(
    case: tuple[Calibration, float | None], one: float, other: float
) -> None:
    calibration, deviation = case
    narrow = calibration.interval(3.0, min(one, other), deviation)
    wide = calibration.interval(3.0, max(one, other), deviation)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]
    assert calibration.factor(min(one, other), deviation) <= calibration.factor(
        max(one, other), deviation
    )


@given(calibrations(), levels)
def test_a_factor_has_its_probability(case: tuple[Calibration, float | None], p: float) -> None:
    calibration, deviation = case
    factor = calibration.factor(p, deviation)
    if factor < math.inf:
        assert calibration.probability_below(3.0, 3.0 * factor * (1 + 1e-12), deviation) >= p - 1e-9
        assert calibration.probability_below(3.0, 3.0 * factor * (1 - 1e-9), deviation) < p
    else:
        assert calibration.probability_below(3.0, 1e300, deviation) < p


@given(calibrations(), levels, st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(
    case: tuple[Calibration, float | None], level: float, unit: float
) -> None:
    calibration, deviation = case
    scaled = np.array(calibration.interval(2.0, level, deviation)) * unit
    np.testing.assert_allclose(
        calibration.interval(2.0 * unit, level, deviation), scaled, rtol=1e-12
    )


@given(calibrations())
def test_yaml(case: tuple[Calibration, float | None]) -> None:
    assert yaml_io.parse_model(yaml_io.to_yaml(case[0]), Calibration, "device.yaml") == case[0]


def cases(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates, measurements, deviations: half of them 10 times as uncertain as the others."""
    rng = np.random.default_rng(seed)
    estimated, deviation = rng.lognormal(0, 1, count), np.where(np.arange(count) % 2, 0.02, 0.2)
    return estimated, estimated * np.exp(0.3 + deviation * rng.standard_t(3, count)), deviation


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_coverage_of_biased_estimates_with_heavy_tails(level: float, normalised: bool) -> None:
    estimated, measured, deviation = cases(400, 0)
    covered = coverage(estimated, measured, level, deviation=deviation if normalised else None)
    assert covered == pytest.approx(level, abs=0.015)


def test_normalised_intervals_cover_the_sure_and_the_unsure_alike() -> None:
    known, new = cases(2000, 1), cases(2000, 2)

    def covered(calibration: Calibration) -> list[float]:
        ends = [
            calibration.interval(ms, None, deviation if calibration.normalised else None)
            for ms, deviation in zip(new[0].tolist(), new[2].tolist(), strict=True)
        ]
        inside = [low <= ms <= high for (low, high), ms in zip(ends, new[1].tolist(), strict=True)]
        return [float(np.mean(inside[start::2])) for start in (0, 1)]

    assert covered(Calibration.from_ratios(*known[:2])) == pytest.approx([0.8, 1.0], abs=0.03)
    bias = math.exp(0.3)  # a deviation says nothing of a bias: take it out first
    new = (new[0] * bias, *new[1:])
    normalised = Calibration.from_ratios(known[0] * bias, known[1], deviation=known[2])
    assert covered(normalised) == pytest.approx([0.9, 0.9], abs=0.03)


def test_coverage_is_repeatable_and_keeps_groups_together() -> None:
    estimated, measured, _ = cases(60, 3)
    assert coverage(estimated, measured, seed=5) == coverage(estimated, measured, seed=5)
    assert coverage(estimated, measured, seed=5) != coverage(estimated, measured, seed=6)
    tripled = coverage(
        np.repeat(estimated, 3), np.repeat(measured, 3), 0.9, groups=np.repeat(np.arange(60), 3)
    )
    assert tripled == pytest.approx(0.9, abs=0.05)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Calibration.from_ratios([1, 2], [1]), r"estimated: got shape \(2,\), expected \(1,\)"),
    (lambda: Calibration.from_ratios([], []), "got shape"),
    (
        lambda: Calibration.from_ratios([1, 0], [1, 1]),
        "estimated: case 1: got 0.0, expected a positive number",
    ),
    (lambda: Calibration.from_ratios([1, 1], [1, math.nan]), "measured: case 1: got nan"),
    (lambda: Calibration.from_ratios([1], [1], deviation=[-1.0]), "deviation: case 0: got -1.0"),
    (lambda: TEN.interval(1.0, 1.5), "got level 1.5, expected more than 0 and less than 1"),
    (lambda: TEN.interval(-1.0), "got an estimate of -1.0"),
    (
        lambda: TEN.interval(1.0, deviation=0.1),
        "got deviation 0.1, but this one has no use for a deviation",
    ),
    (lambda: TEN.factor(0.0), "got p=0.0"),
    (lambda: TEN.probability_below(1.0, 0.0), "got target 0.0"),
    (
        lambda: Calibration(ratios=(1.0,), normalised=True).factor(0.5),
        "got deviation None, but this one needs the deviation of each estimate",
    ),
    (lambda: coverage([1, 1], [1, 1], groups=[0, 0]), "got 2 cases in 1 groups"),
    (lambda: coverage([1, 1], [1, 1], level=1.0), "level 1.0"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[row[1][:30] for row in BAD])
def test_nonsense_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ratios: [1.0, 0.9]", "must be sorted"),
        ("ratios: [-1.0, 0.9]", "got -1.0, expected positive"),
        ("ratios: [0.9, .nan]", "got nan: input should be a finite number"),
        ("ratios: []", "at least 1"),
        ("{ratios: [1.0], level: 90}", "level: got 90"),
    ],
)
def test_damaged_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(yaml_io.YamlError, match=message):
        yaml_io.parse_model(text, Calibration, "device.yaml")


def test_it_is_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        TEN.level = 0.5


# nn-Meter: 1,497 rows, of 131 distinct convolutions and depthwise convolutions.
NN_METER = (
    pathlib.Path(__file__).parents[3]
    / "shared"
    / "latency"
    / "nn_meter"
    / "perop_measured_cpu_tflite.csv"
)


@pytest.mark.skipif(
    not NN_METER.exists(), reason=f"the published measurements are not at {NN_METER}"
)
@pytest.mark.parametrize("normalised", [False, True])
def test_coverage_on_operations_of_nn_meter(normalised: bool) -> None:
    """Split by row, by operation with its rows, and one case an operation: 87 to 93 % at 90 %."""
    with NN_METER.open() as file:
        rows = list(csv.DictReader(file))
    ops = []
    for row in rows:
        size, channels, filters, kernel, stride = (
            int(row[key]) for key in ("hw", "cin", "cout", "k", "s")
        )
        kind = "conv2d" if row["op"] == "conv" else "depthwise_conv2d"
        ops.append(OpCall(kind, Shape(size, size, channels), filters, kernel, stride))
    ms = np.array([float(row["ms"]) for row in rows])
    predicted, deviation = OperatorModel.held_out(ops, ms)
    scale = deviation if normalised else None
    labels = np.unique([repr(op) for op in ops], return_inverse=True)[1]
    assert 0.87 <= coverage(predicted, ms, deviation=scale) <= 0.93
    assert 0.87 <= coverage(predicted, ms, deviation=scale, groups=labels) <= 0.93
    first = np.unique(labels, return_index=True)[1]
    scale = None if scale is None else scale[first]
    assert 0.87 <= coverage(predicted[first], ms[first], deviation=scale) <= 0.93
