"""TuNAS's linear cost model."""

from __future__ import annotations

import collections
import csv
import functools
import pathlib
from collections.abc import Callable

import pytest

from latency_tables.importers import Imported, import_table, read
from latency_tables.measurement import load_measurements

Refused = Callable[[Callable[[], object], str], None]
Write = Callable[..., pathlib.Path]
Check = Callable[..., None]
Published = Callable[[str, str], Imported]

FILE = "cost_model.csv"
TEXT = """\
block,layer,kind,kernel,expansion,stride,out_filters,skip,coef_ms,in_hw,in_ch,macs_M,ms_over_skip
1,0,depthwise_separable,3,,1,16,0,-1.5,8,32,0.051,
2,0,inverted_bottleneck,5,3,2,32,0,0.25,8,16,0.093,
2,1,inverted_bottleneck,3,6,1,32,0,-0.5,4,32,0.224,1.5
2,1,zero_skip,,,1,32,1,-2.0,4,32,0.0,0.0
"""
EXPECTED = {
    "block 2 layer 1 kernel 3 expansion 6": [
        "conv2d 1x1 [4, 4, 32] to 192 relu",
        "depthwise_conv2d 3x3 [4, 4, 192] to 192 relu",
        "conv2d 1x1 [4, 4, 192] to 32",
        "add [4, 4, 32] to 32",
    ]
}
TIMES = [1.5]


def test_operations_and_times(write: Write, check: Check) -> None:
    """The operations are written by hand."""
    check(read("tunas", write(FILE, TEXT)), EXPECTED, TIMES)


def test_a_file_that_is_not_there(tmp_path: pathlib.Path, refused: Refused) -> None:
    path = tmp_path / "none.file"
    refused(lambda: read("tunas", path), f"{path}: cannot be read: No such file or directory")


def test_what_is_left_out_is_counted(write: Write) -> None:
    skipped = read("tunas", write(FILE, TEXT)).skipped_counts
    assert list(skipped.values()) == [1, 2] and all(len(reason) > 20 for reason in skipped)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "coef_ms",
            "coef_us",
            "1: got columns block, layer, kind, kernel, expansion, stride, out_filters, skip, "
            "coef_us, in_hw, "
            "in_ch, macs_M, ms_over_skip; expected block, layer, kind, kernel, expansion, stride, "
            "out_filters, "
            "skip, coef_ms, in_hw, in_ch, macs_M, ms_over_skip; times must be in ms, got a column "
            "'coef_us'",
        ),
        (
            "zero_skip",
            "skip",
            "5: kind: got 'skip', expected one of depthwise_separable, inverted_bottleneck, "
            "zero_skip",
        ),
        ("0.093", "0.094", "3: macs_M: got '0.094', but this block has 0.093"),
        ("-2.0", "inf", "5: coef_ms: got 'inf', expected a number of milliseconds"),
        (
            ",1.5\n",
            ",1.6\n",
            "4: ms_over_skip: got '1.6', but the difference of coef_ms to the decision's zero_skip "
            "is 1.5000",
        ),
        (
            "0.093,",
            "0.093,0.5",
            "3: ms_over_skip: got '0.5', but the difference of coef_ms to the decision's zero_skip "
            "is not there",
        ),
        (
            "2,1,zero_skip,,,1,32,1,-2.0,4,32,0.0,0.0",
            "2,1,inverted_bottleneck,3,6,1,32,0,-0.5,4,32,0.224,",
            "5: the same choice as in line 4; leave one out",
        ),
        ("5,3,2,32", "4,3,2,32", "3: got kernel 4 and stride 2, expected 3, 5 or 7 and 1 or 2"),
    ],
)
def test_a_damaged_file(old: str, new: str, message: str, write: Write, refused: Refused) -> None:
    path = write(FILE, TEXT, old, new)
    refused(lambda: read("tunas", path), f"{path}:{message}")


def test_a_block_below_its_zero(write: Write, refused: Refused) -> None:
    path = write(FILE, TEXT, "-0.5,4,32,0.224,1.5", "-3.5,4,32,0.224,-1.5")
    refused(
        lambda: read("tunas", path),
        f"{path}:4: coef_ms: got -3.5, expected more than that of zero_skip, -2.0",
    )


def test_blocks_only(tmp_path: pathlib.Path, write: Write, refused: Refused) -> None:
    path = write(FILE, TEXT)
    assert import_table("tunas", path, tmp_path / "out", threads=1, dtype="float32") is None
    assert load_measurements(tmp_path / "out").manifest.origin == "predicted"
    assert not (tmp_path / "out" / "rows.csv").exists()
    call = functools.partial(
        import_table, "tunas", path, tmp_path / "no", threads=0, dtype="float32"
    )
    refused(
        call,
        f"{tmp_path / 'no' / 'measurements.yaml'}: threads: got 0: input should be greater than or "
        "equal to 1",
    )


PUBLISHED = ("tunas", "tunas_pixel1/cost_model.csv")


def test_every_line_is_imported_or_counted(published: Published) -> None:
    imported = published(*PUBLISHED)
    assert len(imported.measurements) + sum(imported.skipped_counts.values()) == 144
    assert collections.Counter(len(one.ops) for one in imported.measurements) == {4: 90}


def test_macs_of_blocks_are_those_of_the_source(
    published: Published, shared_latency: pathlib.Path
) -> None:
    with (shared_latency / PUBLISHED[1]).open() as file:
        lines = [
            line for line in csv.DictReader(file) if line["ms_over_skip"] and line["skip"] == "0"
        ]
    for line, measurement in zip(lines, published(*PUBLISHED).measurements, strict=True):
        assert sum(op.macs for op in measurement.ops) / 1e6 == pytest.approx(
            float(line["macs_M"]), abs=5.1e-4
        )
        assert measurement.ms == pytest.approx(float(line["ms_over_skip"]), abs=1e-4)
    alike = collections.defaultdict(list)
    for measurement in published(*PUBLISHED).measurements:
        alike[measurement.ops].append(measurement.ms)
    # equal blocks at three places of a network
    spread = [max(ms) / min(ms) - 1 for ms in alike.values()]
    assert len(alike) == 30 and max(spread) < 0.01


def test_a_known_block(published: Published) -> None:
    blocks = {one.name: one for one in published(*PUBLISHED).measurements}
    block = blocks["block 2 layer 1 kernel 3 expansion 3"]
    assert block.ms == pytest.approx(5.49, abs=1e-4)
    assert sum(op.macs for op in block.ops) == 21_977_088
