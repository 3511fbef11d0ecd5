"""Importers: what others measured becomes our operations, and what is wrong is refused with file and line or key."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import json
import pathlib
import re
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from latency_tables.importers import IMPORTERS, Imported, import_table, read
from latency_tables.importers.profile import Node, join
from latency_tables.measurement import (
    MEASUREMENT_COLUMNS,
    Measurement,
    format_measurements,
    load_measurements,
    parse_measurements,
    save_measurements,
    single_rows,
)
from latency_tables.table import load_table
from search_spaces import ArchSpec, OpCall, Shape
from search_spaces.spec import lower_by_block

MANIFEST: dict[str, Any] = {
    "name": "blocks",
    "device": "Phone 1",
    "processor": "Core X",
    "runtime": "LiteRT 2",
    "threads": 1,
    "dtype": "int8",
    "how": "measured",
    "protocol": "mean of 1000",
    "date": "2026-11-24",
    "source": "a test",
    "licence": "Apache-2.0",
}
CONV = OpCall("conv2d", Shape(8, 8, 16), 24, 3, 2, "relu")
ADD = OpCall("add", Shape(4, 4, 24), 24)


def refused(call: Callable[[], object], message: str) -> None:
    """The call must raise a ValueError with exactly this message."""
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


def texts(measurement: Measurement) -> list[str]:
    return [op.text for op in measurement.ops]


# Measurements of several operations


def test_the_same_operation_several_times_is_pooled() -> None:
    """Two samples of 2 and 6 runs: the mean and deviation of all 8 runs."""
    first, second = [1.0, 3.0], [4.0, 4.0, 5.0, 5.0, 6.0, 6.0]
    given_ = [
        Measurement("a", (CONV,), statistics.fmean(first), statistics.pstdev(first), 2),
        Measurement("block", (CONV, ADD), 9.0),
        Measurement(
            "b", (dataclasses.replace(CONV, norm=True),), statistics.fmean(second), statistics.pstdev(second), 6
        ),
        Measurement("c", (ADD,), 0.5),
    ]
    conv, add = single_rows(given_)
    assert (conv.op, conv.count, add.op, add.ms, add.std_ms, add.count) == (CONV, 8, ADD, 0.5, 0.0, 1)
    assert conv.ms == pytest.approx(statistics.fmean(first + second), rel=1e-12)
    assert conv.std_ms == pytest.approx(statistics.pstdev(first + second), rel=1e-12)


_OPS = [op.folded for name in ("small-32", "mnv4-hybrid-m") for op in search_spaces.lower(search_spaces.base(name))]


@given(
    blocks=st.lists(st.lists(st.sampled_from(_OPS), min_size=1, max_size=5), min_size=1, max_size=6),
    ms=st.floats(1e-3, 1e3),
    count=st.integers(1, 10**6),
)
def test_measurements_are_read_as_they_are_written(blocks: list[list[OpCall]], ms: float, count: int) -> None:
    written = [Measurement(f"block, {i}", tuple(ops), ms * (i + 1), ms / 8, count) for i, ops in enumerate(blocks)]
    back = parse_measurements(format_measurements(written), "t")
    assert [(one.name, one.ops, one.count) for one in back] == [(one.name, one.ops, one.count) for one in written]
    assert [one.ms for one in back] == pytest.approx([one.ms for one in written], rel=1e-5)
    assert [one.std_ms for one in back] == pytest.approx([one.std_ms for one in written], rel=1e-2)


def test_measurements_in_a_folder(tmp_path: pathlib.Path) -> None:
    saved = save_measurements(
        tmp_path, [Measurement("a", (CONV, ADD), 1.5, 0.25, 7), Measurement("b", (ADD,), 2)], **MANIFEST
    )
    assert saved.manifest.rows == 3 and load_measurements(tmp_path) == saved
    path = tmp_path / "measurements.csv"
    assert path.read_text().splitlines() == [
        ",".join(MEASUREMENT_COLUMNS),
        "a,1.5,0.25,7,conv2d,8,8,16,24,3,2,1,relu,,,,0",
        ",,,,add,4,4,24,24,1,1,1,none,,,,0",
        "b,2,0,1,add,4,4,24,24,1,1,1,none,,,,0",
    ]
    path.write_text(path.read_text().replace("1.5", "1.6"))
    manifest = tmp_path / "measurements.yaml"
    refused(
        lambda: load_measurements(tmp_path),
        f"{path}: these are not the rows that {manifest} describes (sha256 differs); restore the file, or "
        "import or measure it again",
    )
    path.unlink()
    refused(lambda: load_measurements(tmp_path), f"{path}: cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (2, "a,1.5", ",1.5", "t:2: name: got '', expected what was measured, as there is a time"),
        (2, "a,1.5,0.25,7", ",,,", "t:2: name: got '', expected the name and times of the first measurement"),
        (4, "b,2", "a,2", "t:4: name: 'a' is already in line 2; leave one out"),
        (2, "1.5", "-1.5", "t:2: ms: got '-1.5', expected a positive number of milliseconds"),
        (2, "1.5", "nan", "t:2: ms: got 'nan', expected a positive number of milliseconds"),
        (3, "add,4", "add,0", "t:3: height: got '0', expected an integer of at least 1"),
        (3, ",0", "", f"t:3: expected {len(MEASUREMENT_COLUMNS)} values"),
        (
            1,
            "ms,",
            "us,",
            f"t:1: got columns {', '.join(MEASUREMENT_COLUMNS).replace('ms,', 'us,', 1)}, expected "
            f"{', '.join(MEASUREMENT_COLUMNS)}",
        ),
    ],
)
def test_damaged_measurements(line: int, old: str, new: str, message: str) -> None:
    lines = format_measurements([Measurement("a", (CONV, ADD), 1.5, 0.25, 7), Measurement("b", (ADD,), 2)]).splitlines()
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    refused(lambda: parse_measurements("\n".join(lines), "t"), message)


def test_no_measurements() -> None:
    refused(lambda: parse_measurements(format_measurements([]), "t"), "t: has no measurements")


# Files that tell what they measured

OPERATORS = """\
op,hw,cin,cout,k,s,mflops,mparams,ms
conv,8,3,16,3,2,0.007168,0.000448,0.5
dwconv,8,16,16,5,1,0.026624,0.000416,0.25
dwconv,8,16,16,5,1,0.026624,0.000416,0.75
"""
BLOCKS = json.dumps(
    {
        "firstconv_32_3_16_2_3": 0.5,
        "conv_16_16_16_1_1_hard_swish_3_nose": 0.25,
        "conv_16_16_24_6_2_hard_swish_5_se": 1.25,
        "transds_8_24_48_1_4": 2.5,
        "mbpool_4_48_64_6_hard_swish": 3.5,
        "transattn_4_48_hard_swish_2_ln": 4.5,
        "transffn_4_48_2_hard_swish_ln": 5.5,
    },
    indent=1,
)
OFA = "".join(
    f"{key}:\n  count: 10\n  mean: {ms}\n  std: 0.25\n"
    for key, ms in {
        "Conv-input:33x33x3-output:17x17x24": 0.5,
        "expanded_conv-input:17x17x24-output:17x17x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0": 1.5,
        "expanded_conv-input:17x17x24-output:9x9x32-expand:72-kernel:7-stride:2-idskip:0-se:1-hs:1": 2.5,
        "Conv_1-input:9x9x32-output:9x9x192": 3.5,
        "AvgPool2D-input:9x9x192-output:1x1x192": 4.5,
        "Conv_2-input:1x1x192-output:1x1x256": 5.5,
        "Logits-input:1x1x256-output:10": 6.5,
    }.items()
)
TUNAS = """\
block,layer,kind,kernel,expansion,stride,out_filters,skip,coef_ms,in_hw,in_ch,macs_M,ms_over_skip
1,0,depthwise_separable,3,,1,16,0,-1.5,8,32,0.051,
2,0,inverted_bottleneck,5,3,2,32,0,0.25,8,16,0.093,
2,1,inverted_bottleneck,3,6,1,32,0,-0.5,4,32,0.224,1.5
2,1,zero_skip,,,1,32,1,-2.0,4,32,0.0,0.0
"""
FILES = {  # importer: (name of the file, its text)
    "nn_meter_operators": ("perop.csv", OPERATORS),
    "nn_meter_blocks": ("pixel4_lut.json", BLOCKS),
    "ofa": ("33_lookup_table.yaml", OFA),
    "tunas": ("cost_model.csv", TUNAS),
}
_SE = ["fully_connected 1x1 [1, 1, {0}] to {1} relu", "fully_connected 1x1 [1, 1, {1}] to {0} hard_sigmoid"]
EXPECTED = {  # importer: {measurement: operations, by hand}
    "nn_meter_operators": {
        "line 2": ["conv2d 3x3 s2 [8, 8, 3] to 16"],
        "line 3": ["depthwise_conv2d 5x5 [8, 8, 16] to 16"],
        "line 4": ["depthwise_conv2d 5x5 [8, 8, 16] to 16"],
    },
    "nn_meter_blocks": {
        "firstconv_32_3_16_2_3": ["conv2d 3x3 s2 [32, 32, 3] to 16 hard_swish"],
        "conv_16_16_16_1_1_hard_swish_3_nose": [
            "depthwise_conv2d 3x3 [16, 16, 16] to 16 hard_swish",
            "conv2d 1x1 [16, 16, 16] to 16",
            "add [16, 16, 16] to 16",
        ],
        "conv_16_16_24_6_2_hard_swish_5_se": [
            "conv2d 1x1 [16, 16, 16] to 96 hard_swish",
            "depthwise_conv2d 5x5 s2 [16, 16, 96] to 96 hard_swish",
            "mean [8, 8, 96] to 96",
            *(text.format(96, 24) for text in _SE),
            "mul [8, 8, 96] to 96",
            "conv2d 1x1 [8, 8, 96] to 24",
            "avg_pool s2 [16, 16, 16] to 16",
            "conv2d 1x1 [8, 8, 16] to 24",
            "add [8, 8, 24] to 24",
        ],
        "transds_8_24_48_1_4": [
            "conv2d 1x1 [8, 8, 24] to 96 hard_swish",
            "depthwise_conv2d 3x3 [8, 8, 96] to 96 hard_swish",
            "mean [8, 8, 96] to 96",
            *(text.format(96, 24) for text in _SE),
            "mul [8, 8, 96] to 96",
            "conv2d 1x1 [8, 8, 96] to 48",
            "conv2d 1x1 [8, 8, 24] to 48",
            "add [8, 8, 48] to 48",
        ],
        "mbpool_4_48_64_6_hard_swish": [
            "conv2d 1x1 [4, 4, 48] to 288 hard_swish",
            "mean [4, 4, 288] to 288",
            "conv2d 1x1 [1, 1, 288] to 64",
            "fully_connected 1x1 [1, 1, 64] to 1000",
        ],
    },
    "ofa": {
        "Conv-input:33x33x3-output:17x17x24": ["conv2d 3x3 s2 [33, 33, 3] to 24 hard_swish"],
        "expanded_conv-input:17x17x24-output:17x17x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0": [
            "depthwise_conv2d 3x3 [17, 17, 24] to 24 relu",
            "conv2d 1x1 [17, 17, 24] to 24",
            "add [17, 17, 24] to 24",
        ],
        "expanded_conv-input:17x17x24-output:9x9x32-expand:72-kernel:7-stride:2-idskip:0-se:1-hs:1": [
            "conv2d 1x1 [17, 17, 24] to 72 hard_swish",
            "depthwise_conv2d 7x7 s2 [17, 17, 72] to 72 hard_swish",
            "mean [9, 9, 72] to 72",
            *(text.format(72, 24) for text in _SE),  # a quarter is 18: to a multiple of 8, not below 90 % of it
            "mul [9, 9, 72] to 72",
            "conv2d 1x1 [9, 9, 72] to 32",
        ],
        "Conv_1-input:9x9x32-output:9x9x192": ["conv2d 1x1 [9, 9, 32] to 192 hard_swish"],
        "AvgPool2D-input:9x9x192-output:1x1x192": ["mean [9, 9, 192] to 192"],
        "Conv_2-input:1x1x192-output:1x1x256": ["conv2d 1x1 [1, 1, 192] to 256 hard_swish"],
        "Logits-input:1x1x256-output:10": ["fully_connected 1x1 [1, 1, 256] to 10"],
    },
    "tunas": {
        "block 2 layer 1 kernel 3 expansion 6": [
            "conv2d 1x1 [4, 4, 32] to 192 relu",
            "depthwise_conv2d 3x3 [4, 4, 192] to 192 relu",
            "conv2d 1x1 [4, 4, 192] to 32",
            "add [4, 4, 32] to 32",
        ]
    },
}
TIMES = {
    "nn_meter_operators": [0.5, 0.25, 0.75],
    "nn_meter_blocks": [0.5, 0.25, 1.25, 2.5, 3.5],
    "ofa": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5],
    "tunas": [1.5],
}


def write(folder: pathlib.Path, importer: str, old: str = "", new: str = "") -> pathlib.Path:
    name, text = FILES[importer]
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    return folder / name


@pytest.mark.parametrize("importer", FILES)
def test_operations_and_times(importer: str, tmp_path: pathlib.Path) -> None:
    imported = read(importer, write(tmp_path, importer))
    assert {one.name: texts(one) for one in imported.measurements} == EXPECTED[importer]
    assert [one.ms for one in imported.measurements] == TIMES[importer]
    assert all(op == op.folded for one in imported.measurements for op in one.ops)
    assert "\n" not in imported.decomposed and imported.fields["licence"] in ("MIT", "Apache-2.0")


@pytest.mark.parametrize(
    ("importer", "reasons"), [("nn_meter_operators", []), ("nn_meter_blocks", [1, 1]), ("tunas", [1, 2])]
)
def test_what_is_left_out_is_counted(importer: str, reasons: list[int], tmp_path: pathlib.Path) -> None:
    skipped = read(importer, write(tmp_path, importer)).skipped
    assert list(skipped.values()) == reasons and all(len(reason) > 20 for reason in skipped)


def test_a_folder_of_resolutions(tmp_path: pathlib.Path) -> None:
    first = write(tmp_path, "ofa")
    (tmp_path / "34_lookup_table.yaml").write_text(
        "Conv-input:34x34x3-output:17x17x24: {count: 5, mean: 0.75, std: 0}\n"
    )
    measurements = read("ofa", tmp_path).measurements
    assert len(measurements) == 8 and measurements[0].name == f"{first.stem}/Conv-input:33x33x3-output:17x17x24"
    assert (measurements[0].std_ms, measurements[0].count, measurements[-1].count) == (0.25, 10, 5)


MS = "expected a positive number of milliseconds"
BOTTLENECK = "expanded_conv-input:17x17x24-output:9x9x32-expand:72-kernel:7-stride:2-idskip:0-se:1-hs:1"


@pytest.mark.parametrize(
    ("importer", "old", "new", "message"),
    [
        (
            "nn_meter_operators",
            "mflops",
            "gflops",
            "1: got columns op, hw, cin, cout, k, s, gflops, mparams, ms; expected op, hw, cin, cout, k, s, "
            "mflops, mparams, ms",
        ),
        (
            "nn_meter_operators",
            "mparams,ms",
            "mparams,us",
            "1: got columns op, hw, cin, cout, k, s, mflops, mparams, us; expected op, hw, cin, cout, k, s, mflops, "
            "mparams, ms; times must be in ms, got a column 'us'",
        ),
        ("nn_meter_operators", "dwconv", "pool", "3: op: got 'pool', expected one of conv, dwconv"),
        ("nn_meter_operators", "8,3,16", "8,-3,16", "2: cin: got '-3', expected an integer of at least 1"),
        (
            "nn_meter_operators",
            "8,16,16",
            "8,16,24",
            "3: cout: got 24, expected the 16 channels of the input of a dwconv",
        ),
        ("nn_meter_operators", "0.007168", "0.007169", None),  # rounding
        (
            "nn_meter_operators",
            "conv,8,",
            "conv,4,",
            "2: mflops: got '0.007168', but this operation has 0.001792 with its bias; is hw the side of the input?",
        ),
        (
            "nn_meter_operators",
            "0.000448",
            "nan",
            "2: mparams: got 'nan', but this operation has 0.000448 with its bias; is hw the side of the input?",
        ),
        ("nn_meter_operators", ",0.5\n", ",nan\n", f"2: ms: got 'nan', {MS}"),
        ("nn_meter_operators", ",0.25\n", ",-0.25\n", f"3: ms: got '-0.25', {MS}"),
        ("nn_meter_operators", ",0.5\n", "\n", "2: expected 9 values"),
        ("nn_meter_blocks", "0.25", "-0.25", f"3: conv_16_16_16_1_1_hard_swish_3_nose: got -0.25, {MS}"),
        ("nn_meter_blocks", "0.25", "NaN", "3: got NaN, expected a number"),
        ("nn_meter_blocks", "0.25", '"0.25"', f"3: conv_16_16_16_1_1_hard_swish_3_nose: got '0.25', {MS}"),
        (
            "nn_meter_blocks",
            "3_nose",
            "4_nose",
            "3: conv_16_16_16_1_1_hard_swish_4_nose: unknown key, expected "
            "conv_HW_CIN_COUT_EXPANSION_STRIDE_ACTIVATION_KERNEL_{se,nose}",
        ),
        ("nn_meter_blocks", "transds_8_24_48_1_4", "firstconv_32_3_16_2_3", "5: firstconv_32_3_16_2_3: given twice"),
        ("nn_meter_blocks", "2.5,", "2.5", "6: not valid JSON: Expecting ',' delimiter"),
        (
            "ofa",
            "mean: 1.5",
            "mean: -1.5",
            "7: "
            "expanded_conv-input:17x17x24-output:17x17x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0.mean: "
            "got -1.5: input should be greater than 0",
        ),
        (
            "ofa",
            "mean: 0.5",
            "mean: .nan",
            "3: Conv-input:33x33x3-output:17x17x24.mean: got nan: input should be a finite number",
        ),
        (
            "ofa",
            "mean: 0.5",
            "median: 0.5",
            "3: Conv-input:33x33x3-output:17x17x24.median: unknown key; allowed: count, mean, std; did you "
            "mean 'mean'? (and 1 more)",
        ),
        (
            "ofa",
            "Conv_2-",
            "Conv_3-",
            "21: Conv_3-input:1x1x192-output:1x1x256: unknown key; expected Conv, expanded_conv, Conv_1, "
            "AvgPool2D, Conv_2, Logits with -input:HxWxC-output:HxWxC, and for expanded_conv "
            "-expand:N-kernel:K-stride:S-idskip:0/1-se:0/1-hs:0/1",
        ),
        (
            "ofa",
            "Conv_1-input:9x9x32-output:9x9x192",
            "Conv-input:33x33x3-output:17x17x24",
            "13: Conv-input:33x33x3-output:17x17x24: given twice",
        ),
        (
            "ofa",
            "output:9x9x192",
            "output:8x8x192",
            "13: Conv_1-input:9x9x32-output:8x8x192: output: expected 9x9x192 of such a layer, got 8x8x192",
        ),
        (
            "ofa",
            "stride:2-idskip:0",
            "stride:2-idskip:1",
            f"9: {BOTTLENECK.replace('idskip:0', 'idskip:1')}: idskip: expected 1 exactly where stride is 1 and "
            "input and output are alike",
        ),
        (
            "ofa",
            "Conv-input",
            "!!python/object:os.system Conv-input",
            "1: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object:os.system'",
        ),
        (
            "tunas",
            "coef_ms",
            "coef_us",
            "1: got columns block, layer, kind, kernel, expansion, stride, out_filters, skip, coef_us, in_hw, "
            "in_ch, macs_M, ms_over_skip; expected block, layer, kind, kernel, expansion, stride, out_filters, "
            "skip, coef_ms, in_hw, in_ch, macs_M, ms_over_skip; times must be in ms, got a column 'coef_us'",
        ),
        (
            "tunas",
            "zero_skip",
            "skip",
            "5: kind: got 'skip', expected one of depthwise_separable, inverted_bottleneck, zero_skip",
        ),
        ("tunas", "0.093", "0.094", "3: macs_M: got '0.094', but this block has 0.093"),
        ("tunas", "-2.0", "inf", "5: coef_ms: got 'inf', expected a number of milliseconds"),
        (
            "tunas",
            ",1.5\n",
            ",1.6\n",
            "4: ms_over_skip: got '1.6', but the difference of coef_ms to the decision's zero_skip is 1.5000",
        ),
        (
            "tunas",
            "0.093,",
            "0.093,0.5",
            "3: ms_over_skip: got '0.5', but the difference of coef_ms to the decision's zero_skip is not there",
        ),
        (
            "tunas",
            "2,1,zero_skip,,,1,32,1,-2.0,4,32,0.0,0.0",
            "2,1,inverted_bottleneck,3,6,1,32,0,-0.5,4,32,0.224,",
            "5: the same choice as in line 4; leave one out",
        ),
        ("tunas", "5,3,2,32", "4,3,2,32", "3: got kernel 4 and stride 2, expected 3, 5 or 7 and 1 or 2"),
    ],
)
def test_a_damaged_file(importer: str, old: str, new: str, message: str | None, tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, importer, old, new)
    if message is None:
        assert read(importer, path)
    else:
        refused(lambda: read(importer, path), f"{path}:{message}")


def test_a_block_below_its_zero(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, "tunas", "-0.5,4,32,0.224,1.5", "-3.5,4,32,0.224,-1.5")
    refused(lambda: read("tunas", path), f"{path}:4: coef_ms: got -3.5, expected more than that of zero_skip, -2.0")


@pytest.mark.parametrize("importer", FILES)
def test_a_file_that_is_not_there(importer: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "none.file"
    refused(lambda: read(importer, path), f"{path}: cannot be read: No such file or directory")


# Profiles, which give nodes without shapes

OTHER_NETWORK = "is this the profile of another network?"
TFLITE = {
    "conv2d": "CONV_2D",
    "depthwise_conv2d": "DEPTHWISE_CONV_2D",
    "fully_connected": "FULLY_CONNECTED",
    "matmul": "BATCH_MATMUL",
    "softmax": "SOFTMAX",
    "mean": "MEAN",
    "add": "ADD",
    "mul": "MUL",
}
XNNPACK = {
    "conv2d": "Convolution (NHWC, QC8) GEMM",
    "depthwise_conv2d": "Convolution (NHWC, QC8) DWConv",
    "fully_connected": "Fully Connected (NC, QS8, QC8W) GEMM",
    "mean": "Global Average Pooling (NWC, QS8)",
    "add": "Binary Elementwise (ND)",
}
QNN = {
    "conv2d": "Conv2d",
    "depthwise_conv2d": "DepthWiseConv2d",
    "fully_connected": "FullyConnected",
    "mean": "ReduceMean",
    "add": "ElementWiseAdd",
}
_BEHIND = {"hard_swish": ["HARD_SWISH"], "swish": ["LOGISTIC", "MUL"], "sigmoid": ["LOGISTIC"], "hard_sigmoid": ["MUL"]}


def nodes_of(ops: Sequence[OpCall], names: dict[str, str]) -> list[tuple[str, float]]:
    """(type, ms) as a runtime would show them: node i of operation j takes j + i / 10 us; moves of data take 1 us."""
    out = [("QUANTIZE", 0.001)]
    for j, op in enumerate(ops, 1):
        if op.kind == "batch_norm":
            continue
        types = [names[op.kind], *_BEHIND.get(op.activation, [])]
        out += [(kind, (j + i / 10) * 1e-3) for i, kind in enumerate(types)]
    return [*out, ("RESHAPE", 0.001)]


def expected_ms(ops: Sequence[OpCall]) -> list[float]:
    return [
        sum(j + i / 10 for i in range(1 + len(_BEHIND.get(op.activation, [])))) * 1e-3 for j, op in enumerate(ops, 1)
    ]


def printed(nodes: Sequence[tuple[str, float]], form: str) -> str:
    """As benchmark_model prints it: "text" (with start times: "old text") or "csv" ("tight csv")."""
    old = form == "old text"
    header = [
        "node type",
        *(["start"] if old else []),
        "first",
        "avg_ms",
        "%",
        "cdf%",
        "mem KB",
        "times called",
        "name",
    ]
    rows = []
    for i, (kind, ms) in enumerate(nodes):
        name = f"Delegate/{kind}:{i}" if "(" in kind else f"[layer_{i}, other]:{i}"
        times = [*(["0.5"] if old else []), "0.9", f"{ms:.6g}"]
        rows.append([kind, *times, "1.5%", f"{i:.3f}%", "0.0", "1", name])
    if form.endswith("csv"):
        comma = "," if form == "tight csv" else ", "
        table = [comma.join(header), *(comma.join([*row[:-1], row[-1].replace(",", "\t")]) for row in rows)]
    else:
        table = ["".join(f"\t{f'[{column}]'.replace('_', ' '):>12}" for column in header)]
        table += ["".join(f"\t{cell:>30}" for cell in row[:-1]) + f"\t{row[-1]}" for row in rows]
    other = ["Number of nodes executed: 3", "=== Summary by node type ===", f"node type, count{',' * 5}"]
    init = ["=== Run Order ===", table[0], table[1].replace(rows[0][0], "AllocateTensors"), ""]
    return "\n".join(
        [
            "INFO: Num threads: [2]",
            *(["Profiling Info for Benchmark Initialization:", *init] if not old else []),
            "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:",
            "============================== Run Order ==============================",
            *table,
            "",
            "============================== Top by Computation Time ==============================",
            *table[:2],
            "",
            *other,
            "",
            "Timings (microseconds): count=50 first=900 curr=850 min=800 max=990 avg=845.5 std=12",
            "Memory (bytes): count=0",
        ]
    )


@pytest.mark.parametrize("names", [TFLITE, XNNPACK], ids=["TFLite", "XNNPACK"])
@pytest.mark.parametrize("form", ["text", "old text", "csv", "tight csv"])
def test_a_printed_profile(form: str, names: dict[str, str], small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    ops = search_spaces.lower(small_32)
    path = tmp_path / "profile.txt"
    path.write_text(printed(nodes_of(ops, names), form))
    imported = read("tflite_benchmark", path, ops)
    *single, whole = imported.measurements
    assert [one.ops for one in single] == [(op.folded,) for op in ops] and {one.count for one in single} == {50}
    assert [one.ms for one in single] == pytest.approx(expected_ms(ops), rel=1e-4)
    assert (whole.name, whole.ops, whole.ms, whole.std_ms, whole.count) == (
        "profile",
        tuple(op.folded for op in ops),
        pytest.approx(0.8455),
        pytest.approx(0.012),
        50,
    )
    assert list(imported.skipped.values()) == [1, 1]  # QUANTIZE, RESHAPE
    fields = imported.fields
    assert (fields["threads"], fields["delegate"]) == (2, "XNNPACK" if names is XNNPACK else "none")
    assert fields.get("dtype") == ("int8" if names is XNNPACK else None)


@pytest.mark.parametrize(
    ("type_", "kinds"),
    [
        ("CONV_2D", ("conv2d",)),
        ("DEPTHWISE_CONV_2D", ("depthwise_conv2d",)),
        ("Convolution (NHWC, F32) IGEMM", ("conv2d",)),
        ("Convolution (NHWC, QS8) DWConv", ("depthwise_conv2d",)),
        ("Conv", ("conv2d", "depthwise_conv2d")),  # ONNX does not tell them apart
        ("Gemm", ("fully_connected",)),
        ("Batch Matrix Multiply (NC, F32)", ("matmul",)),
        ("Mean (ND) Reduce", ("mean",)),
        ("Sum (ND) Reduce", ("mean",)),
        ("AVERAGE_POOL_2D", ("avg_pool", "mean")),
        ("Average Pooling (NHWC, F32)", ("avg_pool", "mean")),
        ("MAX_POOL_2D", ("max_pool",)),
        ("RESIZE_BILINEAR", ("resize",)),
        ("CONCATENATION", ("concat",)),
        ("Multiply (ND, QS8)", ("mul",)),
        ("ElementWiseMultiply", ("mul",)),
        ("SOFTMAX/flex", ("softmax",)),
        *((other, ()) for other in ("ADD_N", "SUB", "TRANSPOSE_CONV", "Deconvolution (NHWC, F32)", "RESHAPE", "PAD")),
    ],
)
def test_names_of_nodes(type_: str, kinds: tuple[str, ...]) -> None:
    assert Node("n", type_, 0.5, "t").kinds == kinds


@pytest.mark.parametrize("name", ["mobilenet-v3-large", "efficientnet-b0"])
def test_activations_that_run_alone(name: str) -> None:
    """Hard swish, swish (sigmoid, product) and the gates of squeeze-excites count to the operation before them."""
    ops = search_spaces.lower(search_spaces.zoo(name))
    nodes = [Node(f"n{i}", kind, ms, f"t:{i}") for i, (kind, ms) in enumerate(nodes_of(ops, TFLITE))]
    measurements, _ = join(nodes, ops, 1, "t")
    assert [one.ops for one in measurements] == [(op.folded,) for op in ops]
    assert [one.ms for one in measurements] == pytest.approx(expected_ms(ops))


def test_a_block_with_attention_is_measured_as_one() -> None:
    """A converter may compute keys before queries, and make dense layers of products: only the block's sum is known."""
    spec = search_spaces.zoo("mnv4-hybrid-m")
    blocks = lower_by_block(spec)
    nodes: list[Node] = []
    for ops in blocks:
        attends = any(op.kind == "matmul" for op in ops)
        of_block = nodes_of(ops, TFLITE)[1:-1]
        if attends:
            of_block = [*reversed(of_block), ("TRANSPOSE", 0.5)]
            of_block = [("FULLY_CONNECTED" if kind == "BATCH_MATMUL" else kind, ms) for kind, ms in of_block]
        nodes += [Node(f"n{len(nodes) + i}", kind, ms, "t:1") for i, (kind, ms) in enumerate(of_block)]
    measurements, skipped = join(nodes, search_spaces.lower(spec), 1, "t")
    assert not skipped
    assert sum(one.ms for one in measurements) == pytest.approx(sum(node.ms or 0 for node in nodes))
    by_name = {one.name: one for one in measurements}
    for index, ops in enumerate(blocks):
        if any(op.kind == "matmul" for op in ops):
            assert by_name[f"block {index}"].ops == tuple(op.folded for op in ops)
            assert by_name[f"block {index}"].ms > 0.5
    single = [one.ops[0] for one in measurements if len(one.ops) == 1]
    assert single == [op.folded for ops in blocks for op in ops if not any(o.kind == "matmul" for o in ops)]


