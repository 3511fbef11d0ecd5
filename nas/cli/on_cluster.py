"""The options of commands that can work on a Ray cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.run import cluster, parallel


def add(parser: argparse.ArgumentParser, what: str, *, accelerators: bool = True, below: bool = False) -> None:
    """Add `--ray` and what each process needs there.

    Args:
      parser: of the command.
      what: is shared out, for the help.
      accelerators: whether it can use any.
      below: it is a subcommand of one that has them too: what was said there holds.
    """
    group = parser.add_argument_group("on a Ray cluster")

    def add(name: str, default: Any, **more: Any) -> None:
        group.add_argument(name, default=argparse.SUPPRESS if below else default, **more)

    add("--ray", None, metavar="ADDRESS", help=f'{what}: "auto", host:port, or "local" for processes of this machine')
    add("--worker-cpus", 1, type=float, metavar="N", help="of each process, as Ray counts them (default 1)")
    if accelerators:
        add("--worker-gpus", 0, type=float, metavar="N", help="of each (default 0)")
    add("--worker-resource", [], action="append", metavar="NAME=N", help="of each, e.g. TPU=4; repeatable")


def workers(options: argparse.Namespace) -> parallel.Workers:
    """Who do the work: those of a cluster, or `--workers` processes of this machine. Raises ValueError."""
    from nas.run import cores, parallel

    count = getattr(options, "workers", None)
    if count is not None and count < 1:
        raise ValueError(f"--workers: got {count}, expected at least 1")
    return parallel.Workers(count or cores.count(), place(options))


def place(options: argparse.Namespace) -> cluster.Place | None:
    """What the options ask for, None without `--ray`. Raises ValueError."""
    from nas.run import cluster

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
    needs = cluster.Needs(options.worker_cpus, gpus, resources)
    if options.ray:
        return cluster.Place(options.ray, needs)
    if needs != cluster.Needs():
        raise ValueError("--worker-cpus, --worker-gpus and --worker-resource go with --ray")
    return None
