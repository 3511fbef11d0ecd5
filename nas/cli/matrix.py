"""`nas-search matrix`: many searches, each on its own."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from nas.cli import on_cluster
from nas.cli.errors import INTERRUPTED, one_line_for_users
from nas.cli.messages import say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    parser = commands.add_parser(
        "matrix",
        help="many searches: seeds x targets x variants of a configuration",
        description="Run every combination of seeds, targets and variants that a small YAML file "
        "lists, as independent "
        "searches: a core of this machine each, or tasks of a Ray cluster. Rerun the same command "
        "to resume.",
    )
    parser.add_argument("file", metavar="FILE", help="see `nas.engine.matrix.Matrix`")
    add, above = parser.add_argument, argparse.SUPPRESS  # options before the command hold too
    workdir = "folder of all searches; default: runs/NAME of the matrix"
    add("--workdir", default=above, metavar="DIR|URL", help=workdir)
    add(
        "--workers",
        type=int,
        default=above,
        metavar="N",
        help="searches at a time; default: all cores",
    )
    on_cluster.add(parser, "a task there for each search", below=True)


def run(options: argparse.Namespace) -> None:
    """Run, show a table meanwhile, print the comparison.

    Args:
      options: Parsed options.
    """
    with one_line_for_users("nas-search matrix"):
        from nas.api.matrices import open_matrix
        from nas.report.matrix import SEARCHES

        matrix = open_matrix(
            options.file,
            workdir=options.workdir,
            ray=on_cluster.spec(options),
            workers=options.workers,
        )
        show(matrix, SEARCHES, matrix.workdir.display_name)


def show(matrix: Any, view: Any, display: Callable[[pathlib.Path], str]) -> None:
    """Run a matrix, show a table meanwhile, print the comparison; exit code 1 if a cell failed.

    Args:
      matrix: `nas.api.matrices.MatrixRun` or `nas.api.train_matrices.TrainMatrixRun`.
      view: How its cells are shown, see `nas.report.matrix`.
      display: Name of the page.
    """
    from nas.host.progress import console
    from nas.report.matrix import LiveTable

    try:
        with LiveTable(matrix.cells, console(), view) as table:
            for outcome in matrix.run():
                table.done(outcome)
    except KeyboardInterrupt:
        again = f"rerun the same command to resume every {view.kind} from its last checkpoint"
        print(f"\nstopped; {again}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    text, page = matrix.report()
    if page:
        say(text)
        say(f"report: {display(page)}")
    if table.failed:
        raise SystemExit(1)
