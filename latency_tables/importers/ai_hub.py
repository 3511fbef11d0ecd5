"""Importer: profiles of Qualcomm AI Hub, written by its client's `ProfileJob.download_profile`."""

from __future__ import annotations

import os
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from latency_tables.importers.base import NOT_STATED, Imported, folded, read_json, table_name
from latency_tables.importers.profile import DECOMPOSITION_NOTE, Node, join
from latency_tables.measurement import Measurement
from search_spaces import OpCall

_SUMMARY, _DETAIL = "execution_summary", "execution_detail"


def read(path: str | os.PathLike[str], ops: Sequence[OpCall]) -> Imported:
    """Read a profile: times in microseconds of the network and of its layers.

    Layers (`execution_detail`) have a name, a type, a compute unit and mostly a time, but no
    shapes. Shapes come from the operations of the network that ran, joined by kind and order
    (`profile.join`). A layer's time is its fastest run. The estimated inference time
    (`execution_summary`) becomes a measurement of the whole network, with the deviation and number
    of all its runs. Layers without a time are left out: they are fused into others, or have cycles
    only.

    Args:
      path: JSON file.
      ops: `lower(spec)` of the network that was profiled.

    Returns:
      Measurements of operations and of the whole network.

    Raises:
      ValueError: One line with file, key and cause.

    Source: Qualcomm's Python client qai-hub 0.56: what its download_profile returns, and the
    comments of its messages.
    """
    data = read_json(path)
    for key, kind in ((_SUMMARY, dict), (_DETAIL, list)):
        if not isinstance(data.get(key), kind):
            raise ValueError(
                f"{path}: {key}: missing; "
                "expected what download_profile(filename) of qai-hub writes"
            )
    whole_us, times_us = _summary(data[_SUMMARY], f"{path}: {_SUMMARY}")
    nodes, units = _nodes(data[_DETAIL], f"{path}: {_DETAIL}")
    runs = max(len(times_us), 1)
    measurements, skipped = join(nodes, ops, runs, str(path))
    std_us = statistics.pstdev(times_us) if times_us else 0.0
    stem = pathlib.Path(path).stem
    whole = Measurement(stem, folded(ops), whole_us * 1e-3, std_us * 1e-3, runs)
    fields = {
        "name": table_name("ai-hub", stem),
        "device": NOT_STATED,
        "processor": ", ".join(sorted(units)),
        "runtime": f"Qualcomm AI Hub, runtime {NOT_STATED}",
        "delegate": NOT_STATED,
        "how": "measured",
        "protocol": f"Qualcomm AI Hub profile of {runs} runs: layers at their fastest",
        "date": NOT_STATED,
        "source": f"Qualcomm AI Hub, {pathlib.Path(path).name}",
        "licence": NOT_STATED,
    }
    return Imported((*measurements, whole), fields, DECOMPOSITION_NOTE, skipped)


def _summary(summary: dict[str, Any], where: str) -> tuple[int, list[int]]:
    """Estimated time of the network, and the times of all its runs, in microseconds."""
    whole_us = _microseconds(summary, "estimated_inference_time", where, 1)
    runs = summary.get("all_inference_times", [])
    if not isinstance(runs, list):
        raise ValueError(
            f"{where}.all_inference_times: got {runs!r}, expected a list of microseconds"
        )
    times_us = [
        _microseconds({"": us}, "", f"{where}.all_inference_times[{i}]", 1)
        for i, us in enumerate(runs)
    ]
    return whole_us, times_us


def _nodes(detail: list[Any], where: str) -> tuple[list[Node], set[str]]:
    """Layers as nodes of a profile, and the compute units that ran them."""
    nodes, units = [], set()
    for index, layer in enumerate(detail):
        at = f"{where}[{index}]"
        if not isinstance(layer, dict) or not all(
            isinstance(layer.get(key), str) for key in ("name", "type")
        ):
            raise ValueError(f"{at}: got {str(layer)[:60]}, expected a layer with name and type")
        us = _microseconds(layer, "execution_time", at, 0) if "execution_time" in layer else None
        ms = None if us is None else us * 1e-3
        nodes.append(Node(f"{index} {layer['name']}", layer["type"], ms, at))
        units.add(str(layer.get("compute_unit", NOT_STATED)))
    if not nodes:
        raise ValueError(f"{where}: has no layers; profile with layer times")
    return nodes, units


def _microseconds(data: dict[str, Any], key: str, where: str, least: int) -> int:
    """An integer number of microseconds, the service's unit of times. Raises ValueError."""
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        place = f"{where}.{key}" if key else where
        raise ValueError(
            f"{place}: got {value!r}, expected an integer number of microseconds, at least {least}"
        )
    return value
