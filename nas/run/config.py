"""Configuration of every station: data, checked at the door. No JAX."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core

from nas.run.optimizers import OPTIMIZERS
from nas.searchers.host import SEARCHERS
from rewards import REWARDS
from search_spaces import CoarseOptions, FineOptions, HybridOptions
from search_spaces.families import Family
from search_spaces.frozen import FrozenModel
from search_spaces.naming import Name
from search_spaces.stages import STAGES

Positive = Annotated[int, pydantic.Field(ge=1, lt=2**31, strict=True)]
Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
Rate = Annotated[float, pydantic.Field(gt=0)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**31, strict=True)]

Precision = Literal["float32", "bfloat16"]
Labels = Literal["auto", "soft", "hard"]


def _member(family: Family[Any], *more: str) -> pydantic.AfterValidator:
    """A string that names a member of a family.

    Checked against the family's own table, when it is used.
    """

    def check(value: str) -> str:
        known = (*more, *family)
        if value not in known:
            expected = ", ".join(f"'{name}'" for name in known)
            raise pydantic_core.PydanticCustomError(
                "literal_error", "expected one of {expected}", {"expected": expected}
            )
        return value

    return pydantic.AfterValidator(check)


StageName = Annotated[str, _member(STAGES)]
RewardName = Annotated[str, _member(REWARDS)]
OptimizerName = Annotated[str, _member(OPTIMIZERS)]
DerivationName = Annotated[str, _member(SEARCHERS, "policy")]


class DataConfig(FrozenModel):
    """Training data of the weights.

    Attributes:
      source: See `nas.data.load`: "builtin:fashion-clutter", "distilled:DIR", "imagefolder:DIR",
        "npz:FILE", "tfds:NAME", or a mixture such as "distilled:A=1 + distilled:B=2".
      labels: "soft": the teacher's stored probabilities; "hard": the labels, or the teacher's most
        likely class where an image has none; "auto": soft where there are any.
      label_smoothing: Share of probability that is spread over all classes.
      flip: Flip training images horizontally at random (the paper's only augmentation on its
        distilled set).
    """

    source: str = "builtin:fashion-clutter"
    labels: Labels = "auto"
    label_smoothing: Fraction = 0.0
    flip: bool = True


class SpaceConfig(FrozenModel):
    """Search space: a base network, and the options of each stage.

    Attributes:
      base: Name (see `nas-search describe`) or YAML file of the base network.
      classes: Number of classes; null: as the base has it.
      coarse: Options of the coarse stage.
      fine: Options of the fine stage.
      hybrid: Options of the hybrid stage.
    """

    base: str = "small-32"
    classes: Positive | None = None
    coarse: CoarseOptions = CoarseOptions()
    fine: FineOptions = FineOptions()
    hybrid: HybridOptions = HybridOptions()


Exponent = Annotated[float, pydantic.Field(lt=0)]


class RewardConfig(FrozenModel):
    """The reward, which combines held-out accuracy and cost: see `rewards`.

    Attributes:
      kind: Name of the formula.
      exponent: Weight of a missed target; one for all targets, or one for each. TuNAS: -0.1.
    """

    kind: RewardName = "absolute"
    exponent: Exponent | Annotated[tuple[Exponent, ...], pydantic.Field(min_length=1)] = -0.1


class WeightsConfig(FrozenModel):
    """Training of the shared weights: linear warm-up to a peak learning rate, cosine decay to 0.

    Attributes:
      optimizer: Name of the optimiser.
      learning_rate: Peak learning rate.
      warmup: Fraction of the steps over which the learning rate rises.
      precision: Type of activations. bfloat16 pays on processors that multiply it (AMX,
        AVX512-BF16, accelerators); parameters, optimiser and statistics of norms are float32
        always.
      l2: L2 penalty on the kernels in use (not on scales and biases): the loss gains l2 / 2 times
        their sum of squares. TuNAS: 4e-5.
      clip_norm: Maximum global gradient norm; null disables clipping.
      noise: Standard deviation of Gaussian noise on training images, in units of the pixel range.
      fgsm: Step of the fast gradient sign method on training images, in units of the pixel range.
    """

    optimizer: OptimizerName = "rmsprop"
    learning_rate: Rate = 0.165
    warmup: Fraction = 0.025
    precision: Precision = "float32"
    l2: NotNegative = 0.0
    clip_norm: Rate | None = None
    noise: NotNegative = 0.0
    fgsm: NotNegative = 0.0


class PolicyConfig(FrozenModel):
    """The policy that is trained with the weights.

    Attributes:
      learning_rate: Initial learning rate; "auto" scales TuNAS's to the length of the search, see
        `nas.searchers.reinforce.initial_rate_for_length`.
      delay: Fraction of the steps before the policy learns.
      warmup: Fraction of the steps of operator and filter warm-up; at most `delay`.
    """

    learning_rate: Rate | Literal["auto"] = "auto"
    delay: Fraction = 0.25
    warmup: Fraction = 0.25

    @pydantic.model_validator(mode="after")
    def _warmup_ends_before_learning(self) -> PolicyConfig:
        if self.warmup > self.delay:
            raise ValueError(f"warmup: got {self.warmup}, expected at most delay ({self.delay})")
        return self


class StepsConfig(FrozenModel):
    """Number of steps of each stage.

    Attributes:
      coarse: Steps of the coarse stage.
      fine: Steps of the fine stage.
      hybrid: Steps of the hybrid stage.
      one_stage: Steps of the one-stage search.
      custom: Steps of stages of your own, {name: steps}; default: the stage's.
    """

    coarse: Positive = STAGES["coarse"].steps
    fine: Positive = STAGES["fine"].steps
    hybrid: Positive = STAGES["hybrid"].steps
    one_stage: Positive = STAGES["one-stage"].steps
    custom: dict[StageName, Positive] = {}

    def of(self, stage: str) -> int:
        """Number of steps of a stage.

        Args:
          stage: Name of the stage.
        """
        field = stage.replace("-", "_")
        if field in type(self).model_fields and field != "custom":
            return getattr(self, field)
        return self.custom.get(stage, STAGES.get(stage).steps)


class DeriveConfig(FrozenModel):
    """Derivation of an architecture from the trained supernet.

    "policy" takes the most likely architecture and every neighbour within two swaps, and keeps the
    `survivors` most likely ones within `tolerance` of the targets. Random search and evolution keep
    `evaluations` architectures within `tolerance`. All that are kept are evaluated inside the
    supernet; the best reward wins.

    Attributes:
      by: "policy", or the name of a searcher.
      evaluations: Architectures that a searcher evaluates.
      tolerance: Largest relative miss of the targets.
      survivors: Architectures that are evaluated of those that the policy proposes.
      images: Held-out images that each is evaluated on.
    """

    by: DerivationName = "policy"
    evaluations: Positive = 128
    tolerance: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.005
    survivors: Positive = 16
    images: Positive = 2000


class SearchConfig(FrozenModel):
    """Size of the search.

    Attributes:
      steps: Number of steps of each stage.
      replicas: Architectures per step.
      batch: Images that each of them trains on in a step.
      validation_batch: Held-out images that each of them is scored on in a step.
      checkpoint_every: Steps between two checkpoints.
    """

    steps: StepsConfig = StepsConfig()
    replicas: Positive = 2
    batch: Positive = 64
    validation_batch: Positive = 256
    checkpoint_every: Positive = 100


class RunConfig(FrozenModel):
    """A whole search: `nas-search --config`.

    Attributes:
      schema_version: Version of this format.
      name: Name of the search; the default workdir is runs/NAME.
      seed: Random seed.
      targets: "device:value[unit]" each, e.g. "pixel6-cpu:2.4ms" or "macs:200M".
      separate: Find a network for each target, from one supernet with a policy for each; otherwise
        one network for all.
      data: Training data.
      space: Search space.
      reward: Reward.
      weights: Training of the shared weights.
      policy: The policy.
      search: Size of the search.
      derive: How an architecture is derived from the supernet.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    name: Name
    seed: Seed = 0
    targets: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    separate: bool = False
    data: DataConfig = DataConfig()
    space: SpaceConfig = SpaceConfig()
    reward: RewardConfig = RewardConfig()
    weights: WeightsConfig = WeightsConfig()
    policy: PolicyConfig = PolicyConfig()
    search: SearchConfig = SearchConfig()
    derive: DeriveConfig = DeriveConfig()


def config_hash(config: RunConfig) -> str:
    """First 16 hex digits of the sha256 of a configuration's canonical JSON.

    Args:
      config: The configuration.
    """
    data = config.model_dump(mode="json")
    if not data["search"]["steps"][
        "custom"
    ]:  # so that hashes of older versions stay what they were
        del data["search"]["steps"]["custom"]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