def test_a_convolution_may_have_become_a_dense_layer() -> None:
    """A 1x1 convolution is one; a 3x3 one is not."""
    one, three = (OpCall("conv2d", Shape(1, 1, 8), 16, kernel) for kernel in (1, 3))
    node = Node("n", "FULLY_CONNECTED", 0.5, "t:3")
    assert join([node], [one], 1, "t")[0] == (Measurement("n", (one,), 0.5),)
    refused(
        lambda: join([node], [three], 1, "t"),
        f"t:3: FULLY_CONNECTED cannot be conv2d 3x3 [1, 1, 8] to 16, which is next in the network; {OTHER_NETWORK}",
    )


_RELU = OpCall("conv2d", Shape(8, 8, 8), 8, 3, activation="relu")
_DW = OpCall("depthwise_conv2d", Shape(8, 8, 8), 8, 3)


@pytest.mark.parametrize(
    ("nodes", "ops", "message"),
    [
        (
            [("CONV_2D", 1), ("CONV_2D", 1)],
            [_RELU, _DW, _RELU],
            None,  # nothing is known of the depthwise convolution
        ),
        (
            [("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1), ("CONV_2D", 1)],
            [_RELU, _DW],
            "t: 2 nodes but 1 operations of conv2d/fully_connected/matmul; first difference: node 3 is CONV_2D (t:2), "
            f"operation 3 is missing; {OTHER_NETWORK}",
        ),
        (
            [("CONV_2D", 1), ("DEPTHWISE_CONV_2D", 1)],
            [_DW, _RELU, _DW],
            "t: 1 nodes but 2 operations of depthwise_conv2d; first difference: node 1 is CONV_2D (t:0), operation 1 "
            f"is depthwise_conv2d 3x3 [8, 8, 8] to 8; {OTHER_NETWORK}",
        ),
        (
            [("CONV_2D", 1), ("MEAN", 1)],
            [_RELU],
            "t: 1 nodes but 0 operations of mean; first difference: node 2 is MEAN (t:1), operation 2 is missing; "
            f"{OTHER_NETWORK}",
        ),
        (
            [("CONV_2D", 1), ("HARD_SWISH", 1)],
            [_RELU],
            f"t:1: HARD_SWISH after CONV_2D, but that operation is conv2d 3x3 [8, 8, 8] to 8 relu; {OTHER_NETWORK}",
        ),
        (
            [("TfLiteXNNPackDelegate", 1)],
            [_RELU],
            "t: none of the 1 nodes is an operation (TfLiteXNNPackDelegate); if a delegate ran the network as one "
            "node, profile without it, or with a version that shows the operations inside",
        ),
        ([("CONV_2D", 0)], [_RELU], "t: no operation has a time"),
        ([("CONV_2D", None)], [_RELU], "t: no operation has a time"),
    ],
)
def test_nodes_and_operations_that_differ(
    nodes: list[tuple[str, float | None]], ops: list[OpCall], message: str | None
) -> None:
    profile = [Node(f"n{i}", kind, ms, f"t:{i}") for i, (kind, ms) in enumerate(nodes)]
    if message is None:
        measurements, skipped = join(profile, ops, 1, "t")
        assert len(measurements) == 2 and skipped == {"operation depthwise_conv2d: no node of that kind": 1}
    else:
        refused(lambda: join(profile, ops, 1, "t"), message)


@pytest.mark.parametrize(
    ("form", "old", "new", "line", "message"),
    [
        (
            "text",
            "[avg ms]",
            "[avg us]",
            9,
            "got columns node type, first, avg us, %, cdf%, mem kb, times called, name; expected node type, "
            "first, avg ms, %, cdf%, mem kb, times called, name; times must be in ms, got a column 'avg us'",
        ),
        ("csv", " 0.001,", " -0.001,", 10, "avg ms: got '-0.001', expected a number of milliseconds, 0 or more"),
        ("csv", " 0.001,", " nan,", 10, "avg ms: got 'nan', expected a number of milliseconds, 0 or more"),
        (
            "csv",
            "0.9, 0.002",
            "0.9",
            12,
            "got 'CONV_2D, 0.9, 1.5%, 2.000%, 0.0, 1, [layer_2\\t other]:2', expected a node with its times",
        ),
        (
            "csv",
            "0.0, 1, [layer_2\t",
            "0.0, 13, [layer_2\t",
            12,
            "CONV_2D ran 13 times a run, expected 1: several operations share a line, as where a delegate runs "
            "several parts of a network; profile without that delegate",
        ),
        ("csv", "layer_2\t other]:2", "layer_1\t other]:1", 12, "node [layer_1\t other]:1 is already in line 11"),
        ("csv", "count=50", "count=0", 60, "count: got '0', expected an integer of at least 1"),
    ],
)
def test_a_damaged_profile(
    form: str, old: str, new: str, line: int, message: str, small_32: ArchSpec, tmp_path: pathlib.Path
) -> None:
    ops = search_spaces.lower(small_32)
    head, mark, text = printed(nodes_of(ops, TFLITE), form).partition("INFO: Operator-wise")
    assert old in text
    path = tmp_path / "profile.csv"
    path.write_text(head + mark + text.replace(old, new, 1))
    refused(lambda: read("tflite_benchmark", path, ops), f"{path}:{line}: {message}")


def test_a_printout_without_profile(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("INFO: Inference timings in us: Init: 2, First inference: 3\n")
    refused(
        lambda: read("tflite_benchmark", path, [CONV]),
        f"{path}: has no table of nodes in run order; run benchmark_model with --enable_op_profiling=true",
    )


def ai_hub(ops: Sequence[OpCall], names: dict[str, str]) -> dict[str, Any]:
    detail: list[dict[str, Any]] = [
        {"name": "layer", "type": kind, "compute_unit": "NPU", "execution_time": round(ms * 1e3), "execution_cycles": 9}
        for kind, ms in nodes_of(ops, names)
    ]
    del detail[2]["execution_time"]  # the second operation has only cycles
    detail[3]["execution_time"] = 0
    summary = {"estimated_inference_time": 417, "all_inference_times": [417, 419, 427], "first_load_time": 5}
    return {"execution_summary": summary, "execution_detail": detail}


@pytest.mark.parametrize("names", [TFLITE, QNN], ids=["TFLite", "QNN"])
def test_a_profile_of_ai_hub(names: dict[str, str], small_32: ArchSpec, tmp_path: pathlib.Path) -> None:
    ops = search_spaces.lower(small_32)
    path = tmp_path / "net.json"
    path.write_text(json.dumps(ai_hub(ops, names)))
    imported = read("ai_hub", path, ops)
    *single, whole = imported.measurements
    assert [one.ops for one in single] == [(op.folded,) for i, op in enumerate(ops) if i not in (1, 2)]
    assert [one.ms for one in single] == pytest.approx([ms for i, ms in enumerate(expected_ms(ops)) if i not in (1, 2)])
    assert len({one.name for one in imported.measurements}) == len(ops) - 1
    assert (whole.ms, whole.count) == (0.417, 3) and whole.std_ms == pytest.approx(
        statistics.pstdev([417, 419, 427]) / 1e3
    )
    assert imported.fields["processor"] == "NPU" and sorted(imported.skipped.values()) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            ["execution_detail"],
            None,
            "execution_detail: missing; expected what download_profile(filename) of qai-hub writes",
        ),
        (["execution_detail"], [], "execution_detail: has no layers; profile with layer times"),
        (
            ["execution_summary", "estimated_inference_time"],
            0.417,
            "execution_summary.estimated_inference_time: got 0.417, expected an integer number of "
            "microseconds, at least 1",
        ),
        (
            ["execution_summary", "all_inference_times"],
            [417, -1],
            "execution_summary.all_inference_times[1]: got -1, expected an integer number of microseconds, at least 1",
        ),
        (
            ["execution_detail", 1, "execution_time"],
            -5,
            "execution_detail[1].execution_time: got -5, expected an integer number of microseconds, at least 0",
        ),
        (
            ["execution_detail", 1, "type"],
            None,
            "execution_detail[1]: got {'name': 'layer', 'type': None, 'compute_unit': 'NPU', 'exec, expected a layer "
            "with name and type",
        ),
    ],
)
def test_a_damaged_profile_of_ai_hub(
    keys: list[Any], value: object, message: str, small_32: ArchSpec, tmp_path: pathlib.Path
) -> None:
    ops = search_spaces.lower(small_32)
    data = ai_hub(ops, TFLITE)
    functools.reduce(lambda at, key: at[key], keys[:-1], data)[keys[-1]] = value
    path = tmp_path / "net.json"
    path.write_text(json.dumps(data))
    refused(lambda: read("ai_hub", path, ops), f"{path}: {message}")


