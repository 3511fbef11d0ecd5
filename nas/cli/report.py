"""`nas-report`: reports of searches, and networks side by side."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from nas.cli import paths

_EXAMPLES = """\
examples:
  nas-report runs/quickstart                                 report.html of every stage
  nas-report compare runs/quickstart/fine runs/fast/fine     side by side
  nas-report compare runs/a runs/b --html compared.html
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="nas-report",
        description="Write the report of a search again, or compare what several have found.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN",
        help='a workdir, by path or URL; or "compare" and several workdirs, folders of stages or YAML files',
    )
    parser.add_argument("--html", type=pathlib.Path, metavar="FILE", help="compare: write a page too")
    options = parser.parse_args(arguments)
    from nas.cli.errors import one_line_for_users

    with one_line_for_users("nas-report"):
        from nas.report import compare
        from nas.report import search as report
        from nas.run import remote
        from nas.search import planning
        from search_spaces import yaml_io

        if options.what[0] == "compare":
            if len(options.what) < 2:
                raise ValueError("compare: give the folders of what is to be compared")
            runs = [paths.place(run) for run in options.what[1:]]
            for run in runs:
                run.pull()
            text, page = compare.compare([run.path for run in runs], remote.named_in(runs))
            print(text)
            if options.html:
                yaml_io.write_atomically(options.html, page)
                print(f"written: {options.html}")
            return
        for text in options.what:
            workdir = paths.place(text)
            workdir.pull()
            stages = planning.stages_in(workdir.path)
            if not stages:
                raise ValueError(f"{workdir}: holds no stage of a search; give what --workdir of the search was")
            for stage in stages:
                for path in report.write(stage, workdir.path):
                    print(f"written: {workdir.named(path)}")
            workdir.push()


if __name__ == "__main__":
    main()
