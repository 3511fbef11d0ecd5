"""`nas-train matrix`: many trainings, each on its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nas.cli import matrix, on_cluster
from nas.cli.errors import one_line_for_users

_EXAMPLE = """\
a FILE:
  name: compare
  networks: {found: runs/quickstart, base: small-32}     folders of searches, YAML files, names
  data: builtin:fashion-clutter                          default: the data of each search
  seeds: [0, 1, 2]
  recipe: small                                          default
  variants: {plain: {}, smooth: {label_smoothing: 0.1}, from-supernet: {init: supernet}}

It writes trainings.csv, summary.csv (mean over seeds, 95 % interval) and report.html.
"""


def main(arguments: Sequence[str]) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C, 1 if a training failed.

    Args:
      arguments: Command line behind `nas-train matrix`.
    """
    options = _parser().parse_args(arguments)
    with one_line_for_users("nas-train matrix"):
        from nas.api.train_matrices import open_train_matrix
        from nas.report.matrix import TRAININGS

        run = open_train_matrix(
            options.file,
            workdir=options.workdir,
            ray=on_cluster.spec(options),
            workers=options.workers,
        )
        matrix.show(run, TRAININGS, str)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-train matrix",
        description="Train every combination of networks, variants of a recipe and seeds that a "
        "small YAML file lists, as independent trainings: a core of this machine each, or tasks of "
        "a Ray cluster. Rerun the same command to resume.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="see `nas.training.matrix.TrainMatrix`")
    add("--workdir", metavar="DIR", help="folder of all trainings; default: runs/NAME")
    add("--workers", type=int, metavar="N", help="trainings at a time; default: all cores")
    on_cluster.add(parser, "a task there for each training")
    return parser
