"""Training of a frozen network on data that a few steps can learn."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.data.dataset import Split
from nas.run.folder import LoopFolder
from nas.run.log import read_log
from nas.run.loop import NotFinite
from nas.tasks.classification import Classification, class_probabilities
from nas.training.program import TrainBatch, Training
from nas.training.training import Trained, train

from ..searches import assert_same_bits
from .striped import CONFIG, MEAN, SPEC, STD, Interrupting, separable


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Trained]:
    """A training with a folder, and the folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    options: dict[str, Any] = {"mean": MEAN, "std": STD, "seed": 0}
    config = CONFIG.model_copy(update={"checkpoint_every": 12})
    return folder, train(SPEC, separable(200, 0), config, folder=LoopFolder(folder), **options)


@pytest.fixture(scope="module")
def trained(undisturbed: tuple[pathlib.Path, Trained]) -> Trained:
    return undisturbed[1]


def assert_same_weights(a: Trained, b: Trained) -> None:
    assert_same_bits((a.params, a.stats), (b.params, b.stats))


def test_it_learns(trained: Trained) -> None:
    """Chance is .25; images that it has not seen."""
    assert trained.accuracy(separable(100, 1)) > 0.9


def test_predictions_are_probabilities_whatever_the_count(trained: Trained) -> None:
    images = separable(37, 2).images  # not a multiple of the batch
    p = trained.predict(images)
    assert p.shape == (37, 4) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
    halves = [trained.predict(images[:16]), trained.predict(images[16:])]
    np.testing.assert_allclose(np.concatenate(halves), p, atol=1e-6)
    np.testing.assert_allclose(trained.predict(images[:1]), p[:1], atol=1e-6)


def test_the_network_holds_the_trained_weights(trained: Trained) -> None:
    images = separable(16, 2).images
    x = jnp.asarray((images / np.float32(255) - MEAN) / STD, jnp.float32)
    logits = trained.network(x, mode="running")
    np.testing.assert_allclose(jax.nn.softmax(logits), trained.predict(images), atol=1e-5)
    assert len(repr(trained)) < 200 and "40 steps" in repr(trained)


@pytest.mark.parametrize("stops", [(7,), (12, 18)], ids=str)
def test_interrupted_and_resumed_it_ends_as_an_undisturbed_one(
    undisturbed: tuple[pathlib.Path, Trained], tmp_path: pathlib.Path, stops: tuple[int, ...]
) -> None:
    config = CONFIG.model_copy(update={"checkpoint_every": 12})
    options: dict[str, Any] = {"mean": MEAN, "std": STD, "seed": 0, "folder": LoopFolder(tmp_path)}
    data = separable(200, 0)
    done = 0
    for stop in stops:
        interrupting: Any = Interrupting(data, stop - done)
        with pytest.raises(KeyboardInterrupt):
            train(SPEC, interrupting, config, **options)
        done = stop
        assert len(read_log(tmp_path / "metrics.jsonl")) == stop
    assert_same_weights(train(SPEC, data, config, **options), undisturbed[1])
    metrics = [(folder / "metrics.jsonl").read_text() for folder in (tmp_path, undisturbed[0])]
    assert metrics[0] == metrics[1]


