from __future__ import annotations

import csv
import functools
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables import roofline
from latency_tables.gaussian_process import LENGTHS, MEAN, KindParameters
from latency_tables.operator_model import OperatorModel, OperatorParameters
from latency_tables.table import Row, format_rows, parse_rows
from search_spaces import OpCall, Shape, yaml_io


def conv(pixels: int, channels: int, filters: int, kernel: int = 1) -> OpCall:
    return OpCall("conv2d", Shape(pixels, pixels, channels), filters, kernel)


def depthwise(pixels: int, channels: int, kernel: int = 3, stride: int = 1) -> OpCall:
    return OpCall("depthwise_conv2d", Shape(pixels, pixels, channels), channels, kernel, stride)


OPS = [
    conv(pixels, a, b) for pixels in (7, 14, 28) for a in (16, 48, 96, 160) for b in (24, 64, 128)
]
OPS += [
    depthwise(pixels, c, k) for pixels in (7, 14, 28) for c in (16, 48, 96, 160) for k in (3, 5, 7)
]


def truth(ops: list[OpCall]) -> np.ndarray:
    """A roofline, 2 us an operation, and 5 x 5 kernels that are slower than they should be."""
    slow = np.array([1.6 if op.kernel == 5 else 1.0 for op in ops])
    return slow * (0.002 + roofline.ops_ms(ops, 20.0, 2.0))


@functools.cache
def model() -> OperatorModel:
    return OperatorModel.fit(OPS, truth(OPS))


def test_measured_operations_are_reproduced() -> None:
    ms, deviation = model().predict(OPS)
    assert ms.shape == deviation.shape == (len(OPS),)
    errors = np.abs(ms / truth(OPS) - 1)
    assert np.median(errors) < 0.01 and errors.max() < 0.1 and (deviation > 0).all()


def test_operations_between_measured_ones() -> None:
    between = [conv(14, 32, 48), conv(10, 96, 96), depthwise(14, 72, 5), depthwise(20, 120, 3)]
    np.testing.assert_allclose(model().predict(between)[0], truth(between), rtol=0.15)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (conv(14, 64, 64), conv(112, 3, 1000)),
        (conv(14, 64, 64), conv(14, 64, 64, 3)),  # a kernel that was not measured at all
        (depthwise(14, 64, 5), depthwise(14, 64, 5, 2)),
        (depthwise(14, 64, 5), depthwise(14, 4096, 11)),
    ],
)
def test_farther_from_what_was_measured_less_is_known(near: OpCall, far: OpCall) -> None:
    ms, deviation = model().predict([near, far])
    assert deviation[1] > 2 * deviation[0] and np.isfinite(ms).all() and (ms > 0).all()


def test_far_away_the_mean_speaks() -> None:
    """A roofline's time grows with its operations: here 4096 times as many MACs."""
    small, large = model().predict([conv(28, 96, 96), conv(28, 96 * 64, 96 * 64)])[0]
    assert 500 < large / small < 20_000


@settings(max_examples=5)
@given(st.permutations(range(len(OPS))))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    ops = [OPS[index] for index in order]
    other = OperatorModel.fit(ops, truth(ops))
    assert other.parameters == model().parameters
    np.testing.assert_array_equal(other.predict(OPS), model().predict(OPS))


def test_repeated_operations_count_once_with_their_mean() -> None:
    ms = truth(OPS)
    twice = OperatorModel.fit([*OPS, *OPS], np.concatenate([0.9 * ms, 1.1 * ms]))
    np.testing.assert_allclose(twice.predict(OPS), model().predict(OPS), rtol=1e-6)


def test_norm_and_bias_are_folded() -> None:
    op = OpCall("conv2d", Shape(14, 14, 48), 64, norm=True, bias=True, block=3, role="expand")
    np.testing.assert_array_equal(model().predict([op]), model().predict([op.folded]))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_rows_is_enough_to_answer(count: int) -> None:
    ops = OPS[:count]
    ms, deviation = OperatorModel.fit(ops, truth(ops)).predict([*ops, conv(56, 24, 72)])
    np.testing.assert_allclose(ms[:-1], truth(ops), rtol=0.2)
    assert np.isfinite(ms).all() and np.isfinite(deviation).all()


@pytest.mark.parametrize(
    "op",
    [
        OpCall("add", Shape(14, 14, 96), 96),
        OpCall("mean", Shape(7, 7, 960), 960),
        OpCall("softmax", Shape(1, 49, 64), 64),
        OpCall("matmul", Shape(1, 64, 32), 64, depth=32, other=Shape(1, 64, 32)),
        OpCall("mul", Shape(14, 14, 96), 96, other=Shape(1, 1, 96), activation="hard_swish"),
    ],
    ids=lambda op: op.kind,
)
def test_every_kind_of_operation(op: OpCall) -> None:
    assert OperatorModel.fit([op], [0.25]).predict([op])[0] == pytest.approx([0.25], rel=0.05)