# To tables


def test_an_unknown_importer_and_operations() -> None:
    refused(lambda: read("nn-meter", "x"), f"no importer called 'nn-meter'; known: {', '.join(IMPORTERS)}")
    refused(lambda: read("ai_hub", "x"), "ai_hub: a profile has no shapes; name the network that was profiled")
    refused(lambda: read("ofa", "x", [CONV]), "ofa: the source says what was measured; leave the network out")


def test_a_table_of_operations(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, "nn_meter_operators")
    out = tmp_path / "out"
    message = f"{out}: the source does not state threads; give each, e.g. --set threads=..."
    refused(lambda: import_table("nn_meter_operators", path, out), message)
    assert not out.exists()
    table = import_table("nn_meter_operators", path, out, threads=1, name="mine")
    assert table == load_table(out) and not (out / "measurements.csv").exists()
    m = load_table(out).manifest
    assert (m.name, m.threads, m.dtype, m.how, m.rows) == ("mine", 1, "int8", "measured", 2)
    assert "one operation" in m.protocol
    assert [(row.ms, row.std_ms, row.count) for row in load_table(out).rows] == [(0.5, 0, 1), (0.5, 0.25, 2)]


def test_a_table_and_blocks(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, "ofa")
    table = import_table("ofa", path, tmp_path / "out", threads=1, dtype="float32")
    blocks = load_measurements(tmp_path / "out")
    assert table is not None and len(table.rows) == 5 and len(blocks.measurements) == 2
    assert blocks.measurements == tuple(one for one in read("ofa", path).measurements if len(one.ops) > 1)
    assert blocks.manifest.source == table.manifest.source and blocks.manifest.rows == 3 + 7


