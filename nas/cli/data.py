"""`nas-data`: a look at images before they are used."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from nas.cli.errors import one_line_for_users
from nas.cli.messages import say

_EXAMPLES = """\
examples:
  nas-data look imagefolder:photos
  nas-data look imagefolder:photos --html look.html --sheet look.png --size 160
  nas-data look imagefolder:photos --teacher onnx:teacher.onnx
  nas-data look "imagefolder:photos?exif=off&unreadable=5%&splits=off"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake.

    Args:
      arguments: Command line; None: that of the process.
    """
    options = _parser().parse_args(arguments)
    with one_line_for_users("nas-data"):
        from nas.api.looking import look

        seen = look(
            options.source,
            size=options.size,
            teacher=options.teacher,
            teacher_config=options.teacher_config,
            html=options.html,
            sheet=options.sheet,
            seed=options.seed,
        )
        say(str(seen))
        for path in (options.html, options.sheet):
            if path:
                say(f"written: {path}")
        sys.stdout.flush()


def summary(source: str, teacher: Sequence[str] = ()) -> str:
    """The look at a source for `--dry-run`; "" for data sets that are not raw images.

    Args:
      source: Source as given to a command.
      teacher: Lines on the agreement of a teacher.

    Raises:
      ValueError: The source is refused.
    """
    from nas.api.looking import look
    from nas.data.sources import COLLECTIONS

    if source.partition(":")[0] not in COLLECTIONS:
        return ""
    found = look(source)
    facts = dataclasses.replace(found.facts, teacher=tuple(teacher))
    return f"{dataclasses.replace(found, facts=facts)}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-data",
        description="Look at images before they are used for a search, a training or a "
        "distillation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    look = commands.add_parser(
        "look",
        help="classes, splits, what is left out and why, sizes, duplicates, a contact sheet",
        description="Show classes with counts, files that are left out with the reason, sizes, "
        "kinds, EXIF orientation, images in two splits or classes, balance, mean and deviation.",
    )
    sources = "imagefolder:DIR, npz:FILE, tfds:NAME[:SPLIT] or builtin:fashion-clutter"
    look.add_argument("source", metavar="SOURCE", help=sources)
    page = "also write a page with images as the network will see them"
    look.add_argument("--html", metavar="FILE", help=page)
    look.add_argument("--sheet", metavar="FILE", help="also write these images as a PNG")
    size = "side of the images in pixels (default 224)"
    look.add_argument("--size", type=int, metavar="PIXELS", help=size)
    teacher = "also try a teacher: onnx:FILE, tflite:FILE or checkpoint:RUN"
    look.add_argument("--teacher", metavar="TEACHER", help=teacher)
    config = "its configuration file; default: beside it, with the suffix .yaml"
    look.add_argument("--teacher-config", metavar="FILE", help=config)
    seed = "random seed of the samples (default 0)"
    look.add_argument("--seed", type=int, default=0, metavar="N", help=seed)
    return parser


if __name__ == "__main__":
    main()
