"""Question: how fast is a distilled data set read, and is Grain faster?

    python -m experiments.benchmarks.reading      # needs `pip install grain` beside the project

Batches of 256 images of 64 px in random order from the same ArrayRecord shards (JPEG, no teacher),
decoded to arrays. Ours is `nas.data.distilled.split`; Grain's is `MapDataset` with shuffle, map and
batch, in the threads of its `ReadOptions`. The sides run in turn on two cores, one process each.

Grain reads ahead by itself. Its buffer is limited to one batch per thread and a turn is 40 batches,
because with the default of 500 batches it keeps reading while the other sides are timed. Answer:
see `results/reading*.csv` and experiments/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks import side_by_side
from experiments.benchmarks.side_by_side import Side
from nas.data import codec, load
from nas.data.order import batch_indices
from nas.distillation import run
from nas.distillation.request import build_request
from nas.host import cores, parallel
from nas.host.progress import ProgressBar, console

_BATCH, _TURN = 256, 40


def main() -> None:
    """Make the shards, measure, print, write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="timed turns of each side")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        request, total = build_request("builtin:fashion-clutter", recipe="d1", size=64)
        workers = parallel.WorkerPool(cores.count())
        with ProgressBar("distil", total, console()) as progress:
            run.run(pathlib.Path(name), request, progress, workers=workers)
        sides = [Side("ours", "experiments.benchmarks.reading:ours", {"folder": name})]
        for threads in (2, 4):
            arguments = {"folder": name, "threads": threads}
            sides.append(
                Side(f"Grain, {threads} threads", "experiments.benchmarks.reading:grain", arguments)
            )
        timings = side_by_side.compare(sides, rounds=options.rounds)
    rows = []
    for side, side_timings in timings.items():
        rate = f"{_BATCH * _TURN / side_timings.median:.0f}"
        columns = side_timings.row(timings["ours"])
        rows.append({"side": side, "images_per_second": rate, **columns})
        side_by_side.show(rows[-1])
    versions = side_by_side.versions()
    print(f"written: {side_by_side.write('reading', rows, dtype='uint8', versions=versions)}")


def ours(folder: str) -> Callable[[], object]:
    """Make the call that reads the next batches with `nas.data.distilled.split`.

    Args:
      folder: Folder of the distilled data set.

    Returns:
      Function that reads one turn of batches.
    """
    split = load.load_dataset(f"distilled:{folder}").train
    steps = itertools.count()

    def turn() -> None:
        for step in itertools.islice(steps, _TURN):
            split.read(batch_indices(split.mixture, _BATCH, step, 0))

    return turn


def grain(folder: str, threads: int) -> Callable[[], object]:
    """Make the call that reads the next batches with Grain.

    Args:
      folder: Folder of the distilled data set.
      threads: Number of threads that read and decode.

    Returns:
      Function that reads one turn of batches.
    """
    import absl.flags
    import msgpack

    # Grain is no dependency of the project.
    pygrain: Any = importlib.import_module("grain.python")
    # Grain 0.2.18 reads a flag that nobody has parsed.
    absl.flags.FLAGS.mark_as_parsed()

    def decode(record: bytes) -> tuple[np.ndarray, int]:
        fields = msgpack.unpackb(record)
        return codec.to_array(codec.decode(fields["j"], "")), fields["l"]

    shards = sorted(map(str, pathlib.Path(folder).glob("train-*.array_record")))
    data = (
        pygrain.MapDataset.source(pygrain.ArrayRecordDataSource(shards))
        .shuffle(seed=0)
        .repeat()
        .map(decode)
    )
    options = pygrain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    batches = iter(data.batch(_BATCH).to_iter_dataset(options))

    def turn() -> None:
        for _ in itertools.islice(batches, _TURN):
            pass

    return turn


if __name__ == "__main__":
    main()