def test_same_seed_same_result_bit_for_bit_without_a_folder(
    trained: Trained, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the data are a function of the step; and nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    again = train(SPEC, separable(200, 0), CONFIG, mean=MEAN, std=STD, seed=0)
    assert_same_weights(again, trained)
    assert list(tmp_path.iterdir()) == []


class Shown:
    """Progress that records."""

    def __init__(self) -> None:
        self.updates: list[tuple[int, str]] = []

    def update(self, step: int, text: str) -> None:
        self.updates.append((step, text))

    def message(self, text: str) -> None: ...

    def start_phase(self, name: str, total: int) -> None: ...


def steps_of(data: Split, change: Callable[[int, np.ndarray], np.ndarray]) -> Any:
    """A function from the step to the first 16 images, with changed targets."""
    examples = data.read(np.arange(16))
    targets = class_probabilities(examples, 4, soft=True)
    return lambda step: (examples.images, change(step, targets))


def test_another_seed_another_result_and_its_progress(trained: Trained) -> None:
    shown = Shown()
    data = steps_of(separable(16, 0), lambda step, targets: targets)
    other = train(SPEC, data, CONFIG, mean=MEAN, std=STD, seed=1, progress=shown)
    kernels = [one.params["blocks"][0]["conv"]["kernel"] for one in (other, trained)]
    assert (np.asarray(kernels[0]) != kernels[1]).any()
    assert [step for step, _ in shown.updates] == [10, 20, 30, 40]
    assert shown.updates[0][1].startswith("loss ") and " img/s  loss " in shown.updates[1][1]


def test_a_loss_that_is_not_finite_stops_at_its_step() -> None:
    def broken(step: int, targets: np.ndarray) -> np.ndarray:
        return targets * np.float32(np.nan) if step >= 30 else targets

    data = steps_of(separable(16, 0), broken)
    with pytest.raises(NotFinite, match=r"the loss is nan at step 30"):
        train(SPEC, data, CONFIG, mean=MEAN, std=STD, seed=0)


@pytest.fixture(scope="module")
def one() -> Training:
    """A replica of 8 images, without dropout, which differs from replica to replica."""
    return replicated(1)


@pytest.fixture(scope="module")
def two() -> Training:
    """Two of them."""
    return replicated(2)


def replicated(replicas: int) -> Training:
    head = SPEC.blocks[-1].model_copy(update={"dropout": 0.0})
    fields = {"replicas": replicas, "batch": 8 * replicas, "flip": False, "warmup": 0.0}
    config = CONFIG.model_copy(update=fields)
    task = Classification(4, soft=True)
    return Training(SPEC.with_blocks([*SPEC.blocks[:-1], head]), config, MEAN, STD, task)


def batch_of(data: Split, first: int, replicas: int) -> TrainBatch:
    examples = data.read(np.arange(first, first + 8 * replicas).reshape(replicas, 8))
    return TrainBatch(examples.images, class_probabilities(examples, 4, soft=True))


class TestReplicas:
    """Norms see the images of their own replica; the rest is a mean."""

    def test_gradient_and_running_statistics_are_the_mean(
        self, one: Training, two: Training
    ) -> None:
        """One step; the rate of the first is 0, and SGD's momentum is the gradient then."""
        data, key = separable(16, 0), one.replicas.root_key(0)
        first = jax.tree.map(np.array, one.init(0))
        both, _ = two.step(two.init(0), batch_of(data, 0, 2), key)
        each = [one.step(one.init(0), batch_of(data, 8 * r, 1), key)[0] for r in range(2)]
        for name in ("stats", "optimizer"):
            mean = jax.tree.map(lambda a, b: (a + b) / 2, *(getattr(state, name) for state in each))
            leaves = zip(*map(jax.tree.leaves, (getattr(both, name), mean)), strict=True)
            assert all(np.allclose(a, b, atol=2e-6) for a, b in leaves), name
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), both.stats, first.stats)
        assert any(jax.tree.leaves(changed))
        assert_same_bits(both.params, first.params)

    def test_two_with_the_same_images_train_as_one(self, one: Training, two: Training) -> None:
        states = [training.init(0) for training in (one, two)]
        key = one.replicas.root_key(0)
        for step in range(10):
            batch = batch_of(separable(8, step), 0, 1)
            twice = TrainBatch(*(np.concatenate([values] * 2) for values in batch))
            states = [one.step(states[0], batch, key)[0], two.step(states[1], twice, key)[0]]
        for a, b in zip(*map(jax.tree.leaves, states), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)

    def test_they_share_the_batch_evenly(self) -> None:
        config = CONFIG.model_copy(update={"replicas": 3})
        with pytest.raises(ValueError, match="`batch`: 3 replicas share it evenly, got 16; use 18"):
            train(SPEC, separable(16, 0), config, mean=MEAN, std=STD, seed=0)
