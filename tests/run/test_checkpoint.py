"""Checkpoints: bit-exact, whole or not at all, and never of another structure."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nas.run import optimizers
from nas.run.checkpoint import Checkpoints, load_latest
from nas.searchers.reinforce import PolicyState


class State(NamedTuple):
    """Like a search's: nested dicts with int keys, an optimiser's state, a policy, a counter."""

    params: Any
    optimizer: Any
    policy: PolicyState
    step: jax.Array


def state(step: int, optimizer: str = "rmsprop", width: int = 3) -> State:
    rng = np.random.default_rng(step)
    kernel = rng.normal(size=(2, width)).astype(np.float32)
    kernel[0, :3] = (np.nan, -0.0, 1e-42)  # what a lossy path would change
    params = {
        "blocks": {
            0: {"kernel": jnp.asarray(kernel)},
            10: {"bias": jnp.arange(3, dtype=jnp.float32) + step},
        }
    }
    policy = PolicyState(
        jnp.zeros((2, 3)) + step,
        jnp.ones((2, 3)),
        jnp.array(step, jnp.int32),
        jnp.ones(()),
        jnp.ones(()),
    )
    transform = optimizers.build(optimizer, 0.1, 10, 0.1)
    return State(params, transform.init(params), policy, jnp.array(step, jnp.int32))


def blank(like: State) -> State:
    return jax.tree.map(jnp.zeros_like, like)


def assert_same_bits(got: Any, wanted: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True
    ):
        assert a.dtype == b.dtype and a.shape == b.shape, path
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), path


def step_folders(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
def test_round_trip_is_bit_exact(tmp_path: pathlib.Path, optimizer: str) -> None:
    saved = state(7, optimizer)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest is None
        checkpoints.save(7, saved, 1.25)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest == 7
        loaded, elapsed = checkpoints.load(blank(saved))
    assert_same_bits(loaded, saved)
    assert elapsed == 1.25
    assert isinstance(loaded.policy, PolicyState) and set(loaded.params["blocks"]) == {0, 10}


def test_keeps_the_newest_two(tmp_path: pathlib.Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 5):
            checkpoints.save(step, state(step), 0.0)
    assert step_folders(tmp_path) == [2, 5]
    with Checkpoints(tmp_path) as checkpoints:
        assert_same_bits(checkpoints.load(blank(state(5)))[0], state(5))


def test_a_saved_step_is_left_alone(tmp_path: pathlib.Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5), 1.0)
        checkpoints.save(5, state(6), 2.0)
        checkpoints.save(4, state(4), 3.0)
        loaded, elapsed = checkpoints.load(blank(state(5)))
    assert_same_bits(loaded, state(5))
    assert elapsed == 1.0 and step_folders(tmp_path) == [5]


OTHER: dict[str, tuple[Any, str]] = {
    "another shape": (
        state(5, width=4),
        r"\.params\['blocks'\]\[0\]\['kernel'\] as \(2, 3\), this run needs \(2, 4\)",
    ),
    "another optimiser": (
        state(5, "adamw"),
        r"the checkpoint has \.optimizer.* as nothing, this run needs",
    ),
    "more arrays": (
        state(5)._replace(params={**state(5).params, "more": jnp.zeros(2)}),
        r"\.params\['more'\] as nothing, this run needs \(2,\)",
    ),
    "fewer arrays": (
        state(5)._replace(optimizer=optax.EmptyState()),
        r"has \.optimizer.*, this run needs nothing",
    ),
}


@pytest.mark.parametrize(("like", "message"), OTHER.values(), ids=OTHER)
def test_another_structure_is_refused(tmp_path: pathlib.Path, like: State, message: str) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5), 1.0)
        with pytest.raises(ValueError, match=message) as caught:
            checkpoints.load(like)
    assert str(tmp_path) in str(caught.value) and "give another `workdir`" in str(caught.value)


@pytest.mark.parametrize("rest", ["everything", "half", "nothing"])
def test_an_interrupted_save_is_ignored(tmp_path: pathlib.Path, rest: str) -> None:
    """A save is a temporary folder until its last rename; the process may die at any moment."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5), 1.0)
    torn = tmp_path / "10.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "5", torn)
    if rest != "everything":
        shutil.rmtree(torn / "state")
    if rest == "nothing":
        shutil.rmtree(torn)
        torn.mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 5
        assert_same_bits(checkpoints.load(blank(state(5)))[0], state(5))
        checkpoints.save(10, state(10), 2.0)  # and does not stand in the way
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 10
        assert_same_bits(checkpoints.load(blank(state(10)))[0], state(10))


def flip_a_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


