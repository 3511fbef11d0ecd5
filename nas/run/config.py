"""Configuration of every station: data, checked at the door."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from search_spaces import CoarseOptions, FineOptions, HybridOptions
from search_spaces.choice import Frozen

Positive = Annotated[int, pydantic.Field(ge=1, strict=True)]
Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
Rate = Annotated[float, pydantic.Field(gt=0)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]

Precision = Literal["float32", "bfloat16"]
Labels = Literal["auto", "soft", "hard"]

Stage = Literal["coarse", "fine", "hybrid", "one-stage"]
STAGES: Mapping[Stage, Stage | None] = {"coarse": None, "fine": "coarse", "hybrid": "fine", "one-stage": None}
"""{stage: the one whose result it starts from, None: the base}. A search without `--stage` runs the first two, as the
paper does; one-stage searches their union at once, the paper's baseline."""


class DataConfig(Frozen):
    """What the weights learn from.

    Attributes:
      source: see `nas.data.sources`: "builtin:fashion-clutter", "distilled:DIR", "imagefolder:DIR", "npz:FILE",
        "tfds:NAME", or a mixture such as "distilled:A=1 + distilled:B=2".
      labels: soft: the teacher's stored probabilities; hard: the labels, or the teacher's most likely class where an
        image has none; auto: soft where there are any.
      label_smoothing: share of probability spread over all classes.
      flip: mirror training images at random (the paper's only augmentation on its distilled set).
    """

    source: str = "builtin:fashion-clutter"
    labels: Labels = "auto"
    label_smoothing: Fraction = 0.0
    flip: bool = True


class SpaceConfig(Frozen):
    """Which networks may be: a base and the options of each stage.

    Attributes:
      base: a name (see `nas-search describe`) or a YAML file.
      classes: of the classifier; null: as the base has it.
    """

    base: str = "small-32"
    classes: Positive | None = None
    coarse: CoarseOptions = CoarseOptions()
    fine: FineOptions = FineOptions()
    hybrid: HybridOptions = HybridOptions()


Exponent = Annotated[float, pydantic.Field(lt=0)]


class RewardConfig(Frozen):
    """How held-out accuracy and cost combine: see `rewards`.

    Attributes:
      kind: which formula.
      exponent: how much a missed target weighs; one for all targets, or one for each. -0.1: TuNAS.
    """

    kind: Literal["absolute", "mnasnet-soft", "mnasnet-hard", "ridge-sweep-worst", "ridge-sweep-mean"] = "absolute"
    exponent: Exponent | Annotated[tuple[Exponent, ...], pydantic.Field(min_length=1)] = -0.1


class WeightsConfig(Frozen):
    """Optimiser of the shared weights; peak learning rate, linear warm-up over a fraction of the steps, cosine to 0.

    Attributes:
      l2: the loss gains l2 / 2 times the sum of squares of the kernels that an architecture uses. TuNAS:
        4e-5.
      clip_norm: gradients longer than this are shortened to it; null for never.
      noise: standard deviation of Gaussian noise on the training images, where 1 is white and 0 black.
      fgsm: each pixel of the training images is moved by so much (same unit) in the direction that raises the loss.
      precision: of activations. bfloat16 pays on processors that multiply it (AMX, AVX512-BF16, accelerators); the
        parameters, the optimiser and the statistics of norms are float32 always.
    """

    optimizer: Literal["sgd", "rmsprop", "adamw"] = "rmsprop"
    learning_rate: Rate = 0.165
    warmup: Fraction = 0.025
    precision: Precision = "float32"
    l2: NotNegative = 0.0
    clip_norm: Rate | None = None
    noise: NotNegative = 0.0
    fgsm: NotNegative = 0.0


class PolicyConfig(Frozen):
    """The controller.

    Attributes:
      learning_rate: first rate; "auto" rescales TuNAS's to the search, see `controller.rescaled`.
      delay: fraction of the steps before the policy learns.
      warmup: fraction of the steps of operator and filter warm-up; at most `delay`.
    """

    learning_rate: Rate | Literal["auto"] = "auto"
    delay: Fraction = 0.25
    warmup: Fraction = 0.25

    @pydantic.model_validator(mode="after")
    def _warmup_ends_before_learning(self) -> PolicyConfig:
        if self.warmup > self.delay:
            raise ValueError(f"warmup: got {self.warmup}, expected at most delay ({self.delay})")
        return self


class StepsConfig(Frozen):
    """Steps of each stage."""

    coarse: Positive = 2000
    fine: Positive = 2000
    hybrid: Positive = 2000
    one_stage: Positive = 4000

    def of(self, stage: Stage) -> int:
        """Steps of a stage."""
        return getattr(self, stage.replace("-", "_"))


class DeriveConfig(Frozen):
    """How the found architecture is taken from the trained supernet.

    By the policy: its most likely architecture, and all that differ from it in at most two decisions, are held against
    the targets; the `survivors` most likely ones within `tolerance` are scored. By random search or evolution:
    `evaluations` architectures within `tolerance` are. Scored means by the supernet, on `images` held-out images each;
    the best reward wins.
    """

    by: Literal["policy", "random", "evolution"] = "policy"
    evaluations: Positive = 128
    tolerance: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.005
    survivors: Positive = 16
    images: Positive = 2000


class SearchConfig(Frozen):
    """Size of the search: architectures a step, images each of them trains and is scored on."""

    steps: StepsConfig = StepsConfig()
    replicas: Positive = 2
    batch: Positive = 64
    validation_batch: Positive = 256
    checkpoint_every: Positive = 100


class RunConfig(Frozen):
    """A whole search: `nas-search --config`.

    Attributes:
      seed: of everything random.
      targets: "device:value[unit]" each, e.g. "pixel6-cpu:2.4ms" or "macs:200M".
      separate: a network for each target, from one supernet with a policy for each; else one network for all targets.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**31, strict=True)] = 0
    targets: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    separate: bool = False
    data: DataConfig = DataConfig()
    space: SpaceConfig = SpaceConfig()
    reward: RewardConfig = RewardConfig()
    weights: WeightsConfig = WeightsConfig()
    policy: PolicyConfig = PolicyConfig()
    search: SearchConfig = SearchConfig()
    derive: DeriveConfig = DeriveConfig()


class TrainConfig(Frozen):
    """Recipe of stand-alone training.

    Attributes:
      norm_momentum, norm_epsilon, init_variance: see `nas.model.context.LayerSettings`.
      stochastic_depth: peak rate of dropping residual branches, see `nas.model.network.drop_rates`.
      precision: see `WeightsConfig`.
    """

    steps: Positive = 2000
    batch: Positive = 64
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    learning_rate: Rate = 0.1
    warmup: Fraction = 0.05
    labels: Labels = "auto"
    label_smoothing: Fraction = 0.0
    flip: bool = True
    norm_momentum: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.97
    norm_epsilon: Rate = 1e-3
    init_variance: Rate = 2.0
    stochastic_depth: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    precision: Precision = "float32"


def config_hash(config: pydantic.BaseModel) -> str:
    """First 16 hex digits of the sha256 of the configuration's canonical JSON."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
