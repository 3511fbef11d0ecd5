"""Training of a frozen network on data that a few steps can learn."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from nas.data.dataset import Split
from nas.run.config import Labels, TrainConfig
from nas.train.loop import Trained, targets_of, teaches, train
from search_spaces import ArchSpec, yaml_io

MEAN, STD = 0.5, 0.25

CONFIG = TrainConfig(steps=40, batch=16, learning_rate=0.2, labels="hard", norm_momentum=0.8)

SPEC = yaml_io.parse_model(
    """
name: tiny
resolution: 8
blocks:
- {kind: conv, filters: 8, stride: 2}
- {kind: uib, filters: 8, expansion: 2.0}
- {kind: pool}
- {kind: classifier, classes: 4, dropout: 0.1}
""",
    ArchSpec,
    "tiny",
)


def separable(count: int, seed: int) -> Split:
    """Noise, with a bright stripe: class = 2 * (vertical) + (colour is blue, else red)."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 4).astype(np.int32)
    images = rng.integers(60, 160, (count, 8, 8, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        place = rng.integers(1, 7)
        stripe = image[:, place] if label // 2 else image[place]
        stripe[:, 2 * (label % 2)] = 255
    return Split(images, labels, np.eye(4, dtype=np.float32)[labels])


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(SPEC, separable(200, 0), CONFIG, mean=MEAN, std=STD, seed=0)


def test_it_learns(trained: Trained) -> None:
    """Chance is .25; images that it has not seen."""
    assert trained.accuracy(separable(100, 1)) > 0.9


def test_predictions_are_probabilities_whatever_the_count(trained: Trained) -> None:
    images = separable(37, 2).images  # not a multiple of the batch
    p = trained.predict(images)
    assert p.shape == (37, 4) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([trained.predict(images[:16]), trained.predict(images[16:])]), p, atol=1e-6
    )
    np.testing.assert_allclose(trained.predict(images[:1]), p[:1], atol=1e-6)


def test_same_seed_same_result_bit_for_bit(trained: Trained) -> None:
    """And data as a function of the step are the same as the split that it reads."""
    again = train(SPEC, separable(200, 0), CONFIG, mean=MEAN, std=STD, seed=0)
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.stats), (trained.params, trained.stats))


def test_another_seed_another_result(trained: Trained) -> None:
    data = separable(16, 0).read(np.arange(16))
    shown: list[tuple[int, dict[str, float]]] = []
    other = train(
        SPEC,
        lambda step: (data.images, targets_of(data, 4, soft=True)),
        CONFIG.model_copy(update={"steps": 2}),
        mean=MEAN,
        std=STD,
        seed=1,
        progress=lambda step, values: shown.append((step, values)),
    )
    assert (
        np.asarray(other.params["blocks"][0]["conv"]["kernel"]) != trained.params["blocks"][0]["conv"]["kernel"]
    ).any()
    assert [step for step, _ in shown] == [2]
    assert np.isfinite(shown[0][1]["loss"]) and shown[0][1]["images_per_second"] > 0


def test_a_loss_that_is_not_finite_stops_with_its_steps() -> None:
    data = separable(16, 0).read(np.arange(16))
    broken = np.full((16, 4), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match=r"the loss is nan between steps 25 and 49"):
        train(
            SPEC,
            lambda step: (data.images, broken if step >= 30 else targets_of(data, 4, soft=False)),
            CONFIG.model_copy(update={"steps": 60}),
            mean=MEAN,
            std=STD,
            seed=0,
        )


def test_targets() -> None:
    data = separable(8, 0).read(np.arange(8))
    hard = targets_of(data, 5, soft=False)
    assert hard.dtype == np.float32
    np.testing.assert_array_equal(hard.argmax(-1), data.labels)
    np.testing.assert_array_equal(hard.sum(-1), 1)
    assert hard.shape == (8, 5)
    soft = Split(data.images, data.labels, np.full((8, 4), 0.25, np.float32))
    np.testing.assert_array_equal(targets_of(soft.read(np.arange(8)), 4, soft=True), 0.25)
    unknown = data._replace(labels=np.full(8, -1, np.int32))
    np.testing.assert_array_equal(targets_of(unknown, 4, soft=False), 0.25)


@pytest.mark.parametrize(
    ("labels", "taught", "plain"), [("auto", True, False), ("soft", True, None), ("hard", False, False)]
)
def test_whom_weights_learn_from(labels: Labels, taught: bool, plain: bool | None) -> None:
    data = separable(8, 0)
    soft = Split(data.images, data.labels, np.full((8, 4), 0.25, np.float32))
    assert teaches(soft, labels) is taught
    without = Split(data.images, data.labels)
    if plain is None:
        with pytest.raises(ValueError, match=r"no teacher probabilities; use hard labels \(data.labels: hard\)"):
            teaches(without, labels)
    else:
        assert teaches(without, labels) is plain
