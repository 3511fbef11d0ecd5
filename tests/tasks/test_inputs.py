"""From uint8 images to the input of a network, by closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from nas.tasks.inputs import adversarial, flip, noisy, normalise


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


def test_noise_has_the_deviation_and_no_mean() -> None:
    x = jnp.full((50, 8, 8, 3), 2.0)
    got = np.asarray(noisy(x, 0.3, jax.random.key(0))) - 2
    deviations = 4 / np.sqrt(got.size)
    assert abs(got.mean()) < 0.3 * deviations and abs(got.std() / 0.3 - 1) < deviations
    np.testing.assert_array_equal(noisy(x, 0.0, jax.random.key(0)), x)


def test_adversarial_pixels_move_by_epsilon_where_the_loss_grows() -> None:
    """The loss is w . x: each pixel moves by the sign of its weight, and is a constant then."""
    weights = jnp.array([[1.5, -2.0, 0.0]])
    x = jnp.array([[0.5, 0.5, 0.5]])
    got = adversarial(lambda x: (weights * x).sum(), x, 0.1)
    np.testing.assert_allclose(got, [[0.6, 0.4, 0.5]], atol=1e-6)
    slope = jax.grad(lambda x: adversarial(lambda y: (y**2).sum(), x, 0.1).sum())(x)
    np.testing.assert_array_equal(slope, 0)