def test_a_model_is_its_parameters_and_a_table() -> None:
    text = yaml_io.to_yaml(model().parameters)
    parameters = yaml_io.parse_model(text, OperatorParameters, "model.yaml")
    assert parameters == model().parameters
    rows = parse_rows(
        format_rows(Row(op, ms) for op, ms in zip(OPS, truth(OPS).tolist(), strict=True)),
        "rows.csv",
    )
    restored = OperatorModel.build(parameters, [row.op for row in rows], [row.ms for row in rows])
    asked = [*OPS, conv(20, 100, 30)]
    np.testing.assert_allclose(restored.predict(asked), model().predict(asked), rtol=1e-3)


def test_held_out_operations_are_out_with_all_their_rows() -> None:
    """Rows of the same operation do not help to predict it, so more of them change nothing."""
    ms = truth(OPS)
    once = OperatorModel.held_out(OPS, ms)
    thrice = OperatorModel.held_out([*OPS, *OPS, *OPS], np.concatenate([ms, ms, ms]))
    np.testing.assert_allclose(np.reshape(thrice, (2, 3, -1)), np.stack([once] * 3, 1), rtol=1e-9)
    assert np.median(np.abs(once[0] / ms - 1)) < 0.1


def test_the_only_one_of_a_kind_cannot_be_held_out() -> None:
    ms, deviation = OperatorModel.held_out(
        [*OPS[:6], OpCall("add", Shape(4, 4, 8), 8)], [*truth(OPS[:6]), 0.1]
    )
    assert np.isnan(ms).tolist() == np.isnan(deviation).tolist() == [False] * 6 + [True]


ADD = OpCall("add", Shape(14, 14, 96), 96)
PARAMETERS = OperatorParameters(
    kinds={
        "add": KindParameters(
            mean=(1.0,) * len(MEAN), lengths=(1.0,) * len(LENGTHS), signal=1.0, noise=0.1
        )
    }
)


def test_mistakes_are_explained() -> None:
    with pytest.raises(
        ValueError, match="no add was measured, only conv2d, depthwise_conv2d; measure some"
    ):
        model().predict([ADD])
    for ms in ([1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(
            ValueError, match=r"row 1: got (-1.0|nan) ms, expected a positive number"
        ):
            OperatorModel.fit(OPS[:2], ms)
    with pytest.raises(ValueError, match=r"got 2 operations and times of shape \(1,\)"):
        OperatorModel.fit(OPS[:2], [1.0])
    with pytest.raises(ValueError, match=r"got 0 operations"):
        OperatorModel.fit([], [])
    with pytest.raises(
        ValueError, match="got rows of conv2d, but parameters of add; take the rows"
    ):
        OperatorModel.build(PARAMETERS, OPS[:2], truth(OPS[:2]))
    with pytest.raises(ValueError, match="got 1 folds, expected at least 2"):
        OperatorModel.held_out(OPS, truth(OPS), folds=1)


# nn-Meter: 1,497 rows, of 131 distinct convolutions and depthwise convolutions.
NN_METER = (
    pathlib.Path(__file__).parents[3]
    / "shared"
    / "latency"
    / "nn_meter"
    / "perop_measured_cpu_tflite.csv"
)
needs_nn_meter = pytest.mark.skipif(
    not NN_METER.exists(), reason=f"the published measurements are not at {NN_METER}"
)


@functools.cache
def nn_meter() -> tuple[list[OpCall], np.ndarray]:
    ops, ms = [], []
    with NN_METER.open() as file:
        for row in csv.DictReader(file):
            kind = {"conv": "conv2d", "dwconv": "depthwise_conv2d"}[row["op"]]
            size, channels, filters, kernel, stride = (
                int(row[key]) for key in ("hw", "cin", "cout", "k", "s")
            )
            ops.append(OpCall(kind, Shape(size, size, channels), filters, kernel, stride))  # pyright: ignore[reportArgumentType]
            ms.append(float(row["ms"]))
    return ops, np.array(ms)


@needs_nn_meter
class TestNnMeter:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_operations_never_seen(self, seed: int) -> None:
        """Goal: a median error of 10 %; measured: about 1 % overall, 0.9 % and 1.6 % by kind."""
        ops, ms = nn_meter()
        assert len(ops) == 1497 and len(set(ops)) == 131
        predicted, deviation = OperatorModel.held_out(ops, ms, seed=seed)
        errors = np.abs(predicted / ms - 1)
        assert np.median(errors) < 0.02
        for kind in ("conv2d", "depthwise_conv2d"):
            assert np.median(errors[[op.kind == kind for op in ops]]) < 0.03, kind
        # one standard deviation: 0.68 if normal
        inside = np.abs(np.log(ms / predicted)) < deviation
        assert 0.5 < inside.mean() < 0.9

    def test_resolutions_never_seen(self) -> None:
        ops, ms = nn_meter()
        sizes, errors = np.array([op.input.height for op in ops]), np.empty(len(ops))
        for size in np.unique(sizes):
            known, asked = (
                np.flatnonzero(sizes != size).tolist(),
                np.flatnonzero(sizes == size).tolist(),
            )
            predicted = OperatorModel.fit([ops[row] for row in known], ms[known]).predict(
                [ops[row] for row in asked]
            )
            errors[asked] = np.abs(predicted[0] / ms[asked] - 1)
        assert np.median(errors) < 0.06