DAMAGE: dict[str, Callable[[pathlib.Path], Any]] = {
    "a flipped bit": lambda step: flip_a_bit(largest_file(step / "state")),
    "half a file": lambda step: os.truncate(
        largest_file(step / "state"), largest_file(step / "state").stat().st_size // 2
    ),
    "an empty file": lambda step: os.truncate(largest_file(step / "state"), 0),
    "no state": lambda step: shutil.rmtree(step / "state"),
    "no metadata": lambda step: [path.unlink() for path in (step / "state").glob("_*")],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_gives_way_to_the_one_before(
    damage: str, tmp_path: pathlib.Path
) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5), 1.0)
        checkpoints.save(10, state(10), 2.0)
    DAMAGE[damage](tmp_path / "10")
    said: list[str] = []
    with Checkpoints(tmp_path, said.append) as checkpoints:
        loaded, elapsed = checkpoints.load(blank(state(5)))
        assert_same_bits(loaded, state(5))
        assert elapsed == 1.0
        checkpoints.save(10, state(10), 3.0)  # and does not stand in the way
    assert (
        len(said) == 1
        and said[0].startswith("checkpoint 10 is damaged (")
        and "damaged-10" in said[0]
    )
    with Checkpoints(tmp_path, said.append) as checkpoints:
        assert_same_bits(checkpoints.load(blank(state(5)))[0], state(10))
    assert len(said) == 1


def test_without_any_whole_one(tmp_path: pathlib.Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state(5), 1.0)
    flip_a_bit(largest_file(tmp_path / "5" / "state"))
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(ValueError, match="no checkpoint is whole; restore a copy"),
    ):
        checkpoints.load(blank(state(5)))


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: pathlib.Path) -> None:
    petabyte = np.broadcast_to(np.float32(0), (2**48,))  # a single number in memory
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"weights": np.zeros(3)}, 0.0)
        with pytest.raises(OSError, match=r"/2: cannot be written \(No space left .*free disk sp"):
            checkpoints.save(2, {"weights": petabyte}, 0.0)
        assert checkpoints.latest == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestWithoutHashes:
    """A kill between a save and its hashes: nobody could tell a flipped bit."""

    def test_the_newest_one_is_not_trusted(self, tmp_path: pathlib.Path) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(5, state(5), 1.0)
            checkpoints.save(10, state(10), 2.0)
        (tmp_path / "10" / "sha256.json").unlink()
        flip_a_bit(largest_file(tmp_path / "10" / "state"))
        said: list[str] = []
        with Checkpoints(tmp_path, said.append) as checkpoints:
            assert_same_bits(checkpoints.load(blank(state(5)))[0], state(5))
            assert (tmp_path / "cut-off-10").is_dir()
            checkpoints.save(10, state(10), 3.0)
        assert len(said) == 1 and "checkpoint 10 has no hashes" in said[0]
        assert step_folders(tmp_path) == [5, 10]  # no litter

    def test_the_first_one_counts_for_nothing(self, tmp_path: pathlib.Path) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(5, state(5), 1.0)
        (tmp_path / "5" / "sha256.json").unlink()
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.latest is None  # the run begins again

    def test_several_are_refused_and_kept(self, tmp_path: pathlib.Path) -> None:
        with Checkpoints(tmp_path) as checkpoints:
            for step in (5, 10):
                checkpoints.save(step, state(step), 1.0)
        for step in (5, 10):
            (tmp_path / str(step) / "sha256.json").unlink()
        before = files_of(tmp_path)
        with pytest.raises(ValueError, match="no checkpoint has its hashes"):
            Checkpoints(tmp_path)
        assert files_of(tmp_path) == before


HASHES = {"a list": "[]", "no JSON": "{", "empty": "{}", "numbers": '{"a": 1}', "gone": None}


@pytest.mark.parametrize("hashes", HASHES)
def test_a_finished_run_is_read_and_never_touched(tmp_path: pathlib.Path, hashes: str) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, state(step), 1.0)
    assert_same_bits(load_latest(tmp_path, blank(state(5)))[0], state(10))
    file, text = tmp_path / "10" / "sha256.json", HASHES[hashes]
    file.unlink() if text is None else file.write_text(text)
    before, said = files_of(tmp_path), []
    loaded, step = load_latest(tmp_path, blank(state(5)), said.append)
    assert step == 5 and len(said) == 1 and "checkpoint 10" in said[0] and "damaged" in said[0]
    assert_same_bits(loaded, state(5))
    flip_a_bit(largest_file(tmp_path / "5" / "state"))
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match="no checkpoint is whole"):
        load_latest(tmp_path, blank(state(5)))
    assert files_of(tmp_path) == before
    with pytest.raises(ValueError, match="has no checkpoint"):
        load_latest(tmp_path / "none", blank(state(5)))