def test_blocks_only(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, "tunas")
    assert import_table("tunas", path, tmp_path / "out", threads=1, dtype="float32") is None
    assert load_measurements(tmp_path / "out").manifest.how == "predicted"
    assert not (tmp_path / "out" / "rows.csv").exists()
    call = functools.partial(import_table, "tunas", path, tmp_path / "no", threads=0, dtype="float32")
    refused(
        call, f"{tmp_path / 'no' / 'measurements.yaml'}: threads: got 0: input should be greater than or equal to 1"
    )


# The published files

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "latency"
PUBLISHED = {  # name: (importer, file, lines or keys, {operations in a measurement: measurements})
    "operators": ("nn_meter_operators", "nn_meter/perop_measured_cpu_tflite.csv", 1497, {1: 1497}),
    "pixel 4": ("nn_meter_blocks", "nn_meter/pixel4_lut_ln_v3.json", 12116, None),
    "pixel 6": ("nn_meter_blocks", "nn_meter/pixel6_lut_ln_v3.json", 12116, None),
    "note 10": ("ofa", "ofa_note10", 17 * 96, {1: 85, 3: 323, 4: 306, 7: 459, 8: 459}),
    "pixel 1": ("tunas", "tunas_pixel1/cost_model.csv", 144, {4: 90}),
}
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published latency data are not at {SHARED}")


