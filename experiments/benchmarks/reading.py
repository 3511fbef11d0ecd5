"""Question: how fast is a distilled data set read, and is Grain faster?

    python -m experiments.benchmarks.reading      # needs `pip install grain` beside the project

Batches of 256 images of 64 px in random order from the same ArrayRecord shards (JPEG, no teacher), decoded to arrays:
ours (`nas.data.stored`), and Grain's `MapDataset` with shuffle, map and batch, in the threads of its `ReadOptions`. Two
cores, a process each in turn. Grain reads ahead by itself: its buffer is kept to a batch a thread and a turn is 40
batches, because with the default of 500 batches it goes on reading while the others are timed. Answer: see
`results/reading*.csv` and experiments/RESULTS.md.
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

_BATCH, _TURN = 256, 40


def main() -> None:
    """Make the shards, measure, print, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    from nas.cli import distil

    with tempfile.TemporaryDirectory() as name:
        out = ["--out", name, "--size", "64", "--recipe", "d1"]
        distil.main(["--source", "builtin:fashion-clutter", *out])
        sides = [Side("ours", "experiments.benchmarks.reading:ours", {"folder": name})]
        for threads in (2, 4):
            arguments = {"folder": name, "threads": threads}
            sides.append(Side(f"Grain, {threads} threads", "experiments.benchmarks.reading:grain", arguments))
        found = side_by_side.compare(sides, rounds=options.rounds)
    rows = []
    for side, timings in found.items():
        rate = f"{_BATCH * _TURN / timings.median:.0f}"
        rows.append({"side": side, "images_per_second": rate, **timings.row(found["ours"])})
        side_by_side.show(rows[-1])
    print(f"written: {side_by_side.write('reading', rows, dtype='uint8', versions=side_by_side.versions())}")


def ours(folder: str) -> Callable[[], object]:
    """Reads the next batches."""
    from nas.data import sources
    from nas.data.order import batch_indices

    split, steps = sources.load(f"distilled:{folder}").train, itertools.count()

    def turn() -> None:
        for step in itertools.islice(steps, _TURN):
            split.read(batch_indices(split.mixture, _BATCH, step, 0))

    return turn


def grain(folder: str, threads: int) -> Callable[[], object]:
    """The same by Grain."""
    import absl.flags
    import msgpack

    from nas.data import images

    pygrain: Any = importlib.import_module("grain.python")  # no dependency of the project
    absl.flags.FLAGS.mark_as_parsed()  # Grain 0.2.18 reads a flag that nobody has parsed

    def decode(record: bytes) -> tuple[np.ndarray, int]:
        fields = msgpack.unpackb(record)
        return images.to_array(images.decode(fields["j"], "")), fields["l"]

    shards = sorted(map(str, pathlib.Path(folder).glob("train-*.array_record")))
    data = pygrain.MapDataset.source(pygrain.ArrayRecordDataSource(shards)).shuffle(seed=0).repeat().map(decode)
    options = pygrain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    batches = iter(data.batch(_BATCH).to_iter_dataset(options))

    def turn() -> None:
        for _ in itertools.islice(batches, _TURN):
            pass

    return turn


if __name__ == "__main__":
    main()
