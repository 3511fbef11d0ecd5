"""The engine: from images to a found, trained network.

JAX is imported only when something that needs it is used.

    result = nas.search("quickstart", stage="coarse", targets=["pixel6-cpu:0.12ms"],
    workdir="runs/a") result.architecture, result.candidates, result.metrics
    result.derive(targets=["macs:5M"], out="runs/other")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from nas.api.costs import audit, bench_kit, estimate, fit_device, import_table
    from nas.api.distilling import DistilledData, TeacherTrial, distil, try_teacher, verify
    from nas.api.exporting import Export, export
    from nas.api.looking import DataLook, look
    from nas.api.measuring import measure
    from nas.api.result import Candidates, SearchResult, open_result
    from nas.api.results import derive, diagnose
    from nas.api.searching import search
    from nas.api.session import Session, open_session
    from nas.api.train_matrices import train_matrix
    from nas.api.train_result import TrainResult
    from nas.api.training import train
    from nas.model.network import build_network, build_supernet

_HOMES = {
    "Candidates": "nas.api.result",
    "DataLook": "nas.api.looking",
    "DistilledData": "nas.api.distilling",
    "Export": "nas.api.exporting",
    "SearchResult": "nas.api.result",
    "Session": "nas.api.session",
    "TeacherTrial": "nas.api.distilling",
    "TrainResult": "nas.api.train_result",
    "audit": "nas.api.costs",
    "bench_kit": "nas.api.costs",
    "build_network": "nas.model.network",
    "build_supernet": "nas.model.network",
    "derive": "nas.api.results",
    "diagnose": "nas.api.results",
    "distil": "nas.api.distilling",
    "estimate": "nas.api.costs",
    "export": "nas.api.exporting",
    "fit_device": "nas.api.costs",
    "import_table": "nas.api.costs",
    "look": "nas.api.looking",
    "measure": "nas.api.measuring",
    "open_result": "nas.api.result",
    "open_session": "nas.api.session",
    "search": "nas.api.searching",
    "train": "nas.api.training",
    "train_matrix": "nas.api.train_matrices",
    "try_teacher": "nas.api.distilling",
    "verify": "nas.api.distilling",
}
"""{public name: the module that has it}, so that `import nas` loads nothing else."""

__all__ = [
    "Candidates",
    "DataLook",
    "DistilledData",
    "Export",
    "SearchResult",
    "Session",
    "TeacherTrial",
    "TrainResult",
    "audit",
    "bench_kit",
    "build_network",
    "build_supernet",
    "derive",
    "diagnose",
    "distil",
    "estimate",
    "export",
    "fit_device",
    "import_table",
    "look",
    "measure",
    "open_result",
    "open_session",
    "search",
    "train",
    "train_matrix",
    "try_teacher",
    "verify",
]


def __getattr__(name: str) -> _Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
