"""`nas-search matrix`: many searches, each on its own."""

from __future__ import annotations

import argparse
import sys

from nas.cli import on_cluster, paths


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "matrix",
        help="many searches: seeds x targets x variants of a configuration",
        description="Run every combination of seeds, targets and variants that a small YAML file lists, as independent "
        "searches: a core of this machine each, or tasks of a Ray cluster. The same command goes on where it stopped.",
    )
    parser.add_argument("file", metavar="FILE", help="see `nas.search.matrix.Matrix`")
    add, above = parser.add_argument, argparse.SUPPRESS  # what stands before the command holds too
    add("--workdir", default=above, metavar="DIR|URL", help="default: runs/NAME of the matrix")
    add("--workers", type=int, default=above, metavar="N", help="searches at a time; default: all cores")
    on_cluster.add(parser, "a task there for each", below=True)


def run(options: argparse.Namespace) -> None:
    """Run, show a table while it runs, write one page that compares what was found."""
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-search matrix"):
        from nas.cli import config_files
        from nas.run import remote
        from nas.run.config import RunConfig
        from nas.search.matrix import Cell, Matrix
        from nas.search.matrix import run as run_all
        from search_spaces import yaml_io

        workers = on_cluster.workers(options)
        matrix = yaml_io.load_model(options.file, Matrix)
        workdir = paths.place(options.workdir or f"runs/{matrix.name}").absolute()
        cells = [
            Cell(name, config_files.load(matrix.config, RunConfig, (), settings), workdir / name, matrix.stages)
            for name, settings in matrix.settings().items()
        ]
        for cell in cells:
            if cell.config.separate and len(cell.stages) > 1:
                raise ValueError(f"{cell.name}: separate targets are searched in one stage; give e.g. stages: [coarse]")
        from nas.report import compare
        from nas.report.matrix import LiveTable
        from nas.run.log import console

        try:
            with LiveTable(cells, console()) as table:
                for outcome in run_all(cells, workers):
                    table.done(outcome)
        except KeyboardInterrupt:
            print("\nstopped; every search goes on from its last checkpoint with the same command", file=sys.stderr)
            raise SystemExit(130) from None
        found = [folder for cell in cells for folder in cell.results]
        if found:
            text, page = compare.compare(found, remote.named_in([cell.workdir for cell in cells]))
            report = workdir.path / "report.html"
            yaml_io.write_atomically(report, page)
            workdir.push()
            print(text)
            print(f"report: {workdir.named(report)}")
    if table.failed:
        raise SystemExit(1)