@functools.cache
def published(name: str) -> Imported:
    importer, file, _, _ = PUBLISHED[name]
    return read(importer, SHARED / file)


def one(name: str, measurement: str) -> Measurement:
    return next(found for found in published(name).measurements if found.name == measurement)


@needs_shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_line_is_imported_or_counted(name: str) -> None:
    _, _, count, sizes = PUBLISHED[name]
    imported = published(name)
    assert len(imported.measurements) + sum(imported.skipped.values()) == count
    if sizes is not None:
        assert dict(sorted(collections.Counter(len(m.ops) for m in imported.measurements).items())) == sizes


@needs_shared
def test_counts_are_those_of_the_source() -> None:
    """Every line: MACs and one addition of a bias for each output are the source's operations, also of parameters."""
    path = SHARED / PUBLISHED["operators"][1]
    with path.open() as file:
        lines = list(csv.DictReader(file))
    for line, measurement in zip(lines, published("operators").measurements, strict=True):
        (op,) = measurement.ops
        assert op.macs + op.output.elements == round(float(line["mflops"]) * 1e6)
        assert op.weights + op.out_channels == round(float(line["mparams"]) * 1e6)
    assert len(single_rows(published("operators").measurements)) == 131


@needs_shared
def test_macs_of_blocks_are_those_of_the_source() -> None:
    with (SHARED / PUBLISHED["pixel 1"][1]).open() as file:
        lines = [line for line in csv.DictReader(file) if line["ms_over_skip"] and line["skip"] == "0"]
    for line, measurement in zip(lines, published("pixel 1").measurements, strict=True):
        assert sum(op.macs for op in measurement.ops) / 1e6 == pytest.approx(float(line["macs_M"]), abs=5.1e-4)
        assert measurement.ms == pytest.approx(float(line["ms_over_skip"]), abs=1e-4)
    alike = collections.defaultdict(list)
    for measurement in published("pixel 1").measurements:
        alike[measurement.ops].append(measurement.ms)
    spread = [max(ms) / min(ms) - 1 for ms in alike.values()]  # equal blocks at three places of a network
    assert len(alike) == 30 and max(spread) < 0.01


