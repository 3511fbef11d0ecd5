"""Work on a Ray cluster; only this package imports Ray, to start processes and to notice losses."""

from nas.host.cluster.connection import LOCAL, connected
from nas.host.cluster.processes import run_distributed
from nas.host.cluster.spec import ClusterSpec, WorkerResources, WorkersLost
from nas.host.cluster.tasks import map_unordered

__all__ = [
    "LOCAL",
    "ClusterSpec",
    "WorkerResources",
    "WorkersLost",
    "connected",
    "map_unordered",
    "run_distributed",
]
