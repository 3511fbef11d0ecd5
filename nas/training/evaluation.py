"""How well class probabilities fit labels: the measures of a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from nas.data.dataset import Readable

_AT_ONCE = 4096  # images that are read at a time
_BINS = 15
_SMALLEST = 1e-12  # probabilities are clipped here, so that one wrong certainty is not infinite


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Measures of a classifier on a split.

    Attributes:
      images: Images with a label.
      accuracy: Share of the images whose most likely class is their label (top-1).
      top5: Share of the images whose label is among the five most likely classes; of fewer than
        six classes 1.
      nll: Mean negative log-likelihood of the labels, in nats.
      ece: Expected calibration error: mean over 15 equal bins of the highest probability of
        |accuracy - mean highest probability|, weighted by their images.
      confusion: [classes, classes] int64, images by label (row) and most likely class (column).

    Source of the calibration error: Guo et al. 2017 (arXiv 1706.04599).
    """

    images: int
    accuracy: float
    top5: float
    nll: float
    ece: float
    confusion: np.ndarray

    @property
    def scalars(self) -> dict[str, float]:
        """All but the confusion matrix, rounded as files keep them."""
        return {
            "accuracy": round(self.accuracy, 6),
            "top5": round(self.top5, 6),
            "nll": round(self.nll, 6),
            "ece": round(self.ece, 6),
        }

    def __repr__(self) -> str:
        return (
            f"Evaluation(accuracy {self.accuracy:.4f}, top-5 {self.top5:.4f}, nll {self.nll:.4f}, "
            f"ece {self.ece:.4f}, {self.images} images)"
        )


def measure(probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Measure class probabilities against labels.

    Args:
      probabilities: [n, classes] float, rows sum to 1.
      labels: [n] int, -1 for an image without a label, which does not count.

    Raises:
      ValueError: No image has a label.
    """
    known = labels >= 0
    p, labels = probabilities[known].astype(np.float64), labels[known]
    count, classes = p.shape
    if not count:
        raise ValueError("no image has a label, so nothing can be measured")
    best, own = p.argmax(1), p[np.arange(count), labels]
    right = best == labels
    # Of equal probabilities the label comes last, so that a constant answer is no good one.
    rank = (p >= own[:, None]).sum(1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, best), 1)
    sure = p.max(1)
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, right - sure, _BINS)
    return Evaluation(
        images=count,
        accuracy=float(right.mean()),
        top5=float((rank <= 5).mean()),
        nll=float(-np.log(np.maximum(own, _SMALLEST)).mean()),
        ece=float(np.abs(gaps).sum() / count),
        confusion=confusion,
    )


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray], data: Readable, batch: int = 1
) -> Evaluation:
    """Measure a classifier on a split.

    Processes that compute together each classify a share of the images, in whole batches: the
    probabilities do not depend on the number of processes. All of them call this, and get the same.

    Args:
      predict: From uint8 images [n, h, w, c] to class probabilities [n, classes].
      data: The split, which is read a few thousand images at a time.
      batch: Images that `predict` computes at once.

    Raises:
      ValueError: No image has a label.
    """
    processes, count = jax.process_count(), len(data)
    share = -(-count // (batch * processes)) * batch
    # Behind the last image it is read again: every batch is full, and every share has one.
    index = np.minimum(np.arange(share) + jax.process_index() * share, count - 1)
    size = max(_AT_ONCE // batch, 1) * batch
    outputs, labels = [], []
    for start in range(0, share, size):
        examples = data.read(index[start : start + size])
        outputs.append(predict(examples.images))
        labels.append(np.asarray(examples.labels, np.int32))
    both = np.concatenate(outputs), np.concatenate(labels)
    if processes > 1:
        gathered = multihost_utils.process_allgather(both)
        both = [np.asarray(part).reshape(-1, *part.shape[2:]) for part in gathered]
    probabilities, answers = (part[:count] for part in both)
    return measure(probabilities, answers)
