"""Class-balanced choice of images: most relevant first, images of rare classes repeated.

Source: the paper's D3 (section 5.4): 130,000 images a class out of JFT-300M, those to which
EfficientNet-B0 gives the class more than 0.3, the most relevant first, images of rare classes
repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def select(
    relevance: np.ndarray, per_class: int, threshold: float, class_names: Sequence[str]
) -> np.ndarray:
    """Choose the same number of images for every class.

    An image belongs to its most probable class if that class is more probable than the threshold.

    Args:
      relevance: float32 [n, classes], probabilities from the classifier; rows with NaN (images that
        cannot be read) are left out.
      per_class: Number of images of each class.
      threshold: Probability 0..1.
      class_names: Names of the classes, for messages.

    Returns:
      int64 [classes * per_class], numbers of the images, class after class.

    Raises:
      ValueError: No image belongs to a class.
    """
    scores = np.where(np.isnan(relevance).any(1, keepdims=True), -1, relevance)
    best = scores.argmax(1)
    score = scores.max(1)
    chosen = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero((best == label) & (score > threshold))
        if not len(members):
            highest = scores[:, label].max(initial=0)
            raise ValueError(
                f"class {name!r}: no image has it as its most probable class with more than "
                f"{threshold:g} (the highest probability is {max(highest, 0):.3f}); lower "
                "`threshold`, or add images"
            )
        ranked = members[np.argsort(-score[members], kind="stable")]
        chosen.append(np.resize(ranked, per_class))
    return np.concatenate(chosen)
