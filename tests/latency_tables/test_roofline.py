from __future__ import annotations

import csv
import functools
import pathlib
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import latency_tables
import search_spaces
from latency_tables import roofline
from search_spaces import ArchSpec, OpCall, Shape

# Operation, MACs and bytes (int8: weights + input), by hand.
OPS = [
    ("conv", OpCall("conv2d", Shape(14, 14, 64), 32, 1), 64 * 32 * 196, 64 * 32 + 64 * 196),
    (
        "strided conv",
        OpCall("conv2d", Shape(15, 15, 8), 16, 3, 2),
        9 * 8 * 16 * 64,
        9 * 8 * 16 + 8 * 225,
    ),
    (
        "depthwise",
        OpCall("depthwise_conv2d", Shape(14, 14, 96), 96, 5),
        25 * 96 * 196,
        25 * 96 + 96 * 196,
    ),
    (
        "dense",
        OpCall("fully_connected", Shape(1, 1, 1280), 1000, bias=True),
        1280 * 1000,
        1280 * 1000 + 1280,
    ),
    (
        "image, padded to 4 channels",
        OpCall("conv2d", Shape(32, 32, 3), 16, 3),
        9 * 4 * 16 * 1024,
        9 * 4 * 16 + 4 * 1024,
    ),
    ("residual costs nothing", OpCall("add", Shape(14, 14, 96), 96), 0, 0),
    ("pool costs nothing", OpCall("mean", Shape(7, 7, 960), 960), 0, 0),
]


@pytest.mark.parametrize("ridge_point", [0, 5, 50, 500])
@pytest.mark.parametrize(
    ("op", "macs", "bytes_"), [row[1:] for row in OPS], ids=[row[0] for row in OPS]
)
def test_one_operation_by_hand(op: OpCall, macs: int, bytes_: int, ridge_point: float) -> None:
    """At 40 GB/s: the peak is ridge_point * 40 GMAC/s, and 200 GMAC/s at ridge point 0."""
    if ridge_point == 0:
        expected_s = macs / 200e9
    else:
        expected_s = max(macs / (ridge_point * 40e9), bytes_ / 40e9)
    assert roofline.ops_ms([op], ridge_point) == pytest.approx([expected_s * 1e3], rel=1e-12)


@pytest.mark.parametrize(
    ("op", "options", "bytes_"),
    [
        (OpCall("conv2d", Shape(4, 4, 8), 16), {"outputs": True}, 8 * 16 + 16 * 8 + 16 * 16),
        (OpCall("conv2d", Shape(4, 4, 8), 16), {"element_bytes": 4}, 4 * (8 * 16 + 16 * 8)),
        (
            OpCall("conv2d", Shape(4, 4, 8), 16, activation="relu"),
            {"elementwise": True},
            8 * 16 + 16 * 8,
        ),
        (
            OpCall("conv2d", Shape(4, 4, 8), 16, activation="gelu"),
            {"elementwise": True},
            8 * 16 + 16 * 8 + 2 * 256,
        ),
        (OpCall("conv2d", Shape(4, 4, 8), 16, activation="gelu"), {}, 8 * 16 + 16 * 8),
        (OpCall("add", Shape(4, 4, 8), 8), {"elementwise": True}, 3 * 128),
        (OpCall("add", Shape(4, 4, 8), 8), {}, 0),
    ],
)
def test_options(op: OpCall, options: dict[str, Any], bytes_: int) -> None:
    """At a ridge point so high that only traffic counts, at 1 GB/s."""
    assert roofline.ops_ms([op], 1e9, 1.0, **options) == pytest.approx([bytes_ * 1e-6])


def test_either_side_of_the_ridge() -> None:
    """A 1x1 convolution of 64 to 32 channels at 14 x 14 has 27.5 MACs a byte."""
    op = OPS[0][1]
    intensity = (64 * 32 * 196) / (64 * 32 + 64 * 196)
    below, at, above, far = (
        roofline.ops_ms([op], intensity * scale)[0] for scale in (0.5, 1, 2, 4)
    )
    assert below == pytest.approx(2 * at) and above == far == pytest.approx(at)


@given(bandwidth=st.floats(0.1, 1000), ridge_point=st.floats(0.1, 1000))
def test_time_is_inverse_to_bandwidth(bandwidth: float, ridge_point: float) -> None:
    ops = [row[1] for row in OPS]
    at_1 = roofline.ops_ms(ops, ridge_point, 1.0)
    np.testing.assert_allclose(
        roofline.ops_ms(ops, ridge_point, bandwidth) * bandwidth, at_1, rtol=1e-12
    )


@pytest.mark.parametrize(("ridge_point", "bandwidth"), [(-1.0, 40.0), (50.0, 0.0), (50.0, -40.0)])
def test_a_roofline_that_is_none_is_refused(ridge_point: float, bandwidth: float) -> None:
    message = (
        f"roofline: got ridge_point={ridge_point}, bandwidth_gb_s={bandwidth}; expected >= 0, > 0"
    )
    with pytest.raises(ValueError, match=message):
        roofline.ops_ms([OPS[0][1]], ridge_point, bandwidth)


