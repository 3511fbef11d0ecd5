"""The options of commands that can work on a Ray cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.host import cluster


def add(
    parser: argparse.ArgumentParser, what: str, *, accelerators: bool = True, below: bool = False
) -> None:
    """Add `--ray` and what each process needs there.

    Args:
      parser: Parser of the command.
      what: What runs there, for the help.
      accelerators: Whether it can use any.
      below: It is a subcommand of one that has these options too: those given before it hold.
    """
    group = parser.add_argument_group("on a Ray cluster")

    def add(name: str, default: Any, **more: Any) -> None:
        group.add_argument(name, default=argparse.SUPPRESS if below else default, **more)

    where = '"auto", host:port, or "local" for processes of this machine'
    add("--ray", None, metavar="ADDRESS", help=f"{what}: {where}")
    cpus = "CPUs of each process, as Ray counts them (default 1)"
    add("--worker-cpus", 1, type=float, metavar="N", help=cpus)
    if accelerators:
        gpus = "GPUs of each process (default 0)"
        add("--worker-gpus", 0, type=float, metavar="N", help=gpus)
    resource = "other resource of each process, e.g. TPU=4; repeatable"
    add("--worker-resource", [], action="append", metavar="NAME=N", help=resource)


def spec(options: argparse.Namespace) -> cluster.ClusterSpec | None:
    """The cluster that the options ask for; None without `--ray`.

    Args:
      options: Parsed options.

    Raises:
      ValueError: An amount that does not fit, or one without `--ray`.
    """
    from nas.host import cluster

    resources = {}
    for text in options.worker_resource:
        name, equals, amount = text.partition("=")
        if not equals or not name or not amount.replace(".", "", 1).isdigit():
            raise ValueError(f"--worker-resource {text!r}: expected NAME=N, e.g. TPU=4")
        resources[name] = float(amount)
    gpus = getattr(options, "worker_gpus", 0)
    for name, amount in (("cpus", options.worker_cpus), ("gpus", gpus)):
        if not 0 <= amount < float("inf"):
            raise ValueError(f"--worker-{name}: got {amount:g}, expected at least 0")
    each = cluster.WorkerResources(options.worker_cpus, gpus, resources)
    if options.ray:
        return cluster.ClusterSpec(options.ray, each)
    if each != cluster.WorkerResources():
        raise ValueError("--worker-cpus, --worker-gpus and --worker-resource go with --ray")
    return None
