"""Trial of a teacher: its answers to a few images are compared with its YAML, before any is kept.

What contradicts the YAML is an error with the line to change, what is doubtful is a note that stays
with the data. Letters: n images, k classes, o outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from nas.data import codec, sources
from nas.data.augment.recipes import RECIPES, replay
from nas.data.collection import Images, with_all_splits
from nas.data.decode import threads
from nas.data.distilled import labels as soft
from nas.data.distilled.manifest import Request, TeacherRecord
from nas.data.order import permuted
from nas.distillation import contract
from nas.distillation.shards import as_stored, open_teacher
from nas.host.progress import SILENT, Progress

IMAGES = 256
"""Images of a trial. Source: ours."""
_EACH = 4
"""Least images of a class in a trial; of many classes some are drawn."""
_CLASSES = 16
"""Classes that are drawn even if each has fewer images."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """Answers of a teacher to a sample of images that are not augmented.

    Attributes:
      name: Name of the teacher.
      class_names: Names of the classes.
      images: The n images, as the teacher saw them before it resized them.
      labels: int32 [n]; -1 without a label.
      probabilities: float32 [n, k], as they would be stored; empty where the outputs allow none.
      notes: Sentences on what is doubtful.
      contradiction: What contradicts the YAML, with the line to change; "" if nothing does.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[Image.Image, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    notes: tuple[str, ...]
    contradiction: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Agreement with the labels, certainty, and the notes."""
        found = []
        known = self.labels >= 0
        if len(self.probabilities):
            text = f"{self.name}: {len(self.labels)} images tried"
            if known.any():
                right = int((self.probabilities.argmax(1) == self.labels)[known].sum())
                count = int(known.sum())
                text += f"; agrees with {right} of {count} labels ({right / count:.1%})"
            entropy = soft.entropy(self.probabilities).mean()
            found.append(
                f"{text}; entropy {entropy:.1%} of the largest possible, mean largest probability "
                f"{self.probabilities.max(1).mean():.3f}"
            )
        return (*found, *self.notes)

    def accept(self) -> tuple[str, ...]:
        """The notes.

        Raises:
          ValueError: Something contradicts the YAML.
        """
        if self.contradiction:
            raise ValueError(self.contradiction)
        return self.notes


def try_all(request: Request, *, count: int = IMAGES, progress: Progress = SILENT) -> list[Trial]:
    """Try the teachers of a request on training images of its source.

    Args:
      request: Parameters of a distilled data set.
      count: Largest number of images for each.
      progress: Receives the number of images that are done.

    Returns:
      The trial of the teacher, and of the classifier of recipe d3 where it is another one.

    Raises:
      ValueError: As `try_teacher`.
    """
    records = [request.teacher, request.balance and request.balance.classifier]
    raw = with_all_splits(sources.open_collection(request.source), request.held_out, request.seed)
    return [
        try_teacher(
            record,
            raw.splits["train"],
            request.class_names,
            request.size,
            quality=request.jpeg_quality,
            count=count,
            seed=request.seed,
            progress=progress,
        )
        for record in dict.fromkeys(record for record in records if record)
    ]


def try_teacher(
    record: TeacherRecord,
    images: Images,
    class_names: Sequence[str],
    size: int,
    *,
    quality: int | None = 95,
    count: int = IMAGES,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Trial:
    """Try a teacher on a sample of images, as many of each class, and judge its answers.

    Args:
      record: Reference to the teacher.
      images: Training images of the source.
      class_names: Names of the classes.
      size: Side of the images of the data set in pixels.
      quality: JPEG quality of the data set; None if it stores seeds.
      count: Largest number of images.
      seed: Random seed of the sample.
      progress: Receives the number of images that are done.

    Returns:
      The trial, with its judgement.

    Raises:
      ValueError: The teacher cannot be opened, fails, or no image can be read.
    """
    try:
        teacher = open_teacher(record, tuple(class_names))
    except ValueError:
        # Wrong units are the reason where a quantised input cannot take such numbers.
        if wrong := contract.units(record.spec)[0]:
            raise ValueError(f"{record.text}: {wrong}") from None
        raise
    shown, known = _open(images, sample(images.labels, count, seed), size, quality, seed)
    chunks = []
    for start in range(0, len(shown), teacher.spec.batch):
        chunks.append(teacher.raw(shown[start : start + teacher.spec.batch]))
        progress.update(min(start + teacher.spec.batch, len(shown)), "images")
    raw = np.concatenate(chunks)
    verdict = contract.judge(teacher, shown, known, raw, class_names)
    return Trial(
        record.spec.name,
        tuple(class_names),
        tuple(shown),
        known,
        verdict.probabilities,
        tuple(f"teacher {record.spec.name}: {note}" for note in verdict.notes),
        f"{record.text}: {verdict.contradiction}" if verdict.contradiction else "",
    )


def sample(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of a random sample with as many images of each class as there are.

    Where the classes are so many that each would have fewer than four images, some are drawn.

    Args:
      labels: int [n], -1 without a label.
      count: Size of the sample.
      seed: Random seed.

    Returns:
      int64 [at most count], one image of each class after the other.
    """
    order = permuted(np.arange(len(labels)), len(labels), [seed])
    classes = np.unique(labels)
    most = max(count // _EACH, _CLASSES)
    if len(classes) > most:
        drawn = classes[permuted(np.arange(most), len(classes), [seed, 1])]
        order = order[np.isin(labels[order], drawn)]
    # Rank of each image among those of its class.
    grouped = np.argsort(labels[order], kind="stable")
    sorted_labels = labels[order][grouped]
    rank = np.empty(len(order), np.int64)
    rank[grouped] = np.arange(len(order)) - np.searchsorted(sorted_labels, sorted_labels)
    return order[np.argsort(rank, kind="stable")][:count]


def _open(
    images: Images, positions: np.ndarray, size: int, quality: int | None, seed: int
) -> tuple[list[Image.Image], np.ndarray]:
    """The images that can be read, as they will be stored, and their labels."""

    def opened(position: int) -> Image.Image | str:
        try:
            image = replay(
                RECIPES["plain"], images.open, position, len(images), size, (seed, position)
            )
        except codec.BadImage as error:
            return str(error)
        return as_stored(image, quality)[0]

    found = list(threads().map(opened, positions.tolist()))
    shown = [image for image in found if not isinstance(image, str)]
    if not shown:
        raise ValueError(f"no image of a sample of {len(found)} can be read; first: {found[0]}")
    readable = [not isinstance(image, str) for image in found]
    return shown, np.asarray(images.labels)[positions[readable]]
