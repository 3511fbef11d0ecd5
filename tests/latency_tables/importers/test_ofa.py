"""Once-for-all's tables of MobileNetV3 blocks."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable

import pytest

from latency_tables.importers import Imported, import_table, read
from latency_tables.measurement import load_measurements

Refused = Callable[[Callable[[], object], str], None]
Write = Callable[..., pathlib.Path]
Check = Callable[..., None]
Published = Callable[[str, str], Imported]

_SE = [
    "fully_connected 1x1 [1, 1, {0}] to {1} relu",
    "fully_connected 1x1 [1, 1, {1}] to {0} hard_sigmoid",
]
PLAIN = (
    "expanded_conv-input:17x17x24-output:17x17x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0"
)
SQUEEZED = (
    "expanded_conv-input:17x17x24-output:9x9x32-expand:72-kernel:7-stride:2-idskip:0-se:1-hs:1"
)
FILE = "33_lookup_table.yaml"
TEXT = "".join(
    f"{key}:\n  count: 10\n  mean: {ms}\n  std: 0.25\n"
    for key, ms in {
        "Conv-input:33x33x3-output:17x17x24": 0.5,
        PLAIN: 1.5,
        SQUEEZED: 2.5,
        "Conv_1-input:9x9x32-output:9x9x192": 3.5,
        "AvgPool2D-input:9x9x192-output:1x1x192": 4.5,
        "Conv_2-input:1x1x192-output:1x1x256": 5.5,
        "Logits-input:1x1x256-output:10": 6.5,
    }.items()
)
EXPECTED = {
    "Conv-input:33x33x3-output:17x17x24": ["conv2d 3x3 s2 [33, 33, 3] to 24 hard_swish"],
    PLAIN: [
        "depthwise_conv2d 3x3 [17, 17, 24] to 24 relu",
        "conv2d 1x1 [17, 17, 24] to 24",
        "add [17, 17, 24] to 24",
    ],
    SQUEEZED: [
        "conv2d 1x1 [17, 17, 24] to 72 hard_swish",
        "depthwise_conv2d 7x7 s2 [17, 17, 72] to 72 hard_swish",
        "mean [9, 9, 72] to 72",
        # a quarter is 18: to a multiple of 8, not below 90 % of it
        *(text.format(72, 24) for text in _SE),
        "mul [9, 9, 72] to 72",
        "conv2d 1x1 [9, 9, 72] to 32",
    ],
    "Conv_1-input:9x9x32-output:9x9x192": ["conv2d 1x1 [9, 9, 32] to 192 hard_swish"],
    "AvgPool2D-input:9x9x192-output:1x1x192": ["mean [9, 9, 192] to 192"],
    "Conv_2-input:1x1x192-output:1x1x256": ["conv2d 1x1 [1, 1, 192] to 256 hard_swish"],
    "Logits-input:1x1x256-output:10": ["fully_connected 1x1 [1, 1, 256] to 10"],
}
TIMES = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]


def test_operations_and_times(write: Write, check: Check) -> None:
    """The operations are written by hand."""
    check(read("ofa", write(FILE, TEXT)), EXPECTED, TIMES)


def test_a_file_that_is_not_there(tmp_path: pathlib.Path, refused: Refused) -> None:
    path = tmp_path / "none.file"
    refused(lambda: read("ofa", path), f"{path}: cannot be read: No such file or directory")


def test_a_folder_of_resolutions(tmp_path: pathlib.Path, write: Write) -> None:
    first = write(FILE, TEXT)
    (tmp_path / "34_lookup_table.yaml").write_text(
        "Conv-input:34x34x3-output:17x17x24: {count: 5, mean: 0.75, std: 0}\n"
    )
    measurements = read("ofa", tmp_path).measurements
    assert (
        len(measurements) == 8
        and measurements[0].name == f"{first.stem}/Conv-input:33x33x3-output:17x17x24"
    )
    assert (measurements[0].std_ms, measurements[0].count, measurements[-1].count) == (0.25, 10, 5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "mean: 1.5",
            "mean: -1.5",
            f"7: {PLAIN}.mean: got -1.5: input should be greater than 0",
        ),
        (
            "mean: 0.5",
            "mean: .nan",
            "3: Conv-input:33x33x3-output:17x17x24.mean: got nan: input should be a finite number",
        ),
        (
            "mean: 0.5",
            "median: 0.5",
            "3: Conv-input:33x33x3-output:17x17x24.median: unknown key; allowed: count, mean, std; "
            "did you "
            "mean 'mean'? (and 1 more)",
        ),
        (
            "Conv_2-",
            "Conv_3-",
            "21: Conv_3-input:1x1x192-output:1x1x256: unknown key; expected Conv, expanded_conv, "
            "Conv_1, "
            "AvgPool2D, Conv_2, Logits with -input:HxWxC-output:HxWxC, and for expanded_conv "
            "-expand:N-kernel:K-stride:S-idskip:0/1-se:0/1-hs:0/1",
        ),
        (
            "Conv_1-input:9x9x32-output:9x9x192",
            "Conv-input:33x33x3-output:17x17x24",
            "13: Conv-input:33x33x3-output:17x17x24: given twice",
        ),
        (
            "output:9x9x192",
            "output:8x8x192",
            "13: Conv_1-input:9x9x32-output:8x8x192: output: expected 9x9x192 of such a layer, got "
            "8x8x192",
        ),
        (
            "stride:2-idskip:0",
            "stride:2-idskip:1",
            f"9: {SQUEEZED.replace('idskip:0', 'idskip:1')}: idskip: expected 1 if and only if "
            "stride is 1 and "
            "input and output are equal",
        ),
        (
            "Conv-input",
            "!!python/object:os.system Conv-input",
            "1: not valid YAML: the tag 'tag:yaml.org,2002:python/object:os.system'; "
            "expected plain values without tags",
        ),
    ],
)
def test_a_damaged_file(old: str, new: str, message: str, write: Write, refused: Refused) -> None:
    path = write(FILE, TEXT, old, new)
    refused(lambda: read("ofa", path), f"{path}:{message}")


def test_a_table_and_blocks(tmp_path: pathlib.Path, write: Write) -> None:
    path = write(FILE, TEXT)
    table = import_table("ofa", path, tmp_path / "out", threads=1, dtype="float32")
    blocks = load_measurements(tmp_path / "out")
    assert table is not None and len(table.rows) == 5 and len(blocks.measurements) == 2
    assert blocks.measurements == tuple(
        one for one in read("ofa", path).measurements if len(one.ops) > 1
    )
    assert blocks.manifest.source == table.manifest.source and blocks.manifest.rows == 3 + 7


PUBLISHED = ("ofa", "ofa_note10")


def test_every_key_is_imported(published: Published) -> None:
    imported = published(*PUBLISHED)
    sizes = collections.Counter(len(one.ops) for one in imported.measurements)
    assert len(imported.measurements) == 17 * 96 and not imported.skipped_counts
    assert dict(sorted(sizes.items())) == {1: 85, 3: 323, 4: 306, 7: 459, 8: 459}


def test_a_known_block(published: Published) -> None:
    imported = published(*PUBLISHED)
    blocks = {one.name: one for one in imported.measurements}
    block = blocks["160_lookup_table/Conv-input:160x160x3-output:80x80x24"]
    assert block.count == 498 and block.ms == pytest.approx(0.495562, rel=1e-5)
    assert imported.fields["device"] == "Samsung Note10"
