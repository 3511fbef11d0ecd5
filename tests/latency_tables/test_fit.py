from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from experiments import fit_coral
from latency_tables import roofline
from latency_tables.cached_roofline import CachedRoofline
from latency_tables.fit import CachedFit, best_roofline, fit_cached_roofline, fit_roofline
from latency_tables.nonnegative import nonnegative_fit
from search_spaces import OpCall, Shape, yaml_io

Ops = Sequence[OpCall]
NAMES = (
    "mobilenet-v1",
    "mobilenet-v1-0.5",
    "mobilenet-v2",
    "mobilenet-v2-2.0",
    "mnv4-conv-s",
    "mnv4-conv-m",
)
NAMES += ("mobilenet-v3-large", "mnv4-hybrid-m", "mobileone-s0", "efficientnet-b0")


@functools.cache
def networks() -> tuple[tuple[OpCall, ...], ...]:
    return tuple(tuple(search_spaces.lower(search_spaces.zoo(name))) for name in NAMES)


def conv(pixels: int, channels: int, filters: int, kernel: int = 3) -> OpCall:
    return OpCall("conv2d", Shape(pixels, pixels, channels), filters, kernel)


def dense(channels: int, units: int) -> OpCall:
    return OpCall("fully_connected", Shape(1, 1, channels), units)


class TestNonnegative:
    @given(st.lists(st.floats(0.1, 10), min_size=2, max_size=4), st.integers(0, 10))
    def test_an_exact_solution_is_found(self, truth: list[float], seed: int) -> None:
        columns = np.random.default_rng(seed).uniform(0.1, 1, (12, len(truth)))
        np.testing.assert_allclose(nonnegative_fit(columns, columns @ truth), truth, rtol=1e-4)

    def test_a_constraint_holds(self) -> None:
        """1 - x / 10 at 1, 2, 3: the slope stays 0, and the constant is the middle value."""
        x = np.array([1.0, 2, 3])
        constant, slope = nonnegative_fit(np.stack([np.ones(3), x], 1), 1 - x / 10)
        assert slope == 0 and constant == pytest.approx(0.8, rel=1e-4)

    def test_one_wild_value_does_not_matter(self) -> None:
        columns = np.stack([np.ones(9), np.arange(9.0)], 1)
        ms = columns @ np.array([2.0, 3.0])
        ms[4] *= 10
        np.testing.assert_allclose(nonnegative_fit(columns, ms), [2, 3], rtol=1e-3)

    def test_a_column_of_zeros_gets_zero(self) -> None:
        assert nonnegative_fit(
            np.array([[1.0, 0], [1, 0]]), np.array([2.0, 2])
        ).tolist() == pytest.approx([2, 0])


class TestRoofline:
    @pytest.mark.parametrize("call", [0.0, 0.5])
    @pytest.mark.parametrize(("ridge_point", "bandwidth"), [(31.2, 3.1), (200.0, 10.0)])
    def test_what_a_roofline_made_is_recovered(
        self, ridge_point: float, bandwidth: float, call: float
    ) -> None:
        ms = [call + roofline.ops_ms(ops, ridge_point, bandwidth).sum() for ops in networks()]
        fit = fit_roofline(networks(), ms)
        assert fit.ridge_point == pytest.approx(ridge_point, rel=0.05)
        assert fit.bandwidth_gb_s == pytest.approx(bandwidth, rel=0.05)
        assert fit.call_ms == pytest.approx(call, abs=0.05)
        assert fit.error < 0.005 and fit.held_out_error < 0.02
        assert fit.ridge_range[0] <= fit.ridge_point <= fit.ridge_range[1]

    @pytest.mark.parametrize(("outputs", "elementwise"), [(True, False), (True, True)])
    def test_the_options_that_made_it_are_found(self, outputs: bool, elementwise: bool) -> None:
        options = {"outputs": outputs, "elementwise": elementwise}
        fit = best_roofline(
            networks(),
            [0.1 + roofline.ops_ms(ops, 30.0, 3.0, **options).sum() for ops in networks()],
        )
        assert (fit.outputs, fit.elementwise) == (outputs, elementwise)
        assert fit.held_out_error < 0.01 and fit.bandwidth_gb_s == pytest.approx(3.0, rel=0.05)

    def test_a_ridge_point_beyond_all_operations_is_open_above(self) -> None:
        """No operation has 1000 MACs a byte: all are bound by traffic, so only it can be known."""
        fit = fit_roofline(
            networks(), [roofline.ops_ms(ops, 1000.0, 3.0).sum() for ops in networks()]
        )
        assert fit.ridge_range[1] == math.inf and fit.bandwidth_gb_s == pytest.approx(3.0, rel=1e-3)

    def test_noise_of_five_percent(self) -> None:
        noise = np.exp(np.random.default_rng(0).normal(0, 0.05, len(NAMES)))
        ms = noise * [roofline.ops_ms(ops, 50, 5.0).sum() for ops in networks()]
        fit = fit_roofline(networks(), ms)
        assert fit.ridge_point * fit.bandwidth_gb_s == pytest.approx(250, rel=0.15)
        assert fit.error < 0.05 and fit.held_out_error < 0.08

    def test_one_intensity_leaves_the_ridge_point_open_but_not_the_time(self) -> None:
        """Operations of 49 MACs a byte (nearly) only: peak and bandwidth are not "
        "distinguishable."""
        ops = [[conv(7, channels, 4 * channels, 1)] for channels in (1000, 2000, 4000, 8000)]
        ms = np.array([one[0].macs for one in ops]) * 1e-8
        fit = fit_roofline(ops, ms)
        np.testing.assert_allclose(fit.fitted_ms, ms, rtol=0.02)

    def test_the_seed_decides_the_folds(self) -> None:
        noise = np.exp(np.random.default_rng(0).normal(0, 0.1, len(NAMES)))
        ms = noise * [roofline.ops_ms(ops, 50, 5.0).sum() for ops in networks()]
        first, again, other = (
            fit_roofline(networks(), ms, folds=2, seed=seed) for seed in (1, 1, 2)
        )
        assert (first.held_out_ms == again.held_out_ms).all() and (
            first.fitted_ms == other.fitted_ms
        ).all()
        assert (first.held_out_ms != other.held_out_ms).any()


