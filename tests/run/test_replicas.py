"""Replicas: their shares on one device and on two, in closed form."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import jax
import numpy as np
import pytest

from nas.run.replicas import Replicas, slots

from ..searches import command_on_two_devices
from .sharing import VALUES, results


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("replicas") / "results.npz"
    command = command_on_two_devices("tests.run.sharing", str(path))
    subprocess.run(command, env=os.environ, check=True, capture_output=True, timeout=300)
    return dict(np.load(path))


@pytest.fixture(scope="module", params=[1, 2], ids=["one device", "two devices"])
def shared(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Results on one device, which this process has, or on two."""
    if request.param == 2:
        return request.getfixturevalue("on_two_devices")
    return results()


def test_a_mesh_has_as_many_devices_as_divide_the_replicas(shared: dict[str, Any]) -> None:
    two = [1, 2, 1, 2, 2]
    assert shared["devices"] in (1, 2)
    assert list(shared["meshes"]) == (two if shared["devices"] == 2 else [1] * 5)


def test_each_device_has_its_rows_and_all_of_what_is_replicated(shared: dict[str, Any]) -> None:
    assert list(shared["first_rows"]) == ([0, 2] if shared["devices"] == 2 else [0])
    assert shared["copies"] == shared["key_copies"] == shared["devices"]
    np.testing.assert_array_equal(shared["rows"], VALUES)


def test_reductions_are_over_all_replicas_in_their_order(shared: dict[str, Any]) -> None:
    """Columns 0 3 6 9, 1 4 7 10 and 2 5 8 11 sum to 18, 22, 26; rows to 3, 12, 21, 30."""
    np.testing.assert_array_equal(shared["total"], [18, 220, 2600])
    np.testing.assert_array_equal(shared["sums"], [3, 12, 21, 30])


def test_the_root_key_is_that_of_the_seed(shared: dict[str, Any]) -> None:
    np.testing.assert_array_equal(shared["key"], jax.random.key_data(jax.random.key(5)))


def test_slots_are_the_replicas_one_after_the_other() -> None:
    tree = {"a": np.arange(3), "b": np.arange(6).reshape(3, 2)}
    parts = list(slots(tree))
    assert [part["a"] for part in parts] == [0, 1, 2]
    assert [part["b"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("process", "processes", "share"),
    [(0, 1, slice(0, 4)), (0, 2, slice(0, 2)), (1, 2, slice(2, 4))],
)
def test_a_process_reads_its_share(
    process: int, processes: int, share: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    assert Replicas(4).local == share
    assert Replicas(4).local_count == 4 // processes


def test_replicas_that_processes_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(
        ValueError, match="`replicas`: got 3, which 2 processes cannot share evenly; use 4"
    ):
        _ = Replicas(3).mesh
