"""nn-Meter's tables of blocks."""

from __future__ import annotations

import json
import pathlib
import re
import statistics
from collections.abc import Callable

import pytest

from latency_tables.importers import Imported, read

Refused = Callable[[Callable[[], object], str], None]
Write = Callable[..., pathlib.Path]
Check = Callable[..., None]
Published = Callable[[str, str], Imported]

MS = "expected a positive number of milliseconds"
_SE = [
    "fully_connected 1x1 [1, 1, {0}] to {1} relu",
    "fully_connected 1x1 [1, 1, {1}] to {0} hard_sigmoid",
]
FILE = "pixel4_lut.json"
TEXT = json.dumps(
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
EXPECTED = {
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
}
TIMES = [0.5, 0.25, 1.25, 2.5, 3.5]


def test_operations_and_times(write: Write, check: Check) -> None:
    """The operations are written by hand."""
    check(read("nn_meter_blocks", write(FILE, TEXT)), EXPECTED, TIMES)


def test_a_file_that_is_not_there(tmp_path: pathlib.Path, refused: Refused) -> None:
    path = tmp_path / "none.file"
    refused(
        lambda: read("nn_meter_blocks", path), f"{path}: cannot be read: No such file or directory"
    )


def test_what_is_left_out_is_counted(write: Write) -> None:
    skipped = read("nn_meter_blocks", write(FILE, TEXT)).skipped_counts
    assert list(skipped.values()) == [1, 1] and all(len(reason) > 20 for reason in skipped)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.25", "-0.25", f"3: conv_16_16_16_1_1_hard_swish_3_nose: got -0.25, {MS}"),
        ("0.25", "NaN", "3: got NaN, expected a number"),
        ("0.25", '"0.25"', f"3: conv_16_16_16_1_1_hard_swish_3_nose: got '0.25', {MS}"),
        (
            "3_nose",
            "4_nose",
            "3: conv_16_16_16_1_1_hard_swish_4_nose: unknown key, expected "
            "conv_HW_CIN_COUT_EXPANSION_STRIDE_ACTIVATION_KERNEL_{se,nose}",
        ),
        ("transds_8_24_48_1_4", "firstconv_32_3_16_2_3", "5: firstconv_32_3_16_2_3: given twice"),
        ("2.5,", "2.5", "6: not valid JSON: Expecting ',' delimiter"),
    ],
)
def test_a_damaged_file(old: str, new: str, message: str, write: Write, refused: Refused) -> None:
    path = write(FILE, TEXT, old, new)
    refused(lambda: read("nn_meter_blocks", path), f"{path}:{message}")


PUBLISHED = {
    "pixel 4": ("nn_meter_blocks", "nn_meter/pixel4_lut_ln_v3.json"),
    "pixel 6": ("nn_meter_blocks", "nn_meter/pixel6_lut_ln_v3.json"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_is_imported_or_counted(name: str, published: Published) -> None:
    imported = published(*PUBLISHED[name])
    assert len(imported.measurements) + sum(imported.skipped_counts.values()) == 12116


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_times_show_the_shortcut(name: str, stride: int, published: Published) -> None:
    """A block that keeps its channels has no shortcut: faster than with 8 channels more or less.

    The ratio to their mean is 1 for all other blocks. Source of the shortcut: nn-Meter's code that
    builds the blocks.
    """
    ms = {
        found.name: found.ms
        for found in published(*PUBLISHED[name]).measurements
        if found.name.startswith("transds")
    }
    kept, changed = [], []
    for key in ms:
        size, channels, out, s, expansion = map(int, re.findall(r"[0-9]+", key))
        sides = [
            ms.get(f"transds_{size}_{channels}_{out + more}_{s}_{expansion}") for more in (-8, 8)
        ]
        if s == stride and sides[0] and sides[1]:
            (kept if channels == out else changed).append(ms[key] * 2 / (sides[0] + sides[1]))
    assert statistics.median(kept) < 0.96 and abs(statistics.median(changed) - 1) < 0.001


def test_a_known_block(published: Published) -> None:
    blocks = {one.name: one for one in published(*PUBLISHED["pixel 4"]).measurements}
    block = blocks["conv_64_24_16_1_1_hard_swish_3_nose"]
    assert [op.kind for op in block.ops] == ["depthwise_conv2d", "conv2d", "conv2d", "add"]
    assert block.ms == 0.42798
    assert published(*PUBLISHED["pixel 6"]).fields["device"] == "Pixel 6"
