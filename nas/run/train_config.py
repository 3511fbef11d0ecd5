"""Recipe of stand-alone training: data, checked at the door. No JAX."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic

from nas.run.config import Fraction, Labels, NotNegative, OptimizerName, Positive, Precision, Rate
from search_spaces.frozen import FrozenModel

Decay = Annotated[float, pydantic.Field(gt=0, lt=1)]
Dropped = Annotated[float, pydantic.Field(ge=0, lt=1)]


class RandAugmentConfig(FrozenModel):
    """RandAugment of training images, see `nas.data.augment.rand_augment`.

    Attributes:
      probability: Share of the images that are augmented.
      layers: Operations on each of them, the "l" of a name such as l2m9.
      magnitude: Strength of the operations, the "m" of the name; 10 is the largest of AutoAugment.
    """

    probability: Fraction = 1.0
    layers: Positive = 2
    magnitude: Annotated[float, pydantic.Field(ge=0, le=30)] = 9.0


class MixConfig(FrozenModel):
    """Mixup and CutMix of a batch: one of the two, with the same share for all of its images.

    Attributes:
      probability: Share of the batches that are mixed.
      mixup: Both parameters of the Beta distribution of Mixup's share.
      cutmix: Both parameters of the Beta distribution of CutMix's share.
      switch: Share of the mixed batches to which CutMix is applied rather than Mixup.

    Source: the defaults are those of the paper's table 9 (Conv-L, Hybrid-L).
    """

    probability: Fraction = 0.3
    mixup: Rate = 0.8
    cutmix: Rate = 1.0
    switch: Fraction = 0.5


class AverageConfig(FrozenModel):
    """Exponential moving average of the weights, evaluated beside the raw ones.

    average = decay * average + (1 - decay) * weights after each step; before `start` it is the
    weights.

    Attributes:
      decay: Decay of a step.
      start: Fraction of the steps before the average begins.
      statistics: Whether running statistics of norms are averaged too; the paper's code does not.
    """

    decay: Decay = 0.9999
    start: Fraction = 0.0
    statistics: bool = False


class TrainConfig(FrozenModel):
    """Recipe of stand-alone training.

    Attributes:
      steps: Number of steps; not used where `epochs` is given.
      epochs: Passes over the training images; null: `steps` counts.
      batch: Images per step.
      optimizer: Name of the optimiser.
      learning_rate: Peak learning rate.
      final_learning_rate: Learning rate at the end, as a share of the peak (the "alpha" of cosine
        decay).
      warmup: Fraction of the steps over which the learning rate rises.
      schedule: "after-warmup": the cosine begins at the peak, after the warm-up (optax);
        "from-start": the cosine begins at step 0, and the warm-up rises to its value at the end of
        the warm-up (TensorFlow Model Garden).
      weight_decay: Decoupled weight decay of all weights but scales and biases of norms; null: the
        optimiser's own. AdamW only.
      beta1: Decay of AdamW's first moment.
      beta2: Decay of AdamW's second moment.
      optimizer_epsilon: Offset of AdamW's denominator.
      l2: L2 penalty on kernels: the loss gains l2 / 2 times their sum of squares.
      clip_norm: Maximum global gradient norm; null disables clipping.
      average: Moving average of the weights; null: none.
      labels: See `DataConfig`.
      label_smoothing: Share of probability that is spread over all classes.
      flip: Flip training images horizontally at random.
      crop: Take a random Inception crop of each training image, which flips it too.
      rand_augment: RandAugment of training images; null: none.
      mix: Mixup and CutMix; null: none.
      dropout: Dropout rate before the classifier; null: as the spec has it.
      norm_momentum: Decay of the running statistics of norms, see `nas.model.context.LayerConfig`.
      norm_epsilon: Variance offset of norms.
      init_variance: Variance of initial weights times fan-in.
      stochastic_depth: Peak rate of dropping residual branches, see `nas.model.network.drop_rates`.
      precision: Type of activations, see `WeightsConfig`.
      replicas: Shares of the batch; norms see their own share. Devices compute them side by side,
        and one after the other where there are more shares than devices (gradient accumulation).
      checkpoint_every: Steps between two checkpoints, where the training has a folder.
      evaluate_every: Steps between two evaluations on the validation split; null: 20 in all.
      patience: Evaluations without a better accuracy after which training stops; null: never.
    """

    steps: Positive = 2000
    epochs: Rate | None = None
    batch: Positive = 64
    optimizer: OptimizerName = "sgd"
    learning_rate: Rate = 0.1
    final_learning_rate: Fraction = 0.0
    warmup: Fraction = 0.05
    schedule: Literal["after-warmup", "from-start"] = "after-warmup"
    weight_decay: NotNegative | None = None
    beta1: Dropped = 0.9
    beta2: Decay = 0.999
    optimizer_epsilon: Rate = 1e-8
    l2: NotNegative = 0.0
    clip_norm: Rate | None = None
    average: AverageConfig | None = None
    labels: Labels = "auto"
    label_smoothing: Fraction = 0.0
    flip: bool = True
    crop: bool = False
    rand_augment: RandAugmentConfig | None = None
    mix: MixConfig | None = None
    dropout: Dropped | None = None
    norm_momentum: Decay = 0.97
    norm_epsilon: Rate = 1e-3
    init_variance: Rate = 2.0
    stochastic_depth: Dropped = 0.0
    precision: Precision = "float32"
    replicas: Positive = 1
    checkpoint_every: Positive = 500
    evaluate_every: Positive | None = None
    patience: Positive | None = None

    @pydantic.model_validator(mode="after")
    def _options_of_adamw_go_with_it(self) -> TrainConfig:
        for name in ("weight_decay", "beta1", "beta2", "optimizer_epsilon"):
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.optimizer != "adamw":
                cure = "; use l2" if name == "weight_decay" else ""
                raise ValueError(f"{name}: goes with optimizer adamw, got {self.optimizer}{cure}")
        return self

    def of_length(self, images: int) -> TrainConfig:
        """The recipe with the number of steps that its epochs mean.

        Args:
          images: Number of training images.
        """
        if self.epochs is None:
            return self
        return self.model_copy(
            update={"steps": max(math.ceil(self.epochs * images / self.batch), 1)}
        )

    @property
    def evaluation_interval(self) -> int:
        """Steps between two evaluations."""
        return self.evaluate_every or max(-(-self.steps // 20), 1)


def check_shares(config: TrainConfig) -> None:
    """Refuse a batch that the replicas cannot share.

    Args:
      config: The recipe.

    Raises:
      ValueError: The replicas do not divide the batch.
    """
    batch, count = config.batch, config.replicas
    if batch % count:
        raise ValueError(
            f"`batch`: {count} replicas share it evenly, got {batch}; "
            f"use {-(-batch // count) * count}"
        )
