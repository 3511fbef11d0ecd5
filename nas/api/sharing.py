"""What searches and trainings check before processes of a cluster share them."""

from __future__ import annotations

from collections.abc import Iterable

from nas.host import cluster


def cluster_spec(ray: str | cluster.ClusterSpec | None) -> cluster.ClusterSpec | None:
    """The cluster that was asked for.

    Args:
      ray: Its address, a description, or None for this process.
    """
    return cluster.ClusterSpec(ray) if isinstance(ray, str) else ray


def check(
    workers: int,
    replicas: int,
    setting: str,
    ray: cluster.ClusterSpec | None,
    names: Iterable[str],
) -> None:
    """Refuse what processes cannot share.

    Args:
      workers: Number of processes.
      replicas: Number of replicas.
      setting: Key path of that number.
      ray: Cluster of the processes; None for this process.
      names: Names of what the run uses; those of objects begin with "custom:".

    Raises:
      ValueError: Replicas that cannot be shared evenly, several processes without a cluster, or
        objects that other machines do not have.
    """
    if workers < 1 or replicas % workers:
        more = -(-replicas // max(workers, 1)) * max(workers, 1)
        raise ValueError(
            f"`workers` {workers}: they share the replicas evenly, got {setting} {replicas}; give "
            f"`settings` {setting}={more}, or another number of workers"
        )
    if workers > 1 and ray is None:
        raise ValueError('`workers`: goes with `ray`; "local" takes processes of this machine')
    for name in names:
        if ray and name.startswith("custom:"):
            raise ValueError(
                f"`ray`: {name} was given as an object, which other machines do not have; "
                "leave `ray` out"
            )
