"""What a distilled data set is asked to be, and what it is: two YAML files in its folder."""

from __future__ import annotations

import pathlib
from typing import Annotated, Literal

import pydantic

from search_spaces import yaml_io
from search_spaces.choice import Frozen

REQUEST, MANIFEST = "request.yaml", "manifest.yaml"

Positive = Annotated[int, pydantic.Field(gt=0, strict=True)]
Storage = Literal["jpeg", "seeds"]


class TeacherSpec(Frozen):
    """What a teacher wants to see and what its outputs mean: the YAML beside its file.

    Attributes:
      name: for reports.
      size: pixels of the square images that it takes; those of the data set are resized to it.
      mean, std: it sees (pixel - mean) / std of pixels 0..255; one number, or one a channel.
      layout: nhwc: [b, h, w, 3]; nchw: [b, 3, h, w].
      resample: how images are resized.
      output: whether it gives logits or probabilities.
      classes: position among its outputs of each class of the data set, in that order; without, all in their order.
      batch: images asked about at a time.
      class_names: of the classes that are kept; needed for images without labels only.
      source: where it is from, with its licence.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: str
    size: Positive
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    layout: Literal["nhwc", "nchw"] = "nhwc"
    resample: Literal["bilinear", "bicubic"] = "bicubic"
    output: Literal["logits", "probabilities"] = "logits"
    classes: tuple[Annotated[int, pydantic.Field(ge=0)], ...] | None = None
    batch: Positive = 32
    class_names: tuple[str, ...] | None = None
    source: str = ""

    @pydantic.model_validator(mode="after")
    def _numbers(self) -> TeacherSpec:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3):
                raise ValueError(f"{name}: expected one number or three, got {len(values)}")
        if min(self.std) <= 0:
            raise ValueError(f"std: got {self.std}, expected numbers > 0")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: the same output stands for two classes")
        return self


class TeacherRecord(Frozen):
    """A teacher as a data set names it.

    Attributes:
      text: scheme and file, as given: "onnx:FILE".
      sha256: of the file, or of the weights.
      spec: as it was read.
    """

    text: str
    sha256: str
    spec: TeacherSpec


class Balance(Frozen):
    """Class-balanced resampling (recipe d3).

    Attributes:
      per_class: images of each class after it.
      threshold: an image counts for its class if the classifier gives it more than this. Source: the paper (0.3).
      classifier: whose probabilities those are; the paper takes a smaller network than the teacher.
    """

    per_class: Positive
    threshold: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.3
    classifier: TeacherRecord


class Request(Frozen):
    """Everything that decides the bytes of a distilled data set.

    Attributes:
      source, source_fingerprint: the images.
      class_names: of the source, or of the teacher where the source has none.
      teacher: None: labels only.
      recipe: key of `nas.data.augment.recipes.RECIPES`, for the training part; the others are "plain".
      replicas: augmented versions of each training image.
      size: pixels of a side.
      storage: jpeg: the augmented image itself; seeds: what reproduces it from the source.
      quality: of the JPEG.
      top_k: probabilities kept of each image.
      held_out: see `nas.data.collection.with_all_parts`.
      seed: of all randomness.
      shard_images: images of a shard.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    source: str
    source_fingerprint: str
    class_names: tuple[str, ...]
    teacher: TeacherRecord | None
    recipe: str
    balance: Balance | None = None
    replicas: Positive
    size: Positive
    storage: Storage
    quality: Annotated[int, pydantic.Field(ge=1, le=100, strict=True)]
    top_k: Positive
    held_out: Annotated[float, pydantic.Field(gt=0, lt=1)]
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**31, strict=True)]
    shard_images: Positive


class Skipped(Frozen):
    """An image that could not be used, and why."""

    place: str
    reason: str


class Shard(Frozen):
    """One file of records.

    Attributes:
      file: its name in the folder.
      sha256: of its bytes.
      bytes: its size.
      images: records in it.
      skipped: images that it lacks.
      class_mass: sum over its images of each class's probability (of the label, where there is no teacher).
      entropy: [bins] images whose teacher's entropy, as a share of its largest possible, lies in each of equal bins.
      rest_mass: sum of the probabilities beyond the top k.
      lost_nats: sum of the divergence of what is kept from what the teacher said.
      agree: images whose label is the teacher's first class.
      labelled: images that have a label.
      pixel_sum, pixel_squares: over all values / 255, for mean and deviation.
    """

    file: str
    sha256: str
    bytes: int
    images: int
    skipped: tuple[Skipped, ...] = ()
    class_mass: tuple[float, ...]
    entropy: tuple[int, ...]
    rest_mass: float
    lost_nats: float
    agree: int
    labelled: int
    pixel_sum: float
    pixel_squares: float


class Part(Frozen):
    """Train, validation or test: its shards in order."""

    shards: tuple[Shard, ...]

    @property
    def images(self) -> int:
        """Records in all shards."""
        return sum(shard.images for shard in self.shards)


class Manifest(Frozen):
    """A finished data set: the request, and what came of it; `versions` of what made it are for information.

    Attributes:
      mean, std: of the training images / 255.
      order_sha256: of the balanced order of images, for recipe d3.
      unreadable: for recipe d3: images that could not be judged, and so were never chosen.
    """

    request: Request
    parts: dict[str, Part]
    mean: float
    std: float
    order_sha256: str | None = None
    unreadable: tuple[Skipped, ...] = ()
    versions: dict[str, str]


def read_request(folder: pathlib.Path) -> Request:
    """The request of a folder, finished or not."""
    return yaml_io.load_model(folder / REQUEST, Request)


def read_manifest(folder: pathlib.Path) -> Manifest:
    """The manifest of a finished data set.

    Raises:
      ValueError: absent, or not understood.
    """
    if not (folder / MANIFEST).exists():
        begun = (folder / REQUEST).exists()
        what = "is not finished; run the same nas-distill command again" if begun else "holds no distilled data set"
        raise ValueError(f"{folder}: {what}")
    return yaml_io.load_model(folder / MANIFEST, Manifest)
