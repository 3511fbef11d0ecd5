"""`nas-report`: reports of searches and trainings, and networks side by side."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.cli.errors import one_line_for_users
from nas.cli.messages import say

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.host import remote

_EXAMPLES = """\
examples:
  nas-report runs/quickstart                                 report.html of every stage
  nas-report runs/quickstart/fine/train-small                of a training, with its exports
  nas-report compare runs/quickstart/fine runs/fast/fine     side by side
  nas-report compare runs/a runs/b --html compared.html
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake.

    Args:
      arguments: Command line; None: that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="nas-report",
        description="Write the report of a search or training again, or compare what searches have "
        "found.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = (
        'a workdir of a search or training, by path or URL; or "compare" and several workdirs, '
        "folders of stages or YAML files"
    )
    parser.add_argument("what", nargs="+", metavar="RUN", help=what)
    parser.add_argument(
        "--html", type=pathlib.Path, metavar="FILE", help="compare: also write a page"
    )
    options = parser.parse_args(arguments)
    with one_line_for_users("nas-report"):
        from nas.host import remote

        if options.what[0] == "compare":
            _compare(list(map(remote.Folder, options.what[1:])), options.html)
            return
        for folder in map(remote.Folder, options.what):
            _write(folder)


def _compare(runs: Sequence[remote.Folder], html: pathlib.Path | None) -> None:
    from nas.host import remote
    from nas.report import compare
    from search_spaces import files

    if not runs:
        raise ValueError("compare: give the folders of what is to be compared")
    for run in runs:
        run.pull()
    text, page = compare.compare([run.path for run in runs], remote.display_names(runs))
    say(text)
    if html:
        files.write_atomically(html, page)
        say(f"written: {html}")


def _write(workdir: remote.Folder) -> None:
    from nas.report import search, training
    from nas.run.folder import RunFolder, TrainFolder
    from nas.training import record

    workdir.pull()
    run = RunFolder(workdir.path)
    trainings = [
        folder
        for stage in run.stages
        for path in sorted(run.stage(stage).path.glob("train-*"))
        if record.is_training(folder := TrainFolder(path))
    ]
    if record.is_training(alone := TrainFolder(workdir.path)):
        trainings.append(alone)
    elif not run.stages:
        raise ValueError(
            f"{workdir}: holds neither a stage of a search nor a training; give the `workdir` of "
            "one"
        )
    pages = [page for stage in run.stages for page in search.write(stage, workdir.path)]
    for path in [*pages, *map(training.write, trainings)]:
        say(f"written: {workdir.display_name(path)}")
    workdir.push()


if __name__ == "__main__":
    main()
