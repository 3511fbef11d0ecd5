"""Profiles of Qualcomm AI Hub."""

from __future__ import annotations

import functools
import json
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import search_spaces
from latency_tables.importers import read
from search_spaces import ArchSpec, OpCall

Refused = Callable[[Callable[[], object], str], None]
NodesOf = Callable[[Sequence[OpCall], Mapping[str, str]], list[tuple[str, float]]]
ExpectedMs = Callable[[Sequence[OpCall]], list[float]]
NodeTypes = Mapping[str, Mapping[str, str]]


def profile(nodes: Sequence[tuple[str, float]]) -> dict[str, Any]:
    detail: list[dict[str, Any]] = [
        {
            "name": "layer",
            "type": kind,
            "compute_unit": "NPU",
            "execution_time": round(ms * 1e3),
            "execution_cycles": 9,
        }
        for kind, ms in nodes
    ]
    del detail[2]["execution_time"]  # the second operation has only cycles
    detail[3]["execution_time"] = 0
    summary = {
        "estimated_inference_time": 417,
        "all_inference_times": [417, 419, 427],
        "first_load_time": 5,
    }
    return {"execution_summary": summary, "execution_detail": detail}


@pytest.mark.parametrize("runtime", ["TFLite", "QNN"])
def test_a_profile_of_ai_hub(
    runtime: str,
    small_32: ArchSpec,
    tmp_path: pathlib.Path,
    node_types: NodeTypes,
    nodes_of: NodesOf,
    expected_ms: ExpectedMs,
) -> None:
    ops = search_spaces.lower(small_32)
    path = tmp_path / "net.json"
    path.write_text(json.dumps(profile(nodes_of(ops, node_types[runtime]))))
    imported = read("ai_hub", path, ops)
    *single, whole = imported.measurements
    assert [one.ops for one in single] == [
        (op.folded,) for i, op in enumerate(ops) if i not in (1, 2)
    ]
    assert [one.ms for one in single] == pytest.approx(
        [ms for i, ms in enumerate(expected_ms(ops)) if i not in (1, 2)]
    )
    assert len({one.name for one in imported.measurements}) == len(ops) - 1
    assert (whole.ms, whole.count) == (0.417, 3) and whole.std_ms == pytest.approx(
        statistics.pstdev([417, 419, 427]) / 1e3
    )
    assert imported.fields["processor"] == "NPU" and sorted(imported.skipped_counts.values()) == [
        1,
        1,
        1,
        1,
    ]


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
            "execution_summary.all_inference_times[1]: got -1, expected an integer number of "
            "microseconds, at least 1",
        ),
        (
            ["execution_detail", 1, "execution_time"],
            -5,
            "execution_detail[1].execution_time: got -5, expected an integer number of "
            "microseconds, at least 0",
        ),
        (
            ["execution_detail", 1, "type"],
            None,
            "execution_detail[1]: got {'name': 'layer', 'type': None, 'compute_unit': 'NPU', "
            "'exec, expected a layer "
            "with name and type",
        ),
    ],
)
def test_a_damaged_profile_of_ai_hub(
    keys: list[Any],
    value: object,
    message: str,
    small_32: ArchSpec,
    tmp_path: pathlib.Path,
    node_types: NodeTypes,
    nodes_of: NodesOf,
    refused: Refused,
) -> None:
    ops = search_spaces.lower(small_32)
    data = profile(nodes_of(ops, node_types["TFLite"]))
    functools.reduce(lambda at, key: at[key], keys[:-1], data)[keys[-1]] = value
    path = tmp_path / "net.json"
    path.write_text(json.dumps(data))
    refused(lambda: read("ai_hub", path, ops), f"{path}: {message}")
