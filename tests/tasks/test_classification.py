"""Classification: targets, loss and quality, by closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.data.dataset import Examples, Split
from nas.run.config import Labels
from nas.tasks.classification import (
    Classification,
    class_probabilities,
    cross_entropy,
    use_soft_labels,
)

LABELS = np.array([0, 3, 1, 2, 2, 0, 1, 3], np.int32)
IMAGES = np.zeros((8, 2, 2, 3), np.uint8)
QUARTERS = np.full((8, 4), 0.25, np.float32)


def hard_examples() -> Examples:
    return Split(IMAGES, LABELS).read(np.arange(8))


class TestTargets:
    def test_labels_are_one_hot_rows(self) -> None:
        hard = class_probabilities(hard_examples(), 5, soft=False)
        assert hard.dtype == np.float32
        np.testing.assert_array_equal(hard, np.eye(5)[LABELS])

    def test_the_teachers_probabilities_are_taken_as_they_stand(self) -> None:
        soft = Split(IMAGES, LABELS, QUARTERS).read(np.arange(8))
        np.testing.assert_array_equal(class_probabilities(soft, 4, soft=True), QUARTERS)

    def test_an_image_without_label_could_be_of_any_class(self) -> None:
        unknown = hard_examples()._replace(labels=np.full(8, -1, np.int32))
        np.testing.assert_array_equal(class_probabilities(unknown, 4, soft=False), QUARTERS)

    def test_leading_axes_are_kept(self) -> None:
        examples = Split(IMAGES, LABELS).read(np.arange(8).reshape(2, 4))
        task = Classification(4, soft=False)
        assert task.targets(examples).shape == (2, 4, 4)
        np.testing.assert_array_equal(task.reference(examples), LABELS.reshape(2, 4))


@pytest.mark.parametrize(
    ("labels", "with_teacher", "without"),
    [("auto", True, False), ("soft", True, None), ("hard", False, False)],
)
def test_which_labels_weights_learn_from(
    labels: Labels, with_teacher: bool, without: bool | None
) -> None:
    soft, hard = Split(IMAGES, LABELS, QUARTERS), Split(IMAGES, LABELS)
    assert use_soft_labels(soft, labels) is with_teacher
    assert Classification.of(soft, 4, labels, 0.1) == Classification(4, with_teacher, 0.1)
    if without is None:
        message = r"no teacher probabilities; use hard labels \(data.labels: hard\)"
        with pytest.raises(ValueError, match=message):
            use_soft_labels(hard, labels)
        with pytest.raises(ValueError, match=message):
            Classification.of(hard, 4, labels, 0.0)
    else:
        assert use_soft_labels(hard, labels) is without


class TestCrossEntropy:
    def test_of_hard_targets(self) -> None:
        p = jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
        logits = jnp.log(p) + jnp.array([[7.0], [-3.0]])
        got = cross_entropy(logits, jnp.eye(3)[jnp.array([1, 2])])
        assert got.shape == ()
        assert float(got) == pytest.approx((np.log(4) + np.log(1.25)) / 2, abs=1e-6)

    def test_of_equal_distributions_is_the_entropy(self) -> None:
        p = np.array([[0.5, 0.25, 0.25]])
        got = float(cross_entropy(jnp.log(p), jnp.asarray(p)))
        assert got == pytest.approx(1.5 * np.log(2), abs=1e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
    def test_smoothing(self, smoothing: float) -> None:
        p = np.array([0.5, 0.25, 0.125, 0.125])
        target = np.array([0.0, 1.0, 0.0, 0.0])
        q = (1 - smoothing) * target + smoothing / 4
        got = cross_entropy(jnp.log(p)[None], jnp.asarray(target)[None], smoothing)
        assert float(got) == pytest.approx(-(q * np.log(p)).sum(), abs=1e-6)
        task = Classification(4, soft=True, label_smoothing=smoothing)
        assert task.loss(jnp.log(p)[None], jnp.asarray(target)[None]) == got

    def test_its_gradient_is_softmax_minus_target(self) -> None:
        logits = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
        targets = jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
        got = jax.grad(cross_entropy)(logits, targets)
        np.testing.assert_allclose(got, (jax.nn.softmax(logits) - targets) / 2, atol=1e-6)

    def test_large_and_low_precision_logits(self) -> None:
        targets = jnp.array([[1.0, 0.0]])
        assert float(cross_entropy(jnp.array([[-1e4, 1e4]]), targets)) == pytest.approx(2e4)
        low = cross_entropy(jnp.array([[0.0, 0.0]], jnp.bfloat16), targets)
        assert low.dtype == jnp.float32 and float(low) == pytest.approx(np.log(2), abs=1e-6)


def test_quality_is_the_share_of_right_answers() -> None:
    logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 9.0, 0.0]])
    got = Classification(3, soft=False).quality(logits, jnp.array([1, 0, 1, 1]))
    assert got.dtype == jnp.float32 and float(got) == 0.75
