"""The shipped recipes, and what a recipe's options do to a training."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np
import pytest

from nas.data.dataset import Split
from nas.run import config_files
from nas.run.folder import TrainFolder
from nas.run.train_config import AverageConfig, MixConfig, RandAugmentConfig, TrainConfig
from nas.tasks.classification import Classification
from nas.training import batches, validation
from nas.training.program import TrainBatch, Training
from nas.training.record import read_summary
from nas.training.training import Trained, train

from ..searches import assert_same_bits
from .striped import CONFIG, MEAN, SPEC, STD, Interrupting, separable

ALL = CONFIG.model_copy(
    update={
        "steps": 12,
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "l2": 1e-4,
        "average": AverageConfig(decay=0.9, start=0.25, statistics=True),
        "mix": MixConfig(probability=0.5),
        "rand_augment": RandAugmentConfig(probability=0.5),
        "crop": True,
        "stochastic_depth": 0.1,
        "dropout": 0.2,
        "label_smoothing": 0.1,
        "schedule": "from-start",
        "checkpoint_every": 5,
        "evaluate_every": 4,
    }
)

# Table 9 of the paper: batch, peak rate, epochs, decay, dropout, stochastic depth, RandAugment.
TABLE_9: dict[str, tuple[Any, ...]] = {
    "mnv4-conv-s": (4096, 0.002, 9600, 0.01, 0.3, 0.0, (0.5, 2, 9), None),
    "mnv4-conv-m": (4096, 0.004, 500, 0.1, 0.2, 0.075, (0.7, 2, 15), None),
    "mnv4-hybrid-m": (16384, 0.016, 500, 0.1, 0.2, 0.075, (0.7, 2, 15), None),
    "mnv4-conv-l": (16384, 0.004, 500, 0.2, 0.2, 0.35, (1.0, 2, 15), 0.3),
    "mnv4-hybrid-l": (16384, 0.01, 500, 0.2, 0.2, 0.35, (1.0, 2, 15), 0.3),
}


@pytest.mark.parametrize("name", config_files.recipes("recipes"))
def test_every_shipped_recipe_is_valid(name: str) -> None:
    config = config_files.load(name, TrainConfig, kind="recipes")
    assert config.epochs and config.batch % config.replicas == 0


@pytest.mark.parametrize("name", TABLE_9)
def test_the_papers_table(name: str) -> None:
    c = config_files.load(name, TrainConfig, kind="recipes")
    assert c.rand_augment and c.optimizer == "adamw" and c.label_smoothing == 0.1
    augment = (c.rand_augment.probability, c.rand_augment.layers, c.rand_augment.magnitude)
    mix = c.mix.probability if c.mix else None
    found = (c.batch, c.learning_rate, c.epochs, c.weight_decay, c.dropout, c.stochastic_depth)
    assert (*found, augment, mix) == TABLE_9[name]


def test_epochs_become_steps() -> None:
    config = TrainConfig(epochs=2.5, batch=64)
    assert config.of_length(1000).steps == 40 and config.of_length(10).steps == 1
    assert TrainConfig(steps=7).of_length(1000).steps == 7


@pytest.mark.parametrize("name", ["weight_decay", "beta1", "beta2", "optimizer_epsilon"])
def test_options_of_adamw_are_refused_elsewhere_and_used_there(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: goes with optimizer adamw, got sgd"):
        TrainConfig.model_validate({name: 0.5})
    task = Classification(4, soft=False)
    states = []
    for options in ({}, {name: 0.5}):
        config = TrainConfig.model_validate({"optimizer": "adamw", "warmup": 0.0, **options})
        optimizer = Training(SPEC, config, MEAN, STD, task).optimizer
        params = Training(SPEC, config, MEAN, STD, task).init(0).params
        state = optimizer.init(params)
        updates = None
        for _ in range(3):
            updates, state = optimizer.update(params, state, params)
        states.append(jax.tree.leaves(updates)[0])
    assert (states[0] != states[1]).any()


def run(folder: pathlib.Path, config: TrainConfig, data: Split | None = None) -> Trained:
    target = TrainFolder(folder)
    held_out = separable(40, 1)

    def callbacks(training: Any) -> list[Any]:
        return [validation.Validation(training, held_out, target, 200)]

    return train(
        SPEC,
        data or separable(200, 0),
        config,
        mean=MEAN,
        std=STD,
        seed=0,
        folder=target,
        callbacks=callbacks,
    )


def test_all_options_at_once_resume_to_the_same_bits(tmp_path: pathlib.Path) -> None:
    """With an interrupt between two evaluations, and files that a checkpoint does not hold."""
    whole = run(tmp_path / "whole", ALL)
    interrupting: Any = Interrupting(separable(200, 0), 10)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "resumed", ALL, interrupting)
    resumed = run(tmp_path / "resumed", ALL)
    assert_same_bits((whole.params, whole.stats), (resumed.params, resumed.stats))
    for name in ("summary.csv", "metrics.jsonl", "best/weights.npz"):
        a, b = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "resumed"))
        if name.endswith(".npz"):
            a, b = (
                {key: value.tobytes() for key, value in np.load(tmp_path / f / name).items()}
                for f in ("whole", "resumed")
            )
        assert a == b, name


def test_training_stops_when_nothing_gets_better(tmp_path: pathlib.Path) -> None:
    config = CONFIG.model_copy(
        update={"learning_rate": 1e-9, "patience": 2, "evaluate_every": 4, "checkpoint_every": 40}
    )
    run(tmp_path, config)
    scores = [row["accuracy"] for row in read_summary(TrainFolder(tmp_path))]
    assert len(scores) == scores.index(max(scores)) + 3 < 10
    before = (tmp_path / "metrics.jsonl").read_bytes()
    run(tmp_path, config)  # again: it has stopped
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_augmented_images_depend_on_their_key_alone() -> None:
    images = separable(6, 0).images.reshape(2, 3, 8, 8, 3)
    places = np.arange(6).reshape(2, 3)
    one = batches.augmented(images, ALL, (0, 1, 5), places)
    assert one.shape == images.shape and one.dtype == np.uint8
    np.testing.assert_array_equal(batches.augmented(images, ALL, (0, 1, 5), places), one)
    assert (batches.augmented(images, ALL, (0, 1, 6), places) != one).any()
    alone = batches.augmented(images[1], ALL, (0, 1, 5), places[1])
    np.testing.assert_array_equal(alone, one[1])
    grey = batches.augmented(images[..., :1], ALL, (0, 1, 5), places)
    assert grey.shape == (2, 3, 8, 8, 1)


def test_the_average_is_that_of_its_formula(tmp_path: pathlib.Path) -> None:
    """With decay d from the start: average_1 = d * w_0 ... begins at the weights after a step."""
    config = CONFIG.model_copy(update={"steps": 3, "average": AverageConfig(decay=0.75, start=0.4)})
    task = Classification(4, soft=False)
    training = Training(SPEC, config, MEAN, STD, task)
    state = training.init(0)
    data = separable(16, 0)
    batch = TrainBatch(data.images[None], np.eye(4, dtype=np.float32)[data.labels][None])
    weights = []
    for _ in range(3):
        state, _ = training.step(state, batch, jax.random.key(0))
        weights.append(jax.tree.map(np.array, state.params))
    averaged, stats = training.average(state)
    # Step 0 is before the start (round(.4 * 3) = 1), so the average is the weights there.
    wanted = jax.tree.map(lambda a, b, c: 0.75 * (0.75 * a + 0.25 * b) + 0.25 * c, *weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), averaged, wanted)
    assert_same_bits(stats, state.stats)
