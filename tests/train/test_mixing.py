"""Mixup and CutMix of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.run.train_config import MixConfig
from nas.training.mixing import mixed


@pytest.fixture
def batch() -> tuple[jax.Array, jax.Array]:
    """Images that are constant, 1 to 4, and their classes."""
    x = jnp.broadcast_to(jnp.arange(1.0, 5.0)[:, None, None, None], (4, 16, 12, 3))
    return x, jnp.eye(4)


@pytest.mark.parametrize("switch", [0.0, 1.0], ids=["mixup", "cutmix"])
def test_images_and_targets_have_the_same_share(
    batch: tuple[jax.Array, jax.Array], switch: float
) -> None:
    x, targets = batch
    config, shares = MixConfig(probability=1.0, switch=switch), []
    run = jax.jit(lambda key: mixed(x, targets, key, config))
    for seed in range(20):
        images, q = map(np.asarray, run(jax.random.key(seed)))
        share = float(q[0, 0])
        np.testing.assert_allclose(q, share * np.eye(4) + (1 - share) * np.eye(4)[::-1], atol=1e-6)
        means = images.mean((1, 2, 3))
        np.testing.assert_allclose(
            means, share * np.arange(1, 5) + (1 - share) * np.arange(4, 0, -1), rtol=1e-5
        )
        if switch:  # a box, and nothing in between
            assert set(np.unique(images[0])) <= {1.0, 4.0}
            rows, columns = np.nonzero(images[0, :, :, 0] == 4)
            if len(rows):
                area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
                assert area == len(rows)
        else:
            assert np.ptp(images[0]) < 1e-6
        shares.append(share)
    assert 0 <= min(shares) < 0.4 and 0.6 < max(shares) <= 1


def test_a_share_of_the_batches_is_mixed(batch: tuple[jax.Array, jax.Array]) -> None:
    x, targets = batch
    run = jax.jit(lambda key: mixed(x, targets, key, MixConfig(probability=0.3, switch=0.0))[1])
    same = [np.array_equal(run(jax.random.key(seed)), targets) for seed in range(200)]
    assert 0.6 < np.mean(same) < 0.8
    never = mixed(x, targets, jax.random.key(0), MixConfig(probability=0.0))
    np.testing.assert_array_equal(never[0], x)
    np.testing.assert_array_equal(never[1], targets)
