"""Normalisation, flips and the loss, by closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.train.loss import cross_entropy, flip, normalise


def test_normalise() -> None:
    images = jnp.array([[0, 51], [102, 255]], jnp.uint8)
    got = normalise(images, 0.2, 0.5)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [[-0.4, 0.0], [0.4, 1.6]], atol=1e-6)


def test_flips_mirror_whole_images_exactly() -> None:
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (200, 3, 4, 2)), jnp.uint8)
    flipped = np.asarray(flip(images, jax.random.key(0)))
    assert flipped.dtype == np.uint8
    kept = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 70 < mirrored.sum() < 130  # 100 +- 4.2 deviations
    np.testing.assert_array_equal(flip(images, jax.random.key(0)), flipped)
    assert (np.asarray(flip(images, jax.random.key(1))) != flipped).any()


def test_cross_entropy_of_hard_targets() -> None:
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])) + jnp.array([[7.0], [-3.0]])
    got = cross_entropy(logits, jnp.eye(3)[jnp.array([1, 2])])
    assert got.shape == () and float(got) == pytest.approx((np.log(4) + np.log(1.25)) / 2, abs=1e-6)


def test_cross_entropy_of_equal_distributions_is_the_entropy() -> None:
    p = np.array([[0.5, 0.25, 0.25]])
    assert float(cross_entropy(jnp.log(p), jnp.asarray(p))) == pytest.approx(1.5 * np.log(2), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
def test_smoothing(smoothing: float) -> None:
    p = np.array([0.5, 0.25, 0.125, 0.125])
    target = np.array([0.0, 1.0, 0.0, 0.0])
    q = (1 - smoothing) * target + smoothing / 4
    got = cross_entropy(jnp.log(p)[None], jnp.asarray(target)[None], smoothing)
    assert float(got) == pytest.approx(-(q * np.log(p)).sum(), abs=1e-6)


def test_its_gradient_is_softmax_minus_target() -> None:
    logits = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    targets = jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    got = jax.grad(cross_entropy)(logits, targets)
    np.testing.assert_allclose(got, (jax.nn.softmax(logits) - targets) / 2, atol=1e-6)


def test_large_and_low_precision_logits() -> None:
    targets = jnp.array([[1.0, 0.0]])
    assert float(cross_entropy(jnp.array([[-1e4, 1e4]]), targets)) == pytest.approx(2e4)
    low = cross_entropy(jnp.array([[0.0, 0.0]], jnp.bfloat16), targets)
    assert low.dtype == jnp.float32 and float(low) == pytest.approx(np.log(2), abs=1e-6)
