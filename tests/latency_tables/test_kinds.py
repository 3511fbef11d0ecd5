"""Kinds of device: what their costs are made of, and that a cost model adds them up exactly."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import latency_tables
import search_spaces
from latency_tables import CostModel, DeviceModel
from latency_tables.cached_roofline import CachedRoofline
from latency_tables.kinds import CachedRooflineDevice, RooflineDevice, TableDevice
from latency_tables.table import Row, save_table
from search_spaces import OpCall, SearchSpace, Shape

ABOUT: dict[str, Any] = {"name": "d", "source": "a test", "date": "2026-11"}
OPS = (
    OpCall("conv2d", Shape(4, 4, 8), 16, 3),
    OpCall("depthwise_conv2d", Shape(4, 4, 16), 16, 3, 2),
    OpCall("add", Shape(2, 2, 16), 16),
    OpCall("mean", Shape(2, 2, 16), 16),
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # bytes at 1 GB/s = 1e-6 ms each, and a ridge point so high that arithmetic is free
        ({}, [1152 + 128, 144 + 256, 0, 0]),
        ({"outputs": True}, [1152 + 128 + 256, 144 + 256 + 64, 0, 0]),
        ({"element_bytes": 4.0}, [4 * 1280, 4 * 400, 0, 0]),
        ({"elementwise": True}, [1280, 400, 3 * 64, 64 + 16]),
    ],
    ids=str,
)
def test_what_a_roofline_counts(options: dict, expected: list[float]) -> None:
    device = RooflineDevice(**ABOUT, ridge_point=1e6, bandwidth_gb_s=1.0, call_ms=0.5, **options)
    np.testing.assert_allclose(device.op_costs(OPS), np.array(expected) * 1e-6)
    assert device.estimate(OPS).ms == pytest.approx(0.5 + sum(expected) * 1e-6)


def cached(cache_bytes: float) -> CachedRooflineDevice:
    model = CachedRoofline(
        call_ms=0.125,
        peak_gmacs_s=500,
        onchip_gb_s=10,
        io_gb_s=0.1,
        stream_gb_s=0.5,
        cache_bytes=cache_bytes,
    )
    return CachedRooflineDevice(**ABOUT, model=model)


# weights of 1152 and 144 bytes, cached whole
@pytest.mark.parametrize(
    ("cache", "streamed"),
    [
        (1e9, 0),
        (1296, 0),
        (1295, 144),
        (1000, 1152),
        (0, 1296),
    ],
)
def test_weights_beyond_the_cache_stream(cache: float, streamed: int) -> None:
    device = cached(cache)
    io = (OPS[0].input.elements + OPS[-1].output.elements) / 0.1e6
    plain = device.op_costs(OPS).sum() + 0.125 + io
    assert device.estimate(OPS).ms == pytest.approx(plain + streamed / 0.5e6)
    bound = float(device.total(device.features(OPS).sum(0))) + device.fixed_cost(OPS)
    assert plain <= bound + 1e-12 and bound <= device.estimate(OPS).ms + 1e-12
    assert bound == pytest.approx(plain + max(0, 1296 - cache) / 0.5e6)


@pytest.fixture
def table(tmp_path: pathlib.Path, manifest: dict[str, Any]) -> pathlib.Path:
    save_table(
        tmp_path / "bench", [Row(op, 1.0 + i) for i, op in enumerate(OPS)], call_ms=0.25, **manifest
    )
    return tmp_path / "bench"


def test_a_table_is_looked_up(table: pathlib.Path) -> None:
    device = TableDevice(**ABOUT, table=str(table), speed=2.0)
    got = device.estimate(OPS)
    assert (
        got.per_op.tolist() == [2.0, 4.0, 6.0, 8.0]
        and got.ms == 20 + 2 * 0.25
        and got.filled_in == ()
    )
    assert (
        "table bench: Phone 1, LiteRT 2, 1 thread(s), int8, measured 2026-11-24" in got.description
    )
    assert (got.low_ms, got.high_ms) == (None, None)


def test_a_missing_row_is_an_error_that_names_it(table: pathlib.Path) -> None:
    device = TableDevice(**ABOUT, table=str(table))
    ops = (
        *OPS,
        OpCall("conv2d", Shape(9, 9, 8), 16, 3, 2, "relu"),
        OpCall("softmax", Shape(9, 9, 8), 8),
    )
    with pytest.raises(ValueError) as caught:
        device.estimate(ops)
    assert (
        "has no rows for 2 operations (conv2d 3x3 s2 [9, 9, 8] to 16 relu; softmax [9, 9, 8] to 8)"
        in str(caught.value)
    )
    with pytest.raises(ValueError, match="has no rows for"):
        CostModel.build(search_spaces.coarse_space(search_spaces.base("small-32")), [device])


def test_a_missing_row_may_be_interpolated_and_is_said(
    tmp_path: pathlib.Path, manifest: dict[str, Any]
) -> None:
    rows = [
        Row(op, 1e-6 * op.macs)
        for size, width, out in itertools.product((4, 8, 16), (8, 16, 32), (8, 16, 32))
        for op in [OpCall("conv2d", Shape(size, size, width), out)]
    ]
    save_table(tmp_path / "bench", rows, call_ms=0.25, **manifest)
    device = TableDevice(**ABOUT, table=str(tmp_path / "bench"), fallback="interpolate")
    unknown = OpCall("conv2d", Shape(12, 12, 16), 24)
    got = device.estimate([rows[0].op, unknown])
    assert got.filled_in == (unknown,) and got.per_op[0] == pytest.approx(rows[0].ms, rel=1e-5)
    assert got.per_op[1] == pytest.approx(1e-6 * unknown.macs, rel=0.1)


DEVICES: list[DeviceModel] = [
    cached(1000),
    cached(20000),
    latency_tables.device("pixel6-cpu"),
    cached(8000),
    latency_tables.device("macs"),
]


def test_a_cost_model_of_devices_with_several_features(tiny_space: SearchSpace) -> None:
    model = CostModel.build(tiny_space, DEVICES)
    assert model.table.shape[0] == 2 + 2 + 1 + 2 + 1
    vectors = list(
        itertools.product(*(range(decision.options) for decision in tiny_space.decisions))
    )
    costs = model(vectors)
    for row, vector in zip(costs[::7], vectors[::7], strict=True):
        ops = search_spaces.lower(search_spaces.freeze(tiny_space, vector))
        sums = [d.total(d.features(ops).sum(0)) + d.fixed_cost(ops) for d in DEVICES]
        np.testing.assert_allclose(row, sums, rtol=1e-12)
        assert all(
            cost <= d.estimate(ops).value * (1 + 1e-12)
            for cost, d in zip(row, DEVICES, strict=True)
        )
    for place in range(len(DEVICES)):
        low, high = model.range(place)
        assert low <= costs[:, place].min() * (1 + 1e-12)
        assert high == pytest.approx(costs[:, place].max(), rel=1e-12)
    assert model.range(2) == pytest.approx((costs[:, 2].min(), costs[:, 2].max()), rel=1e-12)


def test_totals_take_jax_arrays(tiny_space: SearchSpace) -> None:
    model = CostModel.build(tiny_space, DEVICES)
    sums = np.random.default_rng(0).uniform(0, 1e4, (5, model.table.shape[0]))
    np.testing.assert_allclose(model.totals(jnp.asarray(sums)), model.totals(sums), rtol=1e-5)
