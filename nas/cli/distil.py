"""`nas-distill`: an offline distilled data set, from images and a teacher."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.cli import on_cluster, paths

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.data.distil.manifest import Request

_EXAMPLES = """\
examples:
  nas-distill --source imagefolder:photos --teacher onnx:teacher.onnx --recipe d1 --replicas 10 --out distilled
  nas-distill verify distilled
  nas-search --data distilled:distilled --set space.base=my_base.yaml

A teacher has a YAML beside it (teacher.yaml): name, size, and mean, std, layout, output, classes where needed. The same
command again goes on where an interrupted one stopped, and ends with the same bytes.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    from nas.cli.errors import one_line_for_users

    try:
        with one_line_for_users("nas-distill"):
            (_verify if options.command == "verify" else _distil)(options)
    except KeyboardInterrupt:
        again = " ".join(["nas-distill", *sys.argv[1:]])
        print(f"\nstopped; complete shards are kept; to go on: {again}", file=sys.stderr)
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-distill",
        description="Make an offline distilled data set: augment images, ask a teacher about each, keep both.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", metavar="SOURCE", help="imagefolder:DIR, npz:FILE, tfds:NAME[:SPLIT] or builtin:fashion-clutter")
    add("--teacher", metavar="TEACHER", help="onnx:FILE, tflite:FILE or checkpoint:RUN; without: labels only")
    add("--teacher-config", metavar="FILE", help="its YAML; default: beside it, with the suffix .yaml")
    add("--recipe", choices=("d1", "d2", "d3", "plain"), default="d1", help="augmentation (default d1)")
    add("--replicas", type=int, default=1, metavar="N", help="augmented versions of each training image (default 1)")
    add("--out", metavar="DIR|URL", help="folder of the data set")
    add("--size", type=int, metavar="PIXELS", help="side of the images; default: of the first one, at most 224")
    add(
        "--storage",
        choices=("jpeg", "seeds"),
        default="jpeg",
        help="keep images, or what makes them again",
    )
    add("--quality", type=int, default=95, metavar="1..100", help="of the JPEG (default 95)")
    add("--top-k", type=int, default=16, metavar="K", help="probabilities kept of each image (default 16)")
    add("--per-class", type=int, metavar="N", help="d3: images of each class; default: as many as there are on average")
    add(
        "--threshold",
        type=float,
        default=0.3,
        metavar="P",
        help="d3: relevance of an image for its class (default 0.3)",
    )
    add("--relevance", metavar="TEACHER", help="d3: the classifier that judges it; default: the teacher")
    add("--relevance-config", metavar="FILE", help="its YAML")
    add("--held-out", type=float, default=0.1, metavar="SHARE", help="for parts that the source lacks (default 0.1)")
    add("--seed", type=int, default=0, metavar="N", help="of all randomness")
    add("--shard-images", type=int, default=1024, metavar="N", help="images of a shard (default 1024)")
    add("--workers", type=int, metavar="N", help="processes; default: one a core. The result is the same")
    on_cluster.add(parser, "shards are its tasks, the result is the same")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    verify = commands.add_parser("verify", help="check a finished data set", description="Check every file and record.")
    verify.add_argument("folder", metavar="DIR|URL")
    verify.add_argument("--workers", type=int, metavar="N", default=argparse.SUPPRESS, help="processes")
    return parser


def _distil(options: argparse.Namespace) -> None:
    missing = [name for name in ("source", "out") if getattr(options, name) is None]
    if missing:
        raise ValueError(f"needs {' and '.join(f'--{name}' for name in missing)}; see nas-distill --help")
    from nas.data.distil import run
    from nas.report import distil as report
    from nas.run.log import LiveLine, console

    paths.only_local(options, "--out", options.out, "nas-distill")
    folder, workers = paths.place(options.out), on_cluster.workers(options)
    request, total = _request(options)
    folder.pull()
    try:
        with LiveLine("distil", total, console()) as line:
            manifest = run.run(folder.path, request, line, workers=workers)
        print(report.summary(manifest))
        for path in report.write(folder.path, manifest):
            print(f"written: {folder.named(path)}")
    finally:
        folder.push()


def _request(options: argparse.Namespace) -> tuple[Request, int]:
    """The request that the options mean, and the number of samples to work on."""
    from nas.data import sources
    from nas.data.augment.recipes import RECIPES
    from nas.data.collection import with_all_parts
    from nas.data.distil import teacher
    from nas.data.distil.manifest import Balance, Request
    from search_spaces import yaml_io

    source = sources.absolute(options.source)
    collection = with_all_parts(sources.open_collection(source), options.held_out, options.seed)
    asked = teacher.describe(options.teacher, options.teacher_config) if options.teacher else None
    names = collection.class_names or (asked and asked.spec.class_names) or ()
    train, classes = collection.parts["train"], len(names)
    balance = None
    if RECIPES[options.recipe].balances:
        judge = teacher.describe(options.relevance, options.relevance_config) if options.relevance else asked
        if judge is None:
            raise ValueError("--recipe d3 needs a classifier that judges relevance: give --relevance or --teacher")
        per_class = options.per_class or max(round(len(train) / max(classes, 1)), 1)
        balance = Balance(per_class=per_class, threshold=options.threshold, classifier=judge)
    if classes < 2:
        raise ValueError(
            f"source {options.source}: has {classes} classes, expected at least 2; one folder for each class, or a "
            "teacher whose YAML says `class_names`"
        )
    size = options.size or min(224, *train.open(0).size)
    fields = {
        "source": source,
        "source_fingerprint": collection.fingerprint,
        "class_names": names,
        "teacher": asked,
        "recipe": options.recipe,
        "balance": balance,
        "replicas": options.replicas,
        "size": size,
        "storage": options.storage,
        "quality": options.quality,
        "top_k": min(options.top_k, classes),
        "held_out": options.held_out,
        "seed": options.seed,
        "shard_images": options.shard_images,
    }
    request = yaml_io.validate(fields, Request, "nas-distill")
    images = {part: len(own) for part, own in collection.parts.items()}
    trained = balance.per_class * classes if balance else images["train"]
    total = trained * options.replicas + images["validation"] + images["test"] + (images["train"] if balance else 0)
    return request, total


def _verify(options: argparse.Namespace) -> None:
    from nas.data.distil import manifest, run
    from nas.run.log import LiveLine, console

    folder = paths.place(options.folder)
    folder.pull()
    total = sum(part.images for part in manifest.read_manifest(folder.path).parts.values())
    with LiveLine("verify", total, console()) as line:
        count = run.verify(folder.path, line, workers=on_cluster.workers(options))
    print(f"{folder}: {count} records, all as the manifest says")


if __name__ == "__main__":
    main()
