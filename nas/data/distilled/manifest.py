"""Request and manifest of a distilled data set: two YAML files in its folder."""

from __future__ import annotations

import pathlib
from typing import Annotated, Literal

import pydantic

from nas.data.collection import SPLITS
from search_spaces import yaml_io
from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name

REQUEST, MANIFEST = "request.yaml", "manifest.yaml"

Positive = Annotated[int, pydantic.Field(gt=0, lt=2**31, strict=True)]
Count = Annotated[int, pydantic.Field(ge=0, lt=2**63, strict=True)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
Storage = Literal["jpeg", "seeds"]


class TeacherSpec(FrozenModel):
    """Input and output conventions of a teacher: the YAML beside its file.

    Attributes:
      schema_version: Version of the format.
      name: Name in reports.
      size: Side of the square images that it takes, in pixels; images of the data set are resized.
      mean: Mean that is subtracted from pixels 0..255; one number, or one per channel.
      std: Standard deviation that divides after that; one number, or one per channel.
      layout: Axes of its input: "nhwc" [b, h, w, 3] or "nchw" [b, 3, h, w].
      resample: Method that resizes images.
      channels: Order of the channels of its input, to which mean and std belong: "rgb" or "bgr".
      output: Kind of its outputs: logits, probabilities that sum to 1, or "sigmoid": independent
        probabilities, which are divided by their sum.
      input_name: Name of the input that takes the image; "" where there is one input.
      output_name: Name of the output with the classes; "" where there is one output.
      constants: (name, number) of each other input.
      classes: Position among its outputs of each class of the data set; None if the outputs are the
        classes in order, or have the names of the classes.
      batch: Number of images evaluated at a time.
      class_names: Names of its outputs, in order, or of those in `classes`.
      class_list: File with a line for each name, in place of `class_names`, beside the YAML.
      source: Origin and licence.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: str
    size: Positive
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    layout: Literal["nhwc", "nchw"] = "nhwc"
    resample: Literal["bilinear", "bicubic"] = "bicubic"
    channels: Literal["rgb", "bgr"] = "rgb"
    output: Literal["logits", "probabilities", "sigmoid"] = "logits"
    input_name: str = ""
    output_name: str = ""
    constants: tuple[tuple[str, float], ...] = ()
    classes: tuple[Annotated[int, pydantic.Field(ge=0)], ...] | None = None
    batch: Positive = 32
    class_names: tuple[str, ...] | None = None
    class_list: str = ""
    source: str = ""

    @pydantic.field_validator("constants", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        # Pairs, unlike a dictionary, can be hashed.
        return tuple(value.items()) if isinstance(value, dict) else value

    @pydantic.model_validator(mode="after")
    def _numbers(self) -> TeacherSpec:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3):
                raise ValueError(f"{name}: got {len(values)} numbers, expected one or three")
        if min(self.std) <= 0:
            raise ValueError(f"std: got {self.std}, expected numbers > 0")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: the same output stands for two classes; list each once")
        if self.class_names is not None and self.class_list:
            raise ValueError("class_list: class_names are given too; keep one of the two")
        return self


class TeacherFile(FrozenModel):
    """A further file of a teacher.

    Attributes:
      name: Path in the folder of the teacher, or of its YAML.
      sha256: Hash of the file.
    """

    name: str
    sha256: str


class TeacherRecord(FrozenModel):
    """Reference to a teacher in a request.

    Attributes:
      text: Scheme and file as given: "onnx:FILE".
      sha256: Hash of the file, or of the weights.
      spec: Input and output conventions, with the names of a `class_list`.
      files: Further files that decide its answers, e.g. weights outside of an ONNX file.
    """

    text: str
    sha256: str
    spec: TeacherSpec
    files: tuple[TeacherFile, ...] = ()


class Balance(FrozenModel):
    """Class-balanced resampling (recipe d3).

    Attributes:
      per_class: Number of images of each class after it.
      threshold: Probability above which an image counts for its class. Source: the paper (0.3).
      classifier: Network that gives those probabilities; the paper takes a smaller one than the
        teacher.
    """

    per_class: Positive
    threshold: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.3
    classifier: TeacherRecord


class Request(FrozenModel):
    """All parameters that determine the bytes of a distilled data set.

    Attributes:
      schema_version: Version of the format.
      source: Source of the images, see `nas.data.sources`.
      source_fingerprint: Fingerprint of the source.
      class_names: Names of the classes of the source, or of the teacher if the source has none.
      teacher: Teacher; None for labels only.
      recipe: Key of `nas.data.augment.recipes.RECIPES` for training images; others use "plain".
      balance: Class-balanced resampling, or None.
      replicas: Number of augmented versions of each training image.
      size: Side of the images in pixels.
      storage: "jpeg" stores the augmented images, "seeds" only the seeds that reproduce them.
      quality: JPEG quality.
      top_k: Number of probabilities kept of each image.
      held_out: Held-out share for missing splits, see `nas.data.collection.with_all_splits`.
      seed: Random seed.
      shard_images: Number of images in a shard.
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

    @property
    def jpeg_quality(self) -> int | None:
        """JPEG quality of the stored images; None where only seeds are stored."""
        return self.quality if self.storage == "jpeg" else None


class Skipped(FrozenModel):
    """An image that could not be used.

    Attributes:
      location: File of the image, or its position in one (YAML key `place`).
      reason: Error of the decoder.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    location: Annotated[str, pydantic.Field(alias="place")]
    reason: str


class Shard(FrozenModel):
    """Description of one record file.

    Attributes:
      file: Name of the file in the folder.
      sha256: Hash of the file.
      bytes: Size of the file.
      images: Number of records in it.
      skipped: Images that could not be used.
      class_mass: Sum over its images of each class's probability (of the label, without a teacher).
      entropy: [bins] number of images whose normalised teacher entropy lies in each of equal bins.
      rest_mass: Sum of the probabilities beyond the top k.
      lost_nats: Sum over its images of the information lost beyond the top k.
      agree: Number of images whose label is the teacher's most likely class.
      labelled: Number of images that have a label.
      pixel_sum: Sum of all pixel values / 255.
      pixel_squares: Sum of their squares.
    """

    file: Name
    sha256: Sha256
    bytes: Count
    images: Count
    skipped: tuple[Skipped, ...] = ()
    class_mass: tuple[NotNegative, ...]
    entropy: tuple[Count, ...]
    rest_mass: NotNegative
    lost_nats: float
    agree: Count
    labelled: Count
    pixel_sum: NotNegative
    pixel_squares: NotNegative

    @pydantic.model_validator(mode="after")
    def _counts(self) -> Shard:
        if not self.agree <= self.labelled <= self.images:
            raise ValueError(
                f"images: got {self.images}, of which {self.labelled} labelled and {self.agree} "
                "agreed; each is at most the one before"
            )
        return self


class SplitShards(FrozenModel):
    """Shards of one split.

    Attributes:
      shards: Shards in order.
    """

    shards: tuple[Shard, ...]

    @property
    def images(self) -> int:
        """Number of records in all shards."""
        return sum(shard.images for shard in self.shards)


class Manifest(FrozenModel):
    """Description of a finished data set.

    Attributes:
      request: Request that was fulfilled.
      splits: Shards of train, validation and test (YAML key `parts`).
      mean: Mean of the training images / 255.
      std: Standard deviation of the training images / 255.
      order_sha256: Hash of the class-balanced order of images, for recipe d3.
      unreadable: Images that the classifier of recipe d3 could not be given.
      notes: Sentences on what was understood, converted, left out or is doubtful in the source.
      versions: Versions of the packages that made it, for information.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    request: Request
    splits: Annotated[dict[str, SplitShards], pydantic.Field(alias="parts")]
    mean: Annotated[float, pydantic.Field(ge=0, le=1)]
    std: Annotated[float, pydantic.Field(gt=0, le=1)]
    order_sha256: Sha256 | None = None
    unreadable: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str]

    @pydantic.model_validator(mode="after")
    def _parts(self) -> Manifest:
        if set(self.splits) != set(SPLITS):
            raise ValueError(
                f"parts: got {', '.join(self.splits) or 'none'}, expected {', '.join(SPLITS)}"
            )
        classes = len(self.request.class_names)
        files: set[str] = set()
        for name, split in self.splits.items():
            for index, shard in enumerate(split.shards):
                where = f"parts.{name}.shards[{index}]"
                if len(shard.class_mass) != classes:
                    raise ValueError(
                        f"{where}.class_mass: got {len(shard.class_mass)} numbers, expected one "
                        f"for each of the {classes} classes"
                    )
                if shard.file in files:
                    raise ValueError(f"{where}.file: {shard.file} is there twice")
                files.add(shard.file)
        if (self.request.balance is None) != (self.order_sha256 is None):
            raise ValueError("order_sha256: expected if and only if the request has a balance")
        return self


def read_request(folder: pathlib.Path) -> Request:
    """Read the request of a data set, finished or not.

    Args:
      folder: Folder of the data set.

    Returns:
      The request.

    Raises:
      ValueError: It is absent or malformed.
    """
    return yaml_io.load_model(folder / REQUEST, Request)


def read_manifest(folder: pathlib.Path) -> Manifest:
    """Read the manifest of a finished data set.

    Args:
      folder: Folder of the data set.

    Returns:
      The manifest.

    Raises:
      ValueError: It is absent or malformed.
    """
    if not (folder / MANIFEST).exists():
        if (folder / REQUEST).exists():
            problem = "is not finished; distil it again to make the missing shards"
        else:
            problem = "holds no distilled data set"
        raise ValueError(f"{folder}: {problem}")
    return yaml_io.load_model(folder / MANIFEST, Manifest)
