"""Making a whole distilled data set, or the missing rest of it, and verifying one."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import pathlib
import time
from collections.abc import Iterable, Sequence

import numpy as np

from nas.data import codec, door, sources
from nas.data.collection import SPLITS
from nas.data.distilled.manifest import (
    MANIFEST,
    REQUEST,
    Manifest,
    Request,
    Shard,
    Skipped,
    SplitShards,
    read_manifest,
    read_request,
)
from nas.data.distilled.records import Reader
from nas.data.distilled.replay import ORDER, Job, Replay, open_replay, pixels
from nas.distillation import balance, teacher_files
from nas.distillation.shards import ShardResult, is_done, process_shard, read_shard
from nas.host import lock, parallel
from nas.host.progress import Progress
from search_spaces import files, yaml_io

_RECORDS = 256
"""Records that are verified at a time."""
_CURE = "distil again: only damaged and missing shards are made"


def run(
    folder: pathlib.Path,
    request: Request,
    progress: Progress,
    *,
    workers: parallel.WorkerPool,
    notes: tuple[str, ...] = (),
) -> Manifest:
    """Make a distilled data set, or the missing rest of it.

    The bytes are the same however often the work was interrupted.

    Args:
      folder: Folder of the data set; created if absent.
      request: Parameters of the data set.
      progress: Receives the number of finished samples.
      workers: Processes or machines that do the work.
      notes: Sentences on what is doubtful in the teachers, from `nas.distillation.trial`.

    Returns:
      The manifest of the finished data set.

    Raises:
      ValueError: The folder holds another data set or another process writes it, a source or
        teacher does not fit, or the disk is full.
    """
    folder = folder.absolute()
    with lock.exclusive(folder):
        check_same(folder, request)
        files.write_atomically(folder / REQUEST, yaml_io.to_yaml(request, defaults=True))
        open_replay.cache_clear()
        context = open_replay(folder)
        job_progress = _JobProgress(progress)
        if request.balance and not (folder / ORDER).exists():
            jobs = context.jobs("relevance")
            _run_jobs(folder, jobs, job_progress, workers)
            _write_order(folder, context, jobs)
        jobs = [job for split in SPLITS for job in context.jobs(split)]
        _run_jobs(folder, jobs, job_progress, workers)
        of_source = door.notes(sources.open_collection(request.source))
        manifest = _manifest(folder, context, of_source + notes)
        files.write_atomically(folder / MANIFEST, yaml_io.to_yaml(manifest, defaults=True))
    return manifest


def verify(folder: pathlib.Path, progress: Progress, *, workers: parallel.WorkerPool) -> int:
    """Check every file of a finished data set, and the checksum of the pixels of every record.

    Args:
      folder: Folder of the data set. If it stores only seeds, the source is needed too.
      progress: Receives the number of verified records.
      workers: Processes that do the work.

    Returns:
      The number of records.

    Raises:
      ValueError: A file or record does not match the manifest; the message names the first one.
    """
    folder = folder.absolute()
    count = 0
    manifest = read_manifest(folder)
    # A source that was moved is corrected there.
    asked = read_request(folder).model_copy(update={"source": manifest.request.source})
    if changes := yaml_io.differences(manifest.request, asked):
        raise ValueError(f"{folder}: {REQUEST} is not the request in {MANIFEST} ({changes})")
    if manifest.request.storage == "seeds":
        # Reports a missing or changed source before any file is read.
        open_replay(folder)
    shards = [(name, shard) for name, split in manifest.splits.items() for shard in split.shards]
    for name, images in workers.map_unordered(functools.partial(_verify_shard, folder), shards):
        count += images
        progress.update(count, name)
    return count


def _verify_shard(folder: pathlib.Path, item: tuple[str, Shard]) -> tuple[str, int]:
    split, shard = item
    path = folder / shard.file
    try:
        digest = files.sha256(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {_CURE}") from None
    if digest != shard.sha256:
        raise ValueError(
            f"{path}: has changed: sha256 {digest[:16]}, the manifest says {shard.sha256[:16]}; "
            f"{_CURE}"
        )
    if not shard.images:
        return split, 0
    reader = Reader(path)
    if len(reader) != shard.images:
        raise ValueError(
            f"{path}: holds {len(reader)} records, the manifest says {shard.images}; {_CURE}"
        )
    for start in range(0, shard.images, _RECORDS):
        for record in reader.read(range(start, min(start + _RECORDS, shard.images))):
            location = f"{path}: sample {record.sample}"
            image = codec.from_array(pixels(folder, split, record, location))
            if codec.checksum(image) != record.crc:
                raise ValueError(
                    f"{location}: decodes to other pixels here than where it was made; use the "
                    "version of Pillow that the manifest names"
                )
    return split, shard.images


def _run_jobs(
    folder: pathlib.Path,
    jobs: Sequence[Job],
    job_progress: _JobProgress,
    workers: parallel.WorkerPool,
) -> None:
    missing = [job for job in jobs if not is_done(folder, job)]
    context = open_replay(folder)
    job_progress.skip(sum(len(context.samples(job)) for job in jobs if job not in set(missing)))
    broken = _Broken(folder, context)
    broken.add(set(jobs) - set(missing))
    for result in workers.map_unordered(functools.partial(process_shard, folder), missing):
        job_progress.add(result)
        broken.add([result.job])


class _Broken:
    """Counts the images of a source that cannot be read, and stops when there are too many."""

    def __init__(self, folder: pathlib.Path, context: Replay):
        self._folder, self._raw = folder, context.raw
        self._images = sum(map(len, context.raw.splits.values()))
        self._reasons: dict[str, None] = {}

    def add(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if job.split == "relevance":
                continue
            shard = read_shard(self._folder / f"{job.stem}.json")
            # A reason names the image, which many samples may show.
            self._reasons |= {skipped.reason: None for skipped in shard.skipped}
        door.refuse_many(self._raw, len(self._reasons), self._images, list(self._reasons))


class _JobProgress:
    """Reports finished samples, their rate and the share of time spent in the teacher."""

    def __init__(self, progress: Progress):
        self._progress = progress
        self._count = 0
        self._new = 0
        self._seconds = 0.0
        self._teacher_seconds = 0.0
        self._start = time.monotonic()

    def skip(self, images: int) -> None:
        self._count += images

    def add(self, result: ShardResult) -> None:
        self._count += result.images
        self._new += result.images
        self._seconds += result.seconds
        self._teacher_seconds += result.teacher_seconds
        rate = self._new / max(time.monotonic() - self._start, 1e-9)
        share = ""
        if self._teacher_seconds:
            share = f"  teacher {self._teacher_seconds / self._seconds:.0%} of the work"
        self._progress.update(self._count, f"{result.job.split}  {rate:.0f} img/s{share}")


def check_same(folder: pathlib.Path, request: Request) -> None:
    """Refuse a folder that holds a data set of another request, with the differences.

    Args:
      folder: Folder of the data set.
      request: Parameters of the data set.

    Raises:
      ValueError: It holds another data set, or a file of a teacher has changed.
    """
    if not (folder / REQUEST).exists():
        return
    begun = read_request(folder)
    pairs = [(begun.teacher, request.teacher)]
    if begun.balance and request.balance:
        pairs.append((begun.balance.classifier, request.balance.classifier))
    for old, new in pairs:
        if change := teacher_files.changed(old, new):
            raise ValueError(
                f"{change}; {folder} was begun with it: restore the file, or choose another `out`"
            )
    if changes := yaml_io.differences(begun, request):
        raise ValueError(
            f"{folder} holds another distilled data set ({changes}); choose another `out`"
        )


def _write_order(folder: pathlib.Path, context: Replay, jobs: Sequence[Job]) -> None:
    request = context.request
    assert request.balance
    scores = np.concatenate(
        [np.load(folder / f"{job.stem}.npy", allow_pickle=False) for job in jobs]
    )
    per_class = request.balance.per_class
    order = balance.select(scores, per_class, request.balance.threshold, request.class_names)
    with files.replaced(folder / ORDER) as temporary, temporary.open("wb") as file:
        np.save(file, order, allow_pickle=False)
    # The cached property was read before the file existed.
    context.__dict__.pop("order", None)


def _manifest(folder: pathlib.Path, context: Replay, notes: tuple[str, ...]) -> Manifest:
    request = context.request
    splits = {
        split: SplitShards(
            shards=tuple(read_shard(folder / f"{job.stem}.json") for job in context.jobs(split))
        )
        for split in SPLITS
    }
    train = splits["train"]
    if not train.images:
        first = next(skipped for shard in train.shards for skipped in shard.skipped)
        raise ValueError(
            f"{folder}: no training image could be used; the first: {first.location}: "
            f"{first.reason}"
        )
    values = train.images * request.size * request.size * 3
    mean = sum(shard.pixel_sum for shard in train.shards) / values
    std = math.sqrt(
        max(sum(shard.pixel_squares for shard in train.shards) / values - mean * mean, 0.0)
    )
    order = None
    if request.balance:
        order = files.sha256(folder / ORDER)
    versions = {name: importlib.metadata.version(name) for name in ("mnv4-nas", "pillow", "numpy")}
    return Manifest(
        request=request,
        splits=splits,
        mean=mean,
        std=max(std, 1e-3),
        order_sha256=order,
        unreadable=_unreadable(folder, context) if request.balance else (),
        notes=notes,
        versions=versions,
    )


def _unreadable(folder: pathlib.Path, context: Replay) -> tuple[Skipped, ...]:
    """Images without scores: they are chosen for no shard, so no shard lists them."""
    images = context.images_of("relevance")
    unreadable = []
    for job in context.jobs("relevance"):
        scores = np.load(folder / f"{job.stem}.npy", allow_pickle=False)
        for row in np.flatnonzero(np.isnan(scores).any(1)):
            number = context.samples(job)[int(row)]
            try:
                images.open(number)
            except codec.BadImage as error:
                unreadable.append(Skipped(location=images.location(number), reason=str(error)))
    return tuple(unreadable)
