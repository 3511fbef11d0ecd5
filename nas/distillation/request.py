"""From parameters to the request of a distilled data set."""

from __future__ import annotations

from nas.data import codec, door, sources
from nas.data.augment.recipes import RECIPES
from nas.data.collection import Images, with_all_splits
from nas.data.distilled.manifest import Request, Storage
from nas.distillation import teacher as teachers
from search_spaces import yaml_io

_SIZE_MAX = 224
"""Largest side of the images in pixels where no size is given. Source: ours."""


def build_request(
    source: str,
    *,
    teacher: str | None = None,
    teacher_config: str | None = None,
    recipe: str = "d1",
    replicas: int = 1,
    size: int | None = None,
    storage: Storage = "jpeg",
    quality: int = 95,
    top_k: int = 16,
    per_class: int | None = None,
    threshold: float = 0.3,
    relevance: str | None = None,
    relevance_config: str | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    shard_images: int = 1024,
) -> tuple[Request, int]:
    """Open a source, read the YAML of its teachers, and combine them to a request.

    Args:
      source: Source of the images, see `nas.data.sources`.
      teacher: Teacher, e.g. "onnx:FILE", see `nas.distillation.teacher`; None for labels only.
      teacher_config: Path of its YAML; by default beside it, with the suffix .yaml.
      recipe: Key of `nas.data.augment.recipes.RECIPES`.
      replicas: Number of augmented versions of each training image.
      size: Side of the images in pixels; by default the shorter side of the first image that can be
        read, at most 224.
      storage: "jpeg" stores the augmented images, "seeds" only the seeds that reproduce them.
      quality: JPEG quality, 1..100.
      top_k: Number of probabilities kept of each image, at most the number of classes.
      per_class: Number of images of each class, for recipe d3; by default the average of the
        source.
      threshold: Probability above which an image counts for its class, for recipe d3.
      relevance: Classifier that scores the relevance of images, for recipe d3; by default the
        teacher.
      relevance_config: Path of its YAML; by default beside it, with the suffix .yaml.
      held_out: Held-out share for missing splits, see `nas.data.collection.with_all_splits`.
      seed: Random seed.
      shard_images: Number of images in a shard.

    Returns:
      The request, and the number of samples to process for it.

    Raises:
      ValueError: A parameter is out of range, the source or a teacher does not fit, or the source
        has fewer than two classes.
    """
    source_name = sources.absolute(source)
    opened = sources.open_collection(source_name)
    door.say(door.notes(opened))
    raw = with_all_splits(opened, held_out, seed)
    record = teachers.describe(teacher, teacher_config) if teacher else None
    names = raw.class_names or (record and record.spec.class_names) or ()
    train = raw.splits["train"]
    classes = len(names)
    balance = None
    if RECIPES.get(recipe).balances:
        classifier = teachers.describe(relevance, relevance_config) if relevance else record
        if classifier is None:
            raise ValueError(
                f"recipe {recipe} needs a classifier that scores relevance: give `relevance` or "
                "`teacher`"
            )
        balance = {
            "per_class": per_class or max(round(len(train) / max(classes, 1)), 1),
            "threshold": threshold,
            "classifier": classifier,
        }
    if classes < 2:
        raise ValueError(
            f"source {source}: has {classes} classes, expected at least 2; give one folder for "
            "each class, or a teacher whose YAML says `class_names:`"
        )
    fields = {
        "source": source_name,
        "source_fingerprint": raw.fingerprint,
        "class_names": names,
        "teacher": record,
        "recipe": recipe,
        "balance": balance,
        "replicas": replicas,
        "size": size or min(_SIZE_MAX, *_first_size(train)),
        "storage": storage,
        "quality": quality,
        "top_k": min(top_k, classes),
        "held_out": held_out,
        "seed": seed,
        "shard_images": shard_images,
    }
    request = yaml_io.validate(fields, Request, "distilled data set")
    images = {split: len(split_images) for split, split_images in raw.splits.items()}
    total = request.balance.per_class * classes if request.balance else images["train"]
    total = total * replicas + images["validation"] + images["test"]
    if request.balance:
        # The classifier scores every training image once.
        total += images["train"]
    return request, total


def _first_size(images: Images) -> tuple[int, int]:
    """(width, height) of the first image that can be read."""
    last = "there is none"
    for index in range(len(images)):
        try:
            return images.open(index).size
        except codec.BadImage as error:
            last = str(error)
    raise ValueError(f"no training image can be read; the last: {last}")
