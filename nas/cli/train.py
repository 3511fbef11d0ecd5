"""`nas-train`: train a found or given network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.cli import on_cluster, train_matrix
from nas.cli.errors import INTERRUPTED, one_line_for_files, one_line_for_users
from nas.cli.messages import say

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from nas.api.training import TrainJob

_EXAMPLES = """\
examples:
  nas-train runs/quickstart                          the network of the last stage, on its data
  nas-train runs/quickstart --init supernet          start from its weights in the supernet
  nas-train mnv4-conv-s --data imagefolder:photos --fit-classes --recipe finetune --init DIR
  nas-train matrix compare.yaml                      networks x variants x seeds, a core each
  nas-train my.yaml --data npz:photos.npz --recipe my_recipe.yaml --set epochs=10 --workdir runs/t

Rerun the same command to resume an interrupted training. Recipes: small, finetune, distilled-400,
distilled-2000, and one for each MobileNetV4 (mnv4-conv-s ... mnv4-hybrid-l).
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, 130 after Ctrl-C, 1 if training diverged.

    Args:
      arguments: Command line; None: that of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["matrix"]:
        train_matrix.main(arguments[1:])
        return
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.workers is not None and not options.ray:
        parser.error("--workers goes with --ray; `--ray local` takes processes of this machine")
    with one_line_for_users("nas-train"):
        from nas.api.training import open_job

        job = open_job(
            options.network,
            data=options.data,
            recipe=options.recipe,
            workdir=options.workdir,
            init=options.init,
            fit_classes=options.fit_classes,
            padding=options.padding,
            seed=options.seed,
            changes=options.set,
        )
        shared = {
            "ray": on_cluster.spec(options),
            "workers": 1 if options.workers is None else options.workers,
        }
        job.check(tensorboard=options.tensorboard, **shared)
    if options.dry_run:
        with one_line_for_users("nas-train"):
            from nas.cli.data import summary

            say(f"{summary(job.record.data)}{_headline(job)}")
        return
    if not job.is_finished:
        _train(job, options)
    _print_result(job)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-train",
        description="Train a network, keep the best weights, and evaluate them once on the test "
        "split.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = "folder of a search, YAML file of a network, or name of a known network"
    add("network", metavar="RUN|SPEC", help=what)
    sources = "builtin:NAME, distilled:DIR, imagefolder:DIR, npz:FILE or tfds:NAME"
    add("--data", metavar="SOURCE", help=f"{sources}; default: the data of the search")
    add("--recipe", default="small", metavar="NAME|FILE", help="recipe (default small)")
    add("--workdir", metavar="DIR", help="folder of the training; default: train-RECIPE in the run")
    start = "scratch (default), supernet, the folder of another training, or timm:FILE.safetensors"
    add("--init", default="scratch", metavar="START", help=f"weights to start from: {start}")
    fit = "give the classifier as many classes as the data have"
    add("--fit-classes", action="store_true", help=fit)
    padding = (
        "zeros around images: same (TensorFlow, the paper), symmetric (PyTorch, timm's weights)"
    )
    add("--padding", metavar="NAME", help=f"{padding}; default: as the network has it")
    add("--seed", type=int, default=0, metavar="N", help="random seed (default 0)")
    change = "change one setting of the recipe; repeatable"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=change)
    events = "also write metrics for TensorBoard (extra tensorboard)"
    add("--tensorboard", action="store_true", help=events)
    on_cluster.add(parser, "run there")
    workers = "with --ray: processes that share the replicas of the recipe (default 1)"
    add("--workers", type=int, metavar="N", help=workers)
    add("--dry-run", action="store_true", help="check and describe everything, train nothing")
    return parser


def _headline(job: TrainJob) -> str:
    data, config = job.dataset, job.config
    counts = ", ".join(f"{len(split)} {name}" for name, split in data.splits().items())
    start = str(job.fitted) if job.fitted else "from scratch"
    return (
        f"{job.spec!r}\n{data.name}: {counts} images, {len(data.class_names)} classes\n"
        f"{config.steps} steps of {config.batch} images with {config.optimizer}, "
        f"{start}, in {job.folder}"
    )


def _train(job: TrainJob, options: argparse.Namespace) -> None:
    from nas.host.progress import ProgressBar, console
    from nas.run.loop import NotFinite

    out = console()
    out.print(_headline(job), soft_wrap=True, highlight=False)
    # Without a cluster, an error in the middle of a run is ours, and keeps its traceback, unless
    # it is the disk's.
    guard = one_line_for_users if options.ray else one_line_for_files
    try:
        with ProgressBar("train", job.config.steps, out) as bar, guard("nas-train"):
            job.run(
                bar,
                tensorboard=options.tensorboard,
                ray=on_cluster.spec(options),
                workers=options.workers or 1,
            )
    except KeyboardInterrupt:
        state = "stopped; the last checkpoint is" if options.ray else "stopped and saved"
        again = " ".join(["nas-train", *sys.argv[1:]])
        out.print(f"\n{state} in {job.folder}; to resume: {again}", soft_wrap=True)
        raise SystemExit(INTERRUPTED) from None
    except NotFinite as error:
        out.print(
            f"nas-train: error: {error}; the last good checkpoint is kept in "
            f"{job.folder.checkpoints}; try a smaller learning_rate in another --workdir",
            soft_wrap=True,
        )
        raise SystemExit(1) from None


def _print_result(job: TrainJob) -> None:
    measures = job.result.measures
    say(f"best network, of step {measures.best_step}: {job.folder.best}")
    for split, values in (("validation", measures.validation), ("test", measures.test)):
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        say(f"  {split}: {shown}")
    say(f"report: {job.folder.page}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