ONE = [dense(10, 10)]
BAD: list[tuple[str, list[list[OpCall]], list[float], int, str]] = [
    ("lengths", [ONE] * 5, [1.0] * 4, 5, r"got 5 networks and times of shape \(4,\)"),
    ("few", [ONE] * 3, [1.0] * 3, 3, "got 3 measured networks, expected at least 4"),
    (
        "negative",
        [ONE] * 5,
        [1.0, 1, -2, 1, 1],
        5,
        r"network 2: got -2.0 ms, expected a positive number",
    ),
    ("nan", [ONE] * 5, [math.nan, 1, 2, 1, 1], 5, "network 0: got nan ms"),
    (
        "no MACs",
        [ONE, [OpCall("add", Shape(1, 1, 8), 8)], ONE, ONE],
        [1.0] * 4,
        4,
        "network 1: has no operation with",
    ),
    ("folds", [ONE] * 4, [1.0] * 4, 2, "4 networks in 2 folds leave fewer than 3"),
]


@pytest.mark.parametrize(
    ("ops", "ms", "folds", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_measurements_are_refused(
    ops: list[list[OpCall]], ms: list[float], folds: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_roofline(ops, ms, folds=folds)


class TestCachedRoofline:
    DEVICE = CachedRoofline(
        call_ms=0.5,
        peak_gmacs_s=1000.0,
        onchip_gb_s=50.0,
        io_gb_s=0.1,
        stream_gb_s=0.4,
        cache_bytes=10_000.0,
        pixels_per_read=100.0,
        channel_multiple=64,
    )

    def test_by_hand(self) -> None:
        """128 x 64 weights fit; the next 64 x 64 and the last 64 x 10 (as 64 x 64) do not."""
        ops = [dense(128, 64), conv(11, 64, 64, 1), dense(64, 10)]
        weights = np.array([128 * 64, 64 * 64, 64 * 64])
        compute = np.array(
            [
                (8192 + 128) / 50e9,
                max(4096 * 121 / 1e12, (4096 + 64 * 121) / 50e9),
                (4096 + 64) / 50e9,
            ]
        )
        reads = np.array([0, 1 + 120 / 100, 1])
        expected = (compute + weights * reads / 0.4e9) * 1e3
        np.testing.assert_allclose(self.DEVICE.ops_ms(ops), expected, rtol=1e-12)
        fixed = 0.5 + (128 + 10) / 0.1e9 * 1e3
        assert self.DEVICE.fixed_ms(ops) == pytest.approx(fixed)
        assert self.DEVICE.network_ms(ops) == pytest.approx(fixed + expected.sum())

    def test_a_small_operation_fits_into_what_a_large_one_left(self) -> None:
        ops = [dense(100, 64), dense(64, 128), dense(32, 64)]  # 6400; 8192 of 3600 left; 2048
        streamed = self.DEVICE.ops_ms(ops) > 0.01
        assert streamed.tolist() == [False, True, False]

    def test_without_a_limit_it_is_the_roofline(self) -> None:
        plain = CachedRoofline(call_ms=0, peak_gmacs_s=400.0, onchip_gb_s=8.0)
        for ops in networks():
            np.testing.assert_allclose(
                plain.ops_ms(ops), roofline.ops_ms(ops, 50.0, 8.0), rtol=1e-12
            )

    @pytest.mark.parametrize(
        "device", [DEVICE, CachedRoofline(call_ms=0, peak_gmacs_s=1.0, onchip_gb_s=1.0)]
    )
    def test_yaml(self, device: CachedRoofline) -> None:
        assert (
            yaml_io.parse_model(yaml_io.to_yaml(device, defaults=True), CachedRoofline, "here")
            == device
        )

    def test_what_it_made_is_recovered(self) -> None:
        device = self.DEVICE.model_copy(update={"cache_bytes": 4e5})
        made = [[conv(16, 3, width), *[conv(16, width, width)] * 4] for width in range(16, 240, 32)]
        made += [[*[dense(width, width)] * 4, dense(width, 10)] for width in range(100, 800, 100)]
        fit = fit_cached_roofline(
            made, [device.network_ms(ops) for ops in made], channel_multiples=(1, 64), folds=3
        )
        assert fit.model.channel_multiple == 64 and fit.error < 0.005
        assert fit.cache_range[0] <= fit.model.cache_bytes <= fit.cache_range[1]
        for name in (
            "call_ms",
            "peak_gmacs_s",
            "io_gb_s",
            "stream_gb_s",
            "cache_bytes",
            "pixels_per_read",
        ):
            assert getattr(fit.model, name) == pytest.approx(getattr(device, name), rel=0.1), name

    def test_networks_that_all_fit_show_no_cache(self) -> None:
        device = CachedRoofline(call_ms=0.1, peak_gmacs_s=100.0, onchip_gb_s=10.0)
        made = [[conv(8, width, width), dense(width, 10)] for width in range(8, 128, 8)]
        fit = fit_cached_roofline(
            made, [device.network_ms(ops) for ops in made], channel_multiples=(1,)
        )
        assert (
            fit.model.stream_gb_s == fit.model.cache_bytes == math.inf and fit.held_out_error < 0.01
        )

    def test_ten_networks_at_least(self) -> None:
        with pytest.raises(ValueError, match="got 9 measured networks, expected at least 10"):
            fit_cached_roofline([ONE] * 9, [1.0] * 9)


# Coral EdgeTPU: networks of five convolutions or four dense layers, with the memory that the
# compiler reports.
CORAL = pathlib.Path(__file__).parents[3] / "shared" / "latency" / "coral_edgetpu"
needs_coral = pytest.mark.skipif(
    not CORAL.exists(), reason=f"the published measurements are not at {CORAL}"
)


@functools.cache
def coral() -> tuple[CachedFit, fit_coral.Measured]:
    measured = fit_coral.read(CORAL)
    return fit_coral.fit(measured), measured


@needs_coral
class TestCoral:
    @pytest.mark.parametrize(
        ("kind", "streamed", "limit"),
        # Dense layers on the chip: calls of 0.1 to 0.25 ms, and neighbours in the file differ by
        # 11 %, so that 10 % is missed.
        [("conv", False, 0.05), ("conv", True, 0.05), ("dens", True, 0.01), ("dens", False, 0.18)],
    )
    def test_median_error_of_held_out_networks(
        self, kind: str, streamed: bool, limit: float
    ) -> None:
        fit, measured = coral()
        rows = (measured.kind == kind) & (measured.streamed == streamed)
        assert np.median(np.abs(fit.held_out_ms / fit.measured_ms - 1)[rows]) <= limit

    @pytest.mark.parametrize("streamed", [False, True])
    def test_ten_percent_on_either_side_of_the_cliff(self, streamed: bool) -> None:
        fit, measured = coral()
        rows = measured.streamed == streamed
        assert np.median(np.abs(fit.held_out_ms / fit.measured_ms - 1)[rows]) <= 0.10

    def test_the_cache_agrees_with_the_compiler(self) -> None:
        """The fit did not use the reported memory: the cache must lie above every use of it."""
        fit, measured = coral()
        on_chip = measured.on_chip_mib
        assert fit.model.channel_multiple == 64
        assert (
            max(on_chip)
            <= fit.cache_range[1] / 2**20
            <= fit.cache_range[0] / 2**20 + 0.1
            <= max(on_chip) + 0.15
        )

    @pytest.mark.parametrize(("name", "measured"), [("mobilenet-v1", 2.4), ("mobilenet-v2", 2.6)])
    def test_published_networks(self, name: str, measured: float) -> None:
        """Other hosts and another publisher: only a check that nothing is far out."""
        ms = coral()[0].model.network_ms(search_spaces.lower(search_spaces.zoo(name)))
        assert ms == pytest.approx(measured, rel=0.25)
