"""Importer: profiles of Qualcomm AI Hub as `ProfileJob.download_profile(filename)` of its client writes them."""

from __future__ import annotations

import os
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from latency_tables.importers.base import NOT_STATED, Imported, folded, read_json, table_name
from latency_tables.importers.profile import DECOMPOSED, Node, join
from latency_tables.measurement import Measurement
from search_spaces import OpCall

_SUMMARY, _DETAIL = "execution_summary", "execution_detail"


def read(path: str | os.PathLike[str], ops: Sequence[OpCall]) -> Imported:
    """Read a profile: times in microseconds of the network (`execution_summary`) and its layers (`execution_detail`).

    Layers have a name, a type, a compute unit and mostly a time, but no shapes; those come from the operations of the
    network that ran, joined by kind and order (`profile.join`). A layer's time is its fastest run. The estimated
    inference time becomes a measurement of the whole network, with the deviation and number of all its runs. Layers
    that give only cycles, or no time as they are fused into others, are left out.

    Args:
      path: the JSON file.
      ops: `lower(spec)` of the network that was profiled.

    Raises:
      ValueError: one line with file, key and cause.

    Source: Qualcomm's Python client qai-hub 0.56: what its download_profile returns, and the comments of its messages.
    """
    data = read_json(path)
    for key, kind in ((_SUMMARY, dict), (_DETAIL, list)):
        if not isinstance(data.get(key), kind):
            raise ValueError(f"{path}: {key}: missing; expected what download_profile(filename) of qai-hub writes")
    summary: dict[str, Any] = data[_SUMMARY]
    where = f"{path}: {_SUMMARY}"
    whole_us = _microseconds(summary, "estimated_inference_time", where, 1)
    runs = summary.get("all_inference_times", [])
    if not isinstance(runs, list):
        raise ValueError(f"{where}.all_inference_times: got {runs!r}, expected a list of microseconds")
    times = [_microseconds({"": us}, "", f"{where}.all_inference_times[{i}]", 1) for i, us in enumerate(runs)]
    nodes, units = [], set()
    for index, layer in enumerate(data[_DETAIL]):
        at = f"{path}: {_DETAIL}[{index}]"
        if not isinstance(layer, dict) or not all(isinstance(layer.get(k), str) for k in ("name", "type")):
            raise ValueError(f"{at}: got {str(layer)[:60]}, expected a layer with name and type")
        us = _microseconds(layer, "execution_time", at, 0) if "execution_time" in layer else None
        nodes.append(Node(f"{index} {layer['name']}", layer["type"], us if us is None else us * 1e-3, at))
        units.add(str(layer.get("compute_unit", NOT_STATED)))
    if not nodes:
        raise ValueError(f"{path}: {_DETAIL}: has no layers; profile with layer times")
    measurements, skipped = join(nodes, ops, max(len(times), 1), str(path))
    std_us = statistics.pstdev(times) if times else 0.0
    whole = Measurement(pathlib.Path(path).stem, folded(ops), whole_us * 1e-3, std_us * 1e-3, max(len(times), 1))
    fields = {
        "name": table_name("ai-hub", pathlib.Path(path).stem),
        "device": NOT_STATED,
        "processor": ", ".join(sorted(units)),
        "runtime": f"Qualcomm AI Hub, runtime {NOT_STATED}",
        "delegate": NOT_STATED,
        "how": "measured",
        "protocol": f"Qualcomm AI Hub profile of {max(len(times), 1)} runs: layers at their fastest",
        "date": NOT_STATED,
        "source": f"Qualcomm AI Hub, {pathlib.Path(path).name}",
        "licence": NOT_STATED,
    }
    return Imported((*measurements, whole), fields, DECOMPOSED, skipped)


def _microseconds(data: dict[str, Any], key: str, where: str, least: int) -> int:
    """An integer number of microseconds, as the service gives times. Raises ValueError."""
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        place = f"{where}.{key}" if key else where
        raise ValueError(f"{place}: got {value!r}, expected an integer number of microseconds, at least {least}")
    return value