@needs_shared
@pytest.mark.parametrize("name", ["pixel 4", "pixel 6"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_times_show_the_shortcut(name: str, stride: int) -> None:
    """A block that keeps its channels has no shortcut convolution: faster than with 8 channels more or less.

    The ratio to their mean is 1 for all other blocks. Source of the shortcut: nn-Meter's code that builds the blocks.
    """
    ms = {found.name: found.ms for found in published(name).measurements if found.name.startswith("transds")}
    kept, changed = [], []
    for key in ms:
        size, channels, out, s, expansion = map(int, re.findall(r"[0-9]+", key))
        sides = [ms.get(f"transds_{size}_{channels}_{out + more}_{s}_{expansion}") for more in (-8, 8)]
        if s == stride and sides[0] and sides[1]:
            (kept if channels == out else changed).append(ms[key] * 2 / (sides[0] + sides[1]))
    assert statistics.median(kept) < 0.96 and abs(statistics.median(changed) - 1) < 0.001


@needs_shared
def test_a_known_block_of_each_file() -> None:
    block = one("pixel 4", "conv_64_24_16_1_1_hard_swish_3_nose")
    assert [op.kind for op in block.ops] == ["depthwise_conv2d", "conv2d", "conv2d", "add"] and block.ms == 0.42798
    block = one("note 10", "160_lookup_table/Conv-input:160x160x3-output:80x80x24")
    assert block.count == 498 and block.ms == pytest.approx(0.495562, rel=1e-5)
    assert published("note 10").fields["device"] == "Samsung Note10"
    assert published("pixel 6").fields["device"] == "Pixel 6"
    block = one("pixel 1", "block 2 layer 1 kernel 3 expansion 3")
    assert block.ms == pytest.approx(5.49, abs=1e-4) and sum(op.macs for op in block.ops) == 21_977_088
