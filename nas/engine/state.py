"""The data of a search step: its state, its batch, its numbers."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from nas.model.network import Arrays
from nas.run.config import Precision


class SearchState(NamedTuple):
    """Everything that a search changes; what is resumed together is saved together.

    Attributes:
      params: Weights of the supernet.
      optimizer: State of the optimiser of the weights.
      policy: State of the policies, each array with a leading axis of policies.
      step: [] int32, steps done.
    """

    params: Arrays
    optimizer: Any
    policy: Any
    step: jax.Array


class Batch(NamedTuple):
    """Images of one step, with a leading axis of replicas (r).

    Attributes:
      images: uint8 [r, b, h, w, c], training.
      targets: [r, b, ...], targets of the loss; of a classification float32 [r, b, classes].
      validation_images: uint8 [r, v, h, w, c], held out.
      validation_reference: [r, v, ...]; of a classification int32 labels [r, v].
    """

    images: Any
    targets: Any
    validation_images: Any
    validation_reference: Any


class WeightUpdate(NamedTuple):
    """A step between its weights and its policy.

    Attributes:
      state: State with the new weights.
      sampled: [r, decisions] int32, architectures that the policy sampled.
      vectors: [r, decisions] int32, the same after warm-up: the architectures that were trained.
      metrics: Scalars to log.
    """

    state: SearchState
    sampled: jax.Array
    vectors: jax.Array
    metrics: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class StepConfig:
    """Numbers that shape a step; `nas.run.config` says what they mean to a user.

    Attributes:
      steps: Length of the search.
      replicas: Architectures per step.
      batch: Training images of each.
      warmup: Fraction of the steps of operator and filter warm-up.
      delay: Fraction of the steps before the policy learns.
      policy_learning_rate: Initial learning rate of the policy.
      flip: Flip training images horizontally at random.
      mean: Mean of images / 255.
      std: Standard deviation of images / 255.
      precision: Type of activations.
      policies: 1, or the number of targets: then each policy has an equal share of the replicas and
        one target.
      l2: L2 penalty on the kernels in use.
      noise: Standard deviation of Gaussian noise on training images, in units of the pixel range.
      fgsm: Step of the fast gradient sign method on training images, in units of the pixel range.
    """

    steps: int
    replicas: int
    batch: int
    warmup: float
    delay: float
    policy_learning_rate: float
    flip: bool
    mean: float
    std: float
    precision: Precision = "float32"
    policies: int = 1
    l2: float = 0.0
    noise: float = 0.0
    fgsm: float = 0.0
