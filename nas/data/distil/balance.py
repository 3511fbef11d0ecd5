"""Class-balanced choice of images: as many of each class, the most relevant first, rare classes repeated.

Source: the paper's D3 (section 5.4): 130,000 images a class out of JFT-300M, those to which EfficientNet-B0 gives the
class more than 0.3, the most relevant first, images of rare classes repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def select(relevance: np.ndarray, per_class: int, threshold: float, class_names: Sequence[str]) -> np.ndarray:
    """Numbers of the images to use, [classes * per_class] int64, class after class.

    An image belongs to its most probable class, if that is more probable than the threshold.

    Args:
      relevance: float32 [n, classes], what the classifier says; NaN rows (images that cannot be read) are left out.
      per_class: images of each class.
      threshold: 0..1.
      class_names: for messages.

    Raises:
      ValueError: a class to which no image belongs.
    """
    scores = np.where(np.isnan(relevance).any(1, keepdims=True), -1, relevance)
    best, score = scores.argmax(1), scores.max(1)
    chosen = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero((best == label) & (score > threshold))
        if not len(members):
            highest = scores[:, label].max(initial=0)
            raise ValueError(
                f"class {name!r}: no image has it as its most probable class with more than {threshold:g} (the highest "
                f"probability is {max(highest, 0):.3f}); lower --threshold, or add images"
            )
        ranked = members[np.argsort(-score[members], kind="stable")]
        chosen.append(np.resize(ranked, per_class))
    return np.concatenate(chosen)
