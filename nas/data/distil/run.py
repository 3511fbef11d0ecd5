"""Making a whole distilled data set, from where it stopped, and checking one."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import math
import os
import pathlib
import socket
import time
from collections.abc import Iterator, Sequence

import numpy as np

from nas.data import images as codec
from nas.data.collection import PARTS
from nas.data.distil import balance
from nas.data.distil.manifest import (
    MANIFEST,
    REQUEST,
    Manifest,
    Part,
    Request,
    Shard,
    Skipped,
    read_manifest,
    read_request,
)
from nas.data.distil.records import Reader
from nas.data.distil.work import ORDER, Done, Job, Workplace, is_done, pixels, read_shard, work, workplace
from nas.run import parallel
from nas.run.log import LiveLine
from search_spaces import yaml_io

_LOCK = ".lock"


def run(folder: pathlib.Path, request: Request, line: LiveLine, *, workers: parallel.Workers) -> Manifest:
    """Make the data set that is asked for, or what is missing of it; the same bytes however often it was stopped.

    Args:
      folder: of the data set; made if absent.
      request: what to make.
      line: shows progress; its total is the number of samples.
      workers: who do it.

    Raises:
      ValueError: the folder holds another data set or is being written, a source or teacher does not fit, no room.
    """
    folder = folder.absolute()
    with _alone(folder):
        _check_same(folder, request)
        yaml_io.write_atomically(folder / REQUEST, yaml_io.to_yaml(request, defaults=True))
        workplace.cache_clear()
        here = workplace(folder)
        # a teacher that does not fit is said at once, not by the first process that opens it
        _ = here.teacher, here.classifier if request.balance else None
        progress = _Progress(line)
        if request.balance and not (folder / ORDER).exists():
            jobs = here.jobs("relevance")
            _do(folder, jobs, progress, workers)
            _write_order(folder, here, jobs)
        jobs = [job for part in PARTS for job in here.jobs(part)]
        _do(folder, jobs, progress, workers)
        manifest = _manifest(folder, here)
        yaml_io.write_atomically(folder / MANIFEST, yaml_io.to_yaml(manifest, defaults=True))
    return manifest


def verify(folder: pathlib.Path, line: LiveLine, *, workers: parallel.Workers) -> int:
    """Check every file of a finished data set, and that every record gives the pixels it was made with.

    Args:
      folder: of the data set; of one that keeps seeds, the source is needed too.
      line: shows progress; its total is the number of records.
      workers: processes.

    Returns:
      The number of records.

    Raises:
      ValueError: the first thing that is wrong, with its file.
    """
    folder, count = folder.absolute(), 0
    manifest = read_manifest(folder)
    if manifest.request.storage == "seeds":
        workplace(folder)  # the source has to be there, as it was: better said now
    shards = [(name, shard) for name, part in manifest.parts.items() for shard in part.shards]
    for name, images in workers.each(functools.partial(_verify_shard, folder), shards):
        count += images
        line.show(count, name)
    return count


def _verify_shard(folder: pathlib.Path, item: tuple[str, Shard]) -> tuple[str, int]:
    part, shard = item
    path = folder / shard.file
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {_CURE}") from None
    if found != shard.sha256:
        raise ValueError(f"{path}: has changed: sha256 {found[:16]}, the manifest says {shard.sha256[:16]}; {_CURE}")
    if not shard.images:
        return part, 0
    reader = Reader(path)
    if len(reader) != shard.images:
        raise ValueError(f"{path}: holds {len(reader)} records, the manifest says {shard.images}; {_CURE}")
    for start in range(0, shard.images, _AT_ONCE):
        for record in reader.read(range(start, min(start + _AT_ONCE, shard.images))):
            place = f"{path}: sample {record.sample}"
            if codec.checksum(codec.from_array(pixels(folder, part, record, place))) != record.crc:
                raise ValueError(f"{place}: decodes to other pixels here than where it was made")
    return part, shard.images


_AT_ONCE = 256  # records
_CURE = "delete it and run the same nas-distill command again: it makes what is missing"


def _do(folder: pathlib.Path, jobs: Sequence[Job], progress: _Progress, workers: parallel.Workers) -> None:
    todo = [job for job in jobs if not is_done(folder, job)]
    place = workplace(folder)
    progress.skip(sum(len(place.samples(job)) for job in jobs if job not in set(todo)))
    for done in workers.each(functools.partial(work, folder), todo):
        progress.add(done)


class _Progress:
    """Counts what is done, and how much of the time was the teacher's."""

    def __init__(self, line: LiveLine):
        self._line, self._count, self._new = line, 0, 0
        self._seconds = self._teacher = 0.0
        self._begun = time.monotonic()

    def skip(self, images: int) -> None:
        self._count += images

    def add(self, done: Done) -> None:
        self._count += done.images
        self._new += done.images
        self._seconds += done.seconds
        self._teacher += done.teacher_seconds
        rate = self._new / max(time.monotonic() - self._begun, 1e-9)
        share = f"  teacher {self._teacher / self._seconds:.0%} of the work" if self._teacher else ""
        self._line.show(self._count, f"{done.job.part}  {rate:.0f} img/s{share}")


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Nobody else writes into the folder meanwhile; the operating system lets go of it when the process ends."""
    import fcntl  # not on Windows

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be written ({error.strerror})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ValueError(f"{folder}: is being written by {file.read() or 'another process'}; wait for it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _check_same(folder: pathlib.Path, request: Request) -> None:
    """A folder belongs to one request: refuse another one with the differences."""
    if not (folder / REQUEST).exists():
        return
    if changes := yaml_io.differences(read_request(folder), request):
        raise ValueError(f"{folder} holds another distilled data set ({changes}); choose another --out")


def _write_order(folder: pathlib.Path, place: Workplace, jobs: Sequence[Job]) -> None:
    asked = place.request.balance
    assert asked
    scores = np.concatenate([np.load(folder / f"{job.stem}.npy", allow_pickle=False) for job in jobs])
    order = balance.select(scores, asked.per_class, asked.threshold, place.request.class_names)
    temporary = folder / f".{ORDER}"
    with temporary.open("wb") as file:
        np.save(file, order, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / ORDER)
    place.__dict__.pop("order", None)  # it was looked for before it was there


def _manifest(folder: pathlib.Path, place: Workplace) -> Manifest:
    parts = {
        part: Part(shards=tuple(read_shard(folder / f"{job.stem}.json") for job in place.jobs(part))) for part in PARTS
    }
    train, side = parts["train"], place.request.size
    if not train.images:
        first = next(skipped for shard in train.shards for skipped in shard.skipped)
        raise ValueError(f"{folder}: not one training image could be used; the first: {first.place}: {first.reason}")
    values = train.images * side * side * 3
    mean = sum(shard.pixel_sum for shard in train.shards) / values
    std = math.sqrt(max(sum(shard.pixel_squares for shard in train.shards) / values - mean * mean, 0.0))
    order = hashlib.sha256((folder / ORDER).read_bytes()).hexdigest() if place.request.balance else None
    versions = {name: importlib.metadata.version(name) for name in ("mnv4-nas", "pillow", "numpy")}
    return Manifest(
        request=place.request,
        parts=parts,
        mean=mean,
        std=max(std, 1e-3),
        order_sha256=order,
        unreadable=_unreadable(folder, place) if place.request.balance else (),
        versions=versions,
    )


def _unreadable(folder: pathlib.Path, place: Workplace) -> tuple[Skipped, ...]:
    """Images that no classifier could judge: they are in no shard, so no shard lists them."""
    images, found = place.images_of("relevance"), []
    for job in place.jobs("relevance"):
        scores = np.load(folder / f"{job.stem}.npy", allow_pickle=False)
        for row in np.flatnonzero(np.isnan(scores).any(1)):
            number = place.samples(job)[int(row)]
            try:
                images.open(number)
            except codec.BadImage as error:
                found.append(Skipped(place=images.place(number), reason=str(error)))
    return tuple(found)
