"""`nas-distill`: an offline distilled data set, from images and a teacher."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nas.cli import on_cluster, paths
from nas.cli.errors import INTERRUPTED, one_line_for_users
from nas.cli.messages import say

_EXAMPLES = """\
examples:
  nas-distill --source imagefolder:photos --teacher onnx:teacher.onnx --replicas 10 --out distilled
  nas-distill --source imagefolder:photos --teacher onnx:teacher.onnx --try 64 --html try.html
  nas-distill verify distilled
  nas-search --data distilled:distilled --set space.base=my_base.yaml

A teacher has a YAML file beside it (teacher.yaml): name, size, and mean, std (of pixels 0..255),
layout, channels, output, output_name, classes, class_names where needed. It is first tried on 256
images, and refused where its answers contradict the file. Rerun the same command to resume an
interrupted one: the bytes are the same.
"""
_REQUEST = (
    "source",
    "teacher",
    "teacher_config",
    "recipe",
    "replicas",
    "size",
    "storage",
    "quality",
    "top_k",
    "per_class",
    "threshold",
    "relevance",
    "relevance_config",
    "held_out",
    "seed",
    "shard_images",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C.

    Args:
      arguments: Command line; None: that of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        with one_line_for_users("nas-distill"):
            (_verify if options.command == "verify" else _distil)(options)
    except KeyboardInterrupt:
        again = " ".join(["nas-distill", *sys.argv[1:]])
        print(f"\nstopped; complete shards are kept; to resume: {again}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-distill",
        description="Make an offline distilled data set: augment images, ask a teacher about each, "
        "keep both.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    source = "imagefolder:DIR, npz:FILE, tfds:NAME[:SPLIT] or builtin:fashion-clutter"
    add("--source", metavar="SOURCE", help=f"images: {source}")
    teacher = "onnx:FILE, tflite:FILE or checkpoint:RUN; without: labels only"
    add("--teacher", metavar="TEACHER", help=teacher)
    config = "teacher configuration file; default: beside the teacher, with the suffix .yaml"
    add("--teacher-config", metavar="FILE", help=config)
    add(
        "--recipe",
        default="d1",
        metavar="NAME",
        help="augmentation: d1 (default), d2, d3, crop or plain",
    )
    replicas = "augmented versions of each training image (default 1)"
    add("--replicas", type=int, default=1, metavar="N", help=replicas)
    add("--out", metavar="DIR|URL", help="folder of the data set")
    size = "side of the images; default: that of the first one, at most 224"
    add("--size", type=int, metavar="PIXELS", help=size)
    storage = "store the augmented JPEGs, or only the seeds that reproduce them"
    add("--storage", choices=("jpeg", "seeds"), default="jpeg", help=storage)
    add("--quality", type=int, default=95, metavar="1..100", help="JPEG quality (default 95)")
    top_k = "probabilities stored per image (default 16)"
    add("--top-k", type=int, default=16, metavar="K", help=top_k)
    per_class = "d3: images per class; default: the mean over classes"
    add("--per-class", type=int, metavar="N", help=per_class)
    threshold = "d3: least relevance of an image for its class (default 0.3)"
    add("--threshold", type=float, default=0.3, metavar="P", help=threshold)
    relevance = "d3: classifier that measures relevance; default: the teacher"
    add("--relevance", metavar="TEACHER", help=relevance)
    add("--relevance-config", metavar="FILE", help="d3: configuration file of that classifier")
    held_out = "held-out fraction for missing splits (default 0.1)"
    add("--held-out", type=float, default=0.1, metavar="SHARE", help=held_out)
    add("--seed", type=int, default=0, metavar="N", help="random seed (default 0)")
    shard = "images per shard (default 1024)"
    add("--shard-images", type=int, default=1024, metavar="N", help=shard)
    workers = "processes; default: one a core. The result is the same"
    add("--workers", type=int, metavar="N", help=workers)
    tries = "let the teacher label N images and show them, make no data set"
    add("--try", type=int, dest="try_images", metavar="N", help=tries)
    add("--html", metavar="FILE", help="--try: also write a page with the images")
    add("--sheet", metavar="FILE", help="--try: also write the images as a PNG")
    add("--dry-run", action="store_true", help="check and describe everything, write nothing")
    on_cluster.add(parser, "shards are its tasks, the result is the same")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    verify = commands.add_parser(
        "verify", help="check a finished data set", description="Check every file and record."
    )
    verify.add_argument("folder", metavar="DIR|URL")
    verify.add_argument(
        "--workers", type=int, metavar="N", default=argparse.SUPPRESS, help="processes"
    )
    return parser


def _distil(options: argparse.Namespace) -> None:
    needed_options = ("source", "out") if options.try_images is None else ("source", "teacher")
    missing = [name for name in needed_options if getattr(options, name) is None]
    if missing:
        needed = " and ".join(f"--{name}" for name in missing)
        raise ValueError(f"needs {needed}; see nas-distill --help")
    from nas.api.distilling import distil
    from nas.report import distil as report

    if options.try_images is not None:
        _try(options)
        return
    if options.html or options.sheet:
        raise ValueError("--html and --sheet go with --try")
    paths.only_local(options, "--out", options.out, "nas-distill")
    if options.dry_run:
        from nas.api.distilling import trials
        from nas.cli.data import summary
        from nas.data.sources.image_folder import check_outside
        from nas.distillation.request import build_request

        check_outside(options.source, options.out, "out")
        fields = {name: getattr(options, name) for name in _REQUEST[1:]}
        request, total = build_request(options.source, **fields)
        tried = trials(request)
        for trial in tried:
            trial.accept()
        lines = [line for trial in tried for line in trial.lines]
        say(
            f"{summary(options.source, lines)}{total} samples of {request.size} px, recipe "
            f"{request.recipe}; nothing is written"
        )
        return
    data = distil(
        out=options.out,
        ray=on_cluster.spec(options),
        workers=options.workers,
        **{name: getattr(options, name) for name in _REQUEST},
    )
    say(report.summary(data.manifest))
    for path in data.pages:
        say(f"written: {data.folder.display_name(path)}")


def _try(options: argparse.Namespace) -> None:
    from nas.api.distilling import try_teacher

    found = try_teacher(
        images=options.try_images,
        html=options.html,
        sheet=options.sheet,
        **{name: getattr(options, name) for name in _REQUEST},
    )
    say(str(found))
    for path in (options.html, options.sheet):
        if path:
            say(f"written: {path}")
    sys.stdout.flush()
    found.trial.accept()


def _verify(options: argparse.Namespace) -> None:
    from nas.api.distilling import verify
    from nas.data.distilled.manifest import read_manifest
    from nas.host import remote

    count = verify(options.folder, ray=on_cluster.spec(options), workers=options.workers)
    say(f"{options.folder}: {count} records match the manifest")
    for note in read_manifest(remote.as_folder(options.folder).path).notes:
        say(f"note: {note}")


if __name__ == "__main__":
    main()
