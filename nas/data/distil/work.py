"""One shard of a distilled data set, or of the scores that balance it: what a process or a machine is asked to do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nas.data import images as codec
from nas.data import sources
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import PARTS, Collection, Images, with_all_parts
from nas.data.distil import labels, records
from nas.data.distil.manifest import REQUEST, Request, Shard, Skipped, read_request
from nas.data.distil.teacher import Teacher
from search_spaces import yaml_io

ENTROPY_BINS = 20
ORDER = "order.npy"
"""For recipe d3: which images, in which order."""
_WITHOUT_TEACHER = 64  # images at a time


class Job(NamedTuple):
    """A shard: `number` of `shards` of a part, or of "relevance", the classifier's scores."""

    part: str
    number: int
    shards: int

    @property
    def stem(self) -> str:
        """Its files' name without suffix, e.g. "train-00003-of-00012"."""
        return f"{self.part}-{self.number:05}-of-{self.shards:05}"


class Done(NamedTuple):
    """A job that is done, and how long it took; times are not part of the data."""

    job: Job
    images: int
    seconds: float
    teacher_seconds: float


@dataclasses.dataclass(frozen=True)
class Workplace:
    """A folder with its request, and what is opened for it; one a process.

    Attributes:
      folder: of the data set.
      request: what to make.
      collection: the images, with all parts.
    """

    folder: pathlib.Path
    request: Request
    collection: Collection

    def images_of(self, part: str) -> Images:
        """The images that a part is made from."""
        return self.collection.parts["train" if part == "relevance" else part]

    @functools.cached_property
    def order(self) -> np.ndarray | None:
        """[n] numbers of the training images to use, or None for all in their order."""
        path = self.folder / ORDER
        return np.load(path, mmap_mode="r", allow_pickle=False) if self.request.balance else None

    @functools.cached_property
    def teacher(self) -> Teacher | None:
        """Opened."""
        record = self.request.teacher
        return Teacher(record, self.request.class_names) if record else None

    @functools.cached_property
    def classifier(self) -> Teacher:
        """That of the balance."""
        assert self.request.balance
        return Teacher(self.request.balance.classifier, self.request.class_names)

    def length(self, part: str) -> int:
        """Samples of a part: images times replicas."""
        if part != "train":
            return len(self.images_of(part))
        images = len(self.collection.parts["train"]) if self.order is None else len(self.order)
        return images * self.request.replicas

    def jobs(self, part: str) -> list[Job]:
        """All shards of a part."""
        count = -(-self.length(part) // self.request.shard_images)
        return [Job(part, number, count) for number in range(count)]

    def samples(self, job: Job) -> range:
        """The samples of a shard."""
        size = self.request.shard_images
        return range(job.number * size, min((job.number + 1) * size, self.length(job.part)))

    def image_of(self, part: str, sample: int) -> int:
        """The image that a sample shows: replica after replica."""
        if part != "train" or self.order is None:
            return sample % len(self.images_of(part))
        return int(self.order[sample % len(self.order)])

    def augmented(self, part: str, sample: int) -> Image.Image:
        """The image of a sample, made anew: the same on every call. Raises BadImage."""
        request, images = self.request, self.images_of(part)
        recipe = RECIPES[request.recipe if part == "train" else "plain"]
        key = (request.seed, PARTS.index(part), sample & 0xFFFFFFFF, sample >> 32)

        def open_sample(place: int) -> Image.Image:
            return images.open(self.image_of(part, place))

        partners = self.length(part) // request.replicas if part == "train" else len(images)
        return replay(recipe, open_sample, sample % partners, partners, request.size, key)


@functools.lru_cache(maxsize=2)
def workplace(folder: pathlib.Path) -> Workplace:
    """The workplace of a folder that holds a request.

    Raises:
      ValueError: the source is not what it was when the request was made.
    """
    request = read_request(folder)
    try:
        opened = sources.open_collection(request.source)
    except ValueError as error:
        raise ValueError(
            f"{error}; {folder} is made from it: if it was moved, say where to as `source` in {folder / REQUEST}"
        ) from None
    collection = with_all_parts(opened, request.held_out, request.seed)
    if collection.fingerprint != request.source_fingerprint:
        raise ValueError(
            f"source {request.source}: has changed since {folder} was begun (fingerprint "
            f"{collection.fingerprint[:12]}, was {request.source_fingerprint[:12]}); bring it back or use another --out"
        )
    return Workplace(folder, request, collection)


def pixels(folder: pathlib.Path, part: str, record: records.Record, place: str) -> np.ndarray:
    """uint8 [h, w, 3] of a record: decoded, or augmented again from its seed.

    Args:
      folder: of the data set.
      part: of the record.
      record: one.
      place: what messages call it.

    Raises:
      ValueError: a replayed image is not the one that the teacher saw. (Of a decoded one only `verify` asks.)
    """
    if record.jpeg is not None:
        return codec.to_array(codec.decode_jpeg(record.jpeg, place))
    image = workplace(folder).augmented(part, record.sample)
    if codec.checksum(image) != record.crc:
        raise ValueError(
            f"{place}: comes out different from what the teacher saw: its source has changed, or this version of "
            "Pillow augments otherwise (the manifest names the one used)"
        )
    return codec.to_array(image)


def is_done(folder: pathlib.Path, job: Job) -> bool:
    """Whether a job's files are there and whole: the description is written last, and names the other's size."""
    if job.part == "relevance":
        return (folder / f"{job.stem}.npy").exists()
    description = folder / f"{job.stem}.json"
    if not description.exists():
        return False
    shard = read_shard(description)
    file = folder / shard.file
    return not shard.images or (file.exists() and file.stat().st_size == shard.bytes)


def read_shard(description: pathlib.Path) -> Shard:
    """A shard's description. Raises ValueError if damaged."""
    return yaml_io.validate(json.loads(description.read_text(encoding="utf-8")), Shard, str(description))


def work(folder: pathlib.Path, job: Job) -> Done:
    """Do a job: its files appear under their names whole, or not at all.

    Raises:
      ValueError: the source or a teacher does not fit, or the disk is full.
    """
    place, begun = workplace(folder), time.perf_counter()
    try:
        if job.part == "relevance":
            images, seconds = _relevance(place, job)
        else:
            images, seconds = _shard(place, job)
    except OSError as error:
        raise ValueError(
            f"{error.filename or folder / job.stem}: cannot be written ({error.strerror or error}); what is complete "
            "stays valid: make room, and run the same command again"
        ) from None
    return Done(job, images, time.perf_counter() - begun, seconds)


def _relevance(place: Workplace, job: Job) -> tuple[int, float]:
    images, samples, seconds = place.images_of(job.part), place.samples(job), 0.0
    scores = np.full((len(samples), len(place.request.class_names)), np.nan, np.float32)
    for start in range(0, len(samples), place.classifier.spec.batch):
        opened = []
        for row, sample in enumerate(samples[start : start + place.classifier.spec.batch], start):
            try:
                opened.append((row, images.open(sample)))
            except codec.BadImage:  # the manifest lists it as unreadable
                continue
        if opened:
            begun = time.perf_counter()
            scores[[row for row, _ in opened]] = place.classifier([image for _, image in opened])
            seconds += time.perf_counter() - begun
    with _whole(place.folder / f"{job.stem}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, scores, allow_pickle=False)
    return len(samples), seconds


def _shard(place: Workplace, job: Job) -> tuple[int, float]:
    request, tally, seconds = place.request, _Tally(place), 0.0
    file = place.folder / f"{job.stem}.array_record"
    samples = place.samples(job)
    known = place.images_of(job.part).labels
    size = place.teacher.spec.batch if place.teacher else _WITHOUT_TEACHER
    with _whole(file) as temporary:
        with records.Writer(temporary) as writer:
            for start in range(0, len(samples), size):
                made = list(_made(place, job.part, samples[start : start + size], tally))
                if not made:
                    continue
                own = np.array([known[place.image_of(job.part, sample)] for sample, _, _ in made], np.int32)
                probabilities = None
                if place.teacher:
                    begun = time.perf_counter()
                    probabilities = place.teacher([image for _, image, _ in made])
                    seconds += time.perf_counter() - begun
                sparse = labels.keep_top(probabilities, request.top_k) if probabilities is not None else None
                tally.add([image for _, image, _ in made], own, probabilities, sparse)
                for row, (sample, image, jpeg) in enumerate(made):
                    top = None if sparse is None else labels.Sparse(sparse.classes[row], sparse.values[row])
                    check = codec.checksum(image)
                    writer.write(records.Record(sample, int(own[row]), check, jpeg, top))
        if not tally.images:
            temporary.write_bytes(b"")
        shard = tally.shard(file.name, temporary)
    yaml_io.write_atomically(place.folder / f"{job.stem}.json", json.dumps(shard.model_dump(mode="json"), indent=1))
    return len(samples), seconds


def _made(
    place: Workplace, part: str, samples: range, tally: _Tally
) -> Iterator[tuple[int, Image.Image, bytes | None]]:
    """(sample, the image as a reader will see it, its JPEG if it is stored) of those that can be made."""
    for sample in samples:
        try:
            image = place.augmented(part, sample)
        except codec.BadImage as error:
            tally.skip(place.images_of(part).place(place.image_of(part, sample)), str(error))
            continue
        jpeg = None
        if place.request.storage == "jpeg":
            jpeg = codec.encode(image, place.request.quality)
            # the teacher sees what students will see. Source: the paper, appendix H
            image = codec.decode_jpeg(jpeg, part)
        yield sample, image, jpeg


class _Tally:
    """What a shard's description says about its images; sums in the order of the images, so always the same."""

    def __init__(self, place: Workplace):
        classes = len(place.request.class_names)
        self.images = self._agree = self._labelled = 0
        self._skipped: list[Skipped] = []
        self._mass, self._entropy = np.zeros(classes), np.zeros(ENTROPY_BINS, np.int64)
        self._rest = self._lost = self._sum = self._squares = 0.0

    def skip(self, place: str, reason: str) -> None:
        self._skipped.append(Skipped(place=place, reason=reason))

    def add(self, images: list[Image.Image], known: np.ndarray, probabilities: np.ndarray | None, sparse: Any) -> None:
        self.images += len(images)
        for image in images:
            pixels = codec.to_array(image).astype(np.int64)
            self._sum += int(pixels.sum()) / 255
            self._squares += int((pixels * pixels).sum()) / 255**2
        self._labelled += int((known >= 0).sum())
        if probabilities is None:
            np.add.at(self._mass, known[known >= 0], 1)
            return
        self._mass += probabilities.astype(np.float64).sum(0)
        self._agree += int((probabilities.argmax(1) == known).sum())
        bins = np.minimum((labels.entropy(probabilities) * ENTROPY_BINS).astype(int), ENTROPY_BINS - 1)
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


@contextlib.contextmanager
def _whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """What is written to the file that this gives becomes `path` in one step, or nothing does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
