"""Unit of parallel work: one shard of a distilled data set, or of the scores that balance it."""

from __future__ import annotations

import hashlib
import json
import pathlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from nas.data import codec
from nas.data.distilled import labels, records
from nas.data.distilled.manifest import Shard, Skipped, TeacherRecord
from nas.data.distilled.replay import Job, Replay, open_replay
from nas.distillation.teacher import Teacher
from search_spaces import files, plain_json, yaml_io

ENTROPY_BINS = 20
_WITHOUT_TEACHER = 64
"""Images at a time where there is no teacher."""


class ShardResult(NamedTuple):
    """A finished job with its times, which are not part of the data.

    Attributes:
      job: Job that is finished.
      images: Number of its samples, skipped ones included.
      seconds: Duration of the job.
      teacher_seconds: Time spent in the teacher.
    """

    job: Job
    images: int
    seconds: float
    teacher_seconds: float


def is_done(folder: pathlib.Path, job: Job) -> bool:
    """Whether the files of a job are complete and undamaged.

    The description is written last, and states the hash of the record file.

    Args:
      folder: Folder of the data set.
      job: Job to look for.

    Raises:
      ValueError: The description is malformed.
    """
    if job.split == "relevance":
        return (folder / f"{job.stem}.npy").exists()
    description = folder / f"{job.stem}.json"
    if not description.exists():
        return False
    shard = read_shard(description)
    file = folder / shard.file
    if shard.file != f"{job.stem}.array_record":
        raise ValueError(f"{description}: file: got {shard.file!r}, the record file of another")
    if not shard.images:
        return True
    if not file.exists() or file.stat().st_size != shard.bytes:
        return False
    return files.sha256(file) == shard.sha256


def read_shard(description: pathlib.Path) -> Shard:
    """Read the description of a shard.

    Args:
      description: JSON file.

    Returns:
      The description.

    Raises:
      ValueError: It is malformed.
    """
    text = files.read_text(description)
    return yaml_io.validate(plain_json.parse(text, str(description)), Shard, str(description))


def process_shard(folder: pathlib.Path, job: Job) -> ShardResult:
    """Do a job; each of its files appears complete or not at all.

    Args:
      folder: Folder of the data set, with its request.
      job: Job to do.

    Returns:
      The finished job with its times.

    Raises:
      ValueError: The source or a teacher does not fit, or the disk is full.
    """
    context = open_replay(folder)
    start = time.perf_counter()
    try:
        if job.split == "relevance":
            images, teacher_seconds = _relevance(context, job)
        else:
            images, teacher_seconds = _shard(context, job)
    except files.CannotWrite as error:
        raise ValueError(f"{error}: complete shards are kept") from None
    return ShardResult(job, images, time.perf_counter() - start, teacher_seconds)


_opened: dict[tuple[TeacherRecord, tuple[str, ...]], Teacher] = {}


def open_teacher(record: TeacherRecord, class_names: tuple[str, ...]) -> Teacher:
    """Open a teacher, once per process.

    Args:
      record: Reference to the teacher.
      class_names: Names of the classes of the data set.

    Returns:
      The opened teacher.

    Raises:
      ValueError: It cannot be opened, or does not fit the spec or the classes.
    """
    key = record, class_names
    if key not in _opened:
        _opened[key] = Teacher(record, class_names)
    return _opened[key]


def _relevance(context: Replay, job: Job) -> tuple[int, float]:
    """Score the images of a job; returns their number, and the seconds of the classifier."""
    request = context.request
    assert request.balance
    images = context.images_of(job.split)
    samples = context.samples(job)
    classifier = open_teacher(request.balance.classifier, request.class_names)
    scores = np.full((len(samples), len(request.class_names)), np.nan, np.float32)
    seconds = 0.0
    for start in range(0, len(samples), classifier.spec.batch):
        opened = []
        for row, sample in enumerate(samples[start : start + classifier.spec.batch], start):
            try:
                opened.append((row, images.open(sample)))
            # The manifest lists the image as unreadable.
            except codec.BadImage:
                continue
        if opened:
            before = time.perf_counter()
            scores[[row for row, _ in opened]] = classifier([image for _, image in opened])
            seconds += time.perf_counter() - before
    path = context.folder / f"{job.stem}.npy"
    with files.replaced(path) as temporary, temporary.open("wb") as file:
        np.save(file, scores, allow_pickle=False)
    return len(samples), seconds


