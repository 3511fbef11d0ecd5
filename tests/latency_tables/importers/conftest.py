"""Shared by the tests of importers."""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import pytest

from latency_tables.importers import NOT_STATED, Imported, read
from search_spaces import OpCall

SHARED = pathlib.Path(__file__).parents[4] / "shared" / "latency"
_BEHIND = {
    "hard_swish": ["HARD_SWISH"],
    "swish": ["LOGISTIC", "MUL"],
    "sigmoid": ["LOGISTIC"],
    "hard_sigmoid": ["MUL"],
}


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Write a file, with its first `old` replaced by `new`."""

    def write_file(name: str, text: str, old: str = "", new: str = "") -> pathlib.Path:
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1))
        return tmp_path / name

    return write_file


@pytest.fixture(scope="session")
def check() -> Callable[[Imported, Mapping[str, Sequence[str]], Sequence[float]], None]:
    """Check the operations and times of an import."""

    def check_import(
        imported: Imported, operations: Mapping[str, Sequence[str]], times: Sequence[float]
    ) -> None:
        measurements = imported.measurements
        assert {one.name: [str(op) for op in one.ops] for one in measurements} == operations
        assert [one.ms for one in measurements] == times
        assert all(op == op.folded for one in measurements for op in one.ops)
        assert "\n" not in imported.decomposition_note
        # The file of a test is nobody's publication, whatever its name and form.
        assert imported.fields["licence"] == NOT_STATED
        assert re.fullmatch(r"given as \S+ \(sha256 [0-9a-f]{16}\)", imported.fields["source"])

    return check_import


@functools.cache
def _published(importer: str, file: str) -> Imported:
    return read(importer, SHARED / file)


@pytest.fixture(scope="session")
def published() -> Callable[[str, str], Imported]:
    """Import one of the published files: importer and name of the file."""
    if not SHARED.is_dir():
        pytest.skip(f"the published latency data are not at {SHARED}")
    return _published


@pytest.fixture(scope="session")
def shared_latency() -> pathlib.Path:
    """Folder of the published latency data."""
    if not SHARED.is_dir():
        pytest.skip(f"the published latency data are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def node_types() -> dict[str, dict[str, str]]:
    """{runtime: {kind of operation: its name in a profile}}."""
    return {
        "TFLite": {
            "conv2d": "CONV_2D",
            "depthwise_conv2d": "DEPTHWISE_CONV_2D",
            "fully_connected": "FULLY_CONNECTED",
            "matmul": "BATCH_MATMUL",
            "softmax": "SOFTMAX",
            "mean": "MEAN",
            "add": "ADD",
            "mul": "MUL",
        },
        "XNNPACK": {
            "conv2d": "Convolution (NHWC, QC8) GEMM",
            "depthwise_conv2d": "Convolution (NHWC, QC8) DWConv",
            "fully_connected": "Fully Connected (NC, QS8, QC8W) GEMM",
            "mean": "Global Average Pooling (NWC, QS8)",
            "add": "Binary Elementwise (ND)",
        },
        "QNN": {
            "conv2d": "Conv2d",
            "depthwise_conv2d": "DepthWiseConv2d",
            "fully_connected": "FullyConnected",
            "mean": "ReduceMean",
            "add": "ElementWiseAdd",
        },
    }


@pytest.fixture(scope="session")
def nodes_of() -> Callable[[Sequence[OpCall], Mapping[str, str]], list[tuple[str, float]]]:
    """(type, ms) of the nodes that a runtime shows for operations.

    Node i of operation j takes j + i / 10 us; nodes that move data take 1 us.
    """

    def nodes(ops: Sequence[OpCall], names: Mapping[str, str]) -> list[tuple[str, float]]:
        out = [("QUANTIZE", 0.001)]
        for j, op in enumerate(ops, 1):
            if op.kind == "batch_norm":
                continue
            types = [names[op.kind], *_BEHIND.get(op.activation, [])]
            out += [(kind, (j + i / 10) * 1e-3) for i, kind in enumerate(types)]
        return [*out, ("RESHAPE", 0.001)]

    return nodes


@pytest.fixture(scope="session")
def expected_ms() -> Callable[[Sequence[OpCall]], list[float]]:
    """Times of operations whose nodes are those of `nodes_of`."""

    def times(ops: Sequence[OpCall]) -> list[float]:
        return [
            sum(j + i / 10 for i in range(1 + len(_BEHIND.get(op.activation, [])))) * 1e-3
            for j, op in enumerate(ops, 1)
        ]

    return times
