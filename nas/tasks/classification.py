"""Image classification: class probabilities as targets, cross entropy, top-1 accuracy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from nas.data.dataset import Examples, Readable
from nas.run.config import Labels


@dataclasses.dataclass(frozen=True)
class Classification:
    """Classification of images: a `nas.tasks.base.Task`.

    Attributes:
      classes: Number of classes.
      soft: Learn from a teacher's probabilities rather than from labels.
      label_smoothing: Share of probability that is spread over all classes, 0..1.
    """

    classes: int
    soft: bool
    label_smoothing: float = 0.0

    @classmethod
    def of(
        cls, data: Readable, classes: int, labels: Labels, label_smoothing: float
    ) -> Classification:
        """The task of a training split.

        Args:
          data: Training split.
          classes: Number of classes.
          labels: "soft", "hard", or "auto": soft where the split has soft labels.
          label_smoothing: Share of probability that is spread over all classes, 0..1.

        Raises:
          ValueError: Soft labels are asked for, and the split has none.
        """
        return cls(classes, use_soft_labels(data, labels), label_smoothing)

    def targets(self, examples: Examples) -> np.ndarray:
        """See `Task`.

        Args:
          examples: Training examples.

        Returns:
          float32 [..., classes].
        """
        return class_probabilities(examples, self.classes, self.soft)

    def reference(self, examples: Examples) -> np.ndarray:
        """See `Task`.

        Args:
          examples: Held-out examples.

        Returns:
          int32 [...].
        """
        return examples.labels

    def loss(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """See `Task`.

        Args:
          outputs: Logits [b, classes].
          targets: [b, classes].

        Returns:
          [] float32.
        """
        return cross_entropy(outputs, targets, self.label_smoothing)

    def quality(self, outputs: jax.Array, reference: jax.Array) -> jax.Array:
        """See `Task`: top-1 accuracy.

        Args:
          outputs: Logits [b, classes].
          reference: [b] int32.

        Returns:
          [] float32.
        """
        return (outputs.argmax(-1) == reference).mean()


def use_soft_labels(data: Readable, labels: Labels) -> bool:
    """Whether weights learn from a teacher's probabilities.

    Args:
      data: Training split.
      labels: "soft", "hard", or "auto": soft where the split has soft labels.

    Raises:
      ValueError: Soft labels are asked for, and the split has none.
    """
    if labels == "soft" and not data.has_soft_labels:
        raise ValueError(
            "the data set has no teacher probabilities; use hard labels (data.labels: hard)"
        )
    return labels != "hard" and data.has_soft_labels


def class_probabilities(examples: Examples, classes: int, soft: bool) -> np.ndarray:
    """Targets of the loss: the teacher's probabilities, or labels as one-hot rows.

    Args:
      examples: Training examples, with any leading axes.
      classes: Number of classes.
      soft: Take the teacher's probabilities.

    Returns:
      float32 [..., classes]; uniform where a label is missing.
    """
    if soft:
        assert examples.soft_labels is not None
        return examples.soft_labels
    one_hot = np.eye(classes, dtype=np.float32)
    uniform = np.full((1, classes), 1 / classes, np.float32)
    return np.concatenate([one_hot, uniform])[examples.labels]


def cross_entropy(logits: jax.Array, targets: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy with label smoothing.

    mean over b of -sum_k q_k log softmax(logits)_k,
    q = (1 - smoothing) * targets + smoothing / classes

    Args:
      logits: [b, classes].
      targets: Class probabilities [b, classes].
      smoothing: Share of probability that is spread over all classes, 0..1.

    Returns:
      [] float32.
    """
    q = (1 - smoothing) * targets + smoothing / targets.shape[-1]
    return -(q * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1).mean()