def _shard(context: Replay, job: Job) -> tuple[int, float]:
    """Write the record file of a job; returns its samples, and the seconds of the teacher."""
    request = context.request
    tally = _Tally(len(request.class_names))
    file = context.folder / f"{job.stem}.array_record"
    samples = context.samples(job)
    known = context.images_of(job.split).labels
    teacher = open_teacher(request.teacher, request.class_names) if request.teacher else None
    size = teacher.spec.batch if teacher else _WITHOUT_TEACHER
    seconds = 0.0
    with files.replaced(file) as temporary:
        with records.Writer(temporary) as writer:
            for start in range(0, len(samples), size):
                chunk = samples[start : start + size]
                augmented = list(_augmented(context, job.split, chunk, tally))
                if not augmented:
                    continue
                numbers = [context.image_of(job.split, sample) for sample, _, _ in augmented]
                chunk_labels = np.array([known[number] for number in numbers], np.int32)
                probabilities = None
                sparse = None
                if teacher:
                    before = time.perf_counter()
                    probabilities = teacher([image for _, image, _ in augmented])
                    seconds += time.perf_counter() - before
                    sparse = labels.keep_top(probabilities, request.top_k)
                images = [image for _, image, _ in augmented]
                tally.add(images, chunk_labels, probabilities, sparse)
                for row, (sample, image, jpeg) in enumerate(augmented):
                    top = None
                    if sparse is not None:
                        top = labels.Sparse(sparse.classes[row], sparse.values[row])
                    crc = codec.checksum(image)
                    writer.write(records.Record(sample, int(chunk_labels[row]), crc, jpeg, top))
        if not tally.images:
            temporary.write_bytes(b"")
        shard = tally.shard(file.name, temporary)
    description = shard.model_dump(mode="json", by_alias=True)
    files.write_atomically(context.folder / f"{job.stem}.json", json.dumps(description, indent=1))
    return len(samples), seconds


def _augmented(
    context: Replay, split: str, samples: range, tally: _Tally
) -> Iterator[tuple[int, Image.Image, bytes | None]]:
    """(sample, image as it will be read, its JPEG if stored) of every sample that can be made."""
    for sample in samples:
        try:
            image = context.augmented(split, sample)
        except codec.BadImage as error:
            location = context.images_of(split).location(context.image_of(split, sample))
            tally.skip(location, str(error))
            continue
        yield sample, *as_stored(image, context.request.jpeg_quality)


def as_stored(image: Image.Image, quality: int | None) -> tuple[Image.Image, bytes | None]:
    """An image as students will read it, which is what the teacher gets too.

    Args:
      image: RGB image of the size of the data set.
      quality: JPEG quality; None where only seeds are stored.

    Returns:
      The image, and its JPEG if it is stored. Source: the paper, appendix H.
    """
    if quality is None:
        return image, None
    jpeg = codec.encode(image, quality)
    return codec.decode_jpeg(jpeg, "JPEG"), jpeg


class _Tally:
    """Statistics of a shard; sums run in the order of the images, so they are reproducible."""

    def __init__(self, classes: int):
        self.images = self._agree = self._labelled = 0
        self._skipped: list[Skipped] = []
        self._mass = np.zeros(classes)
        self._entropy = np.zeros(ENTROPY_BINS, np.int64)
        self._rest = self._lost = self._sum = self._squares = 0.0

    def skip(self, location: str, reason: str) -> None:
        self._skipped.append(Skipped(location=location, reason=reason))

    def add(
        self,
        images: list[Image.Image],
        known: np.ndarray,
        probabilities: np.ndarray | None,
        sparse: labels.Sparse | None,
    ) -> None:
        self.images += len(images)
        for image in images:
            pixels = codec.to_array(image).astype(np.int64)
            self._sum += int(pixels.sum()) / 255
            self._squares += int((pixels * pixels).sum()) / 255**2
        self._labelled += int((known >= 0).sum())
        if probabilities is None or sparse is None:
            np.add.at(self._mass, known[known >= 0], 1)
            return
        self._mass += probabilities.astype(np.float64).sum(0)
        self._agree += int((probabilities.argmax(1) == known).sum())
        bins = np.minimum(
            (labels.entropy(probabilities) * ENTROPY_BINS).astype(int), ENTROPY_BINS - 1
        )
        np.add.at(self._entropy, np.maximum(bins, 0), 1)
        self._rest += float(labels.rest_mass(sparse).sum())
        self._lost += float(labels.lost_nats(probabilities, sparse).sum())

    def shard(self, name: str, file: pathlib.Path) -> Shard:
        content = file.read_bytes()
        return Shard(
            file=name,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            images=self.images,
            skipped=tuple(self._skipped),
            class_mass=tuple(self._mass.tolist()),
            entropy=tuple(self._entropy.tolist()),
            rest_mass=self._rest,
            lost_nats=self._lost,
            agree=self._agree,
            labelled=self._labelled,
            pixel_sum=self._sum,
            pixel_squares=self._squares,
        )