@pytest.mark.parametrize("ridge_point", [0.0, 5.0, 50.0, 500.0])
def test_a_network_is_the_sum_of_its_operations(small_32: ArchSpec, ridge_point: float) -> None:
    per_op = latency_tables.roofline_ops_ms(small_32, ridge_point, 10.0)
    assert per_op.shape == (len(search_spaces.lower(small_32)),) and per_op.dtype == np.float64
    assert latency_tables.roofline_ms(small_32, ridge_point, 10.0) == pytest.approx(per_op.sum())


def test_defaults_are_ridge_point_50_at_40_gb_s(small_32: ArchSpec) -> None:
    assert latency_tables.roofline_ms(small_32) == latency_tables.roofline_ms(small_32, 50.0, 40.0)
    assert latency_tables.roofline_ms(small_32) != latency_tables.roofline_ms(small_32, 40.0, 40.0)


# Golden values of the paper. Source: arXiv 2404.10518, figures 7-9 (vector data, 0.2 us); layer
# tables 10, 11.
PAPER = pathlib.Path(__file__).parents[3] / "shared" / "paper"
SPECS, GOLDEN = PAPER / "mnv4_specs.yaml", PAPER / "roofline_golden_conv_s_m.csv"
needs_paper = pytest.mark.skipif(
    not (SPECS.exists() and GOLDEN.exists()), reason=f"the digitised figures are not at {PAPER}"
)
NETWORKS = {  # CSV name, parameters, MACs, {ridge point: ms}
    "conv_s": (
        "MobileNetV4-Conv-Small",
        3_774_024,
        186_005_568,
        {0.0: 0.948, 5.0: 1.000, 50.0: 0.176, 500.0: 0.147},
    ),
    "conv_m": (
        "MobileNetV4-Conv-Medium",
        9_715_512,
        1_080_244_224,
        {0.0: 5.425, 5.0: 5.475, 50.0: 0.678, 500.0: 0.436},
    ),
}


@functools.cache
def published(key: str) -> ArchSpec:
    """Conv-S or Conv-M from the rows of the paper's table."""
    model = yaml.safe_load(SPECS.read_text())["models"][key]
    # the released Conv-S has an activation behind its "FusedIB" 1x1
    project = "relu" if key == "conv_s" else "none"
    blocks: list[dict[str, object]] = []
    block: dict[str, object]
    for row in model["blocks"]:
        match row["block"]:
            case "conv2d":
                block = {"kind": "conv", "kernel": row["kernel"]}
            case "fused_ib":
                block = {"kind": "fused_ib", "kernel": row["kernel"], "project_activation": project}
            case "uib":
                block = {"kind": "uib", "start_dw": row["dw_k1"], "middle_dw": row["dw_k2"]}
            case "avgpool":
                block = {"kind": "pool"}
            case "classifier":
                block = {"kind": "classifier", "classes": row["out_ch"]}
            case other:
                raise AssertionError(other)
        if "expand_ratio" in row:
            block["expansion"] = float(row["expand_ratio"])
        if block["kind"] not in ("pool", "classifier"):
            block |= {"filters": row["out_ch"], "stride": row["stride"]}
        blocks.append(block)
    fields = {"name": key, "resolution": model["input_resolution"], "blocks": blocks}
    spec = ArchSpec.model_validate(fields)
    rows = model["blocks"]
    for (index, _, channels, (height, _)), row in zip(spec.walk(), rows, strict=True):
        assert (height, channels) == (row["in_res"], row["in_ch"]), f"{key} row {index}"
    return spec


def golden(name: str, ridge_point: float) -> list[tuple[str, float]]:
    with GOLDEN.open() as file:
        rows = [row for row in csv.DictReader(file) if row["network"] == name]
    rows = [row for row in rows if float(row["ridge_point_macs_per_byte"]) == ridge_point]
    rows.sort(key=lambda row: int(row["layer_index"]))
    return [(row["op_type"], float(row["latency_us"])) for row in rows]


@needs_paper
@pytest.mark.parametrize("key", NETWORKS)
class TestPaper:
    def test_exact_counts(self, key: str) -> None:
        _, params, macs, _ = NETWORKS[key]
        assert (search_spaces.params(published(key)), search_spaces.macs(published(key))) == (
            params,
            macs,
        )

    @pytest.mark.parametrize("ridge_point", [0.0, 5.0, 50.0, 500.0])
    def test_every_plotted_operation(self, key: str, ridge_point: float) -> None:
        spec = published(key)
        times = latency_tables.roofline_ops_ms(spec, ridge_point)
        pooled = False
        ours: list[tuple[str, float]] = []
        for op, ms in zip(search_spaces.lower(spec), times, strict=True):
            pooled = pooled or op.kind == "mean"
            if op.macs:
                kind = (
                    "FC"
                    if pooled
                    else {"conv2d": "Conv2D", "depthwise_conv2d": "DW-Conv2D"}[op.kind]
                )
                ours.append((kind, ms * 1e3))
        theirs = golden(NETWORKS[key][0], ridge_point)
        assert [kind for kind, _ in ours] == [kind for kind, _ in theirs]
        np.testing.assert_allclose(
            [us for _, us in ours], [us for _, us in theirs], rtol=0, atol=0.3
        )

    @pytest.mark.parametrize("ridge_point", [0.0, 5.0, 50.0, 500.0])
    def test_sums(self, key: str, ridge_point: float) -> None:
        expected = NETWORKS[key][3][ridge_point]
        assert latency_tables.roofline_ms(published(key), ridge_point) == pytest.approx(
            expected, abs=0.001
        )
