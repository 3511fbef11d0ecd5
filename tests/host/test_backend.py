"""Devices and compilation cache of a process, also where JAX was used before (a notebook)."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from nas.host import cores

_START = """
import os, sys, warnings
os.environ["PJRT_NPROC"] = sys.argv[1]  # cores that this process counts
import jax
from nas.host import backend
warnings.simplefilter("always")
"""
_USE = "jax.numpy.ones(3).sum().block_until_ready()\n"
_PREPARE = "print(backend.prepare({}), end=' ')\n"
_DEVICES = "print(jax.local_device_count())\n"

two_cores = pytest.mark.skipif(cores.count() < 2, reason="there is one core only")


def _run(code: str, cache: pathlib.Path, most: int = 2) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "MNV4_NAS_CACHE": str(cache)}
    environment.pop("XLA_FLAGS", None)
    command = [sys.executable, "-c", _START + code, str(most)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@two_cores
@pytest.mark.parametrize(
    ("replicas", "most", "devices"), [(1, 2, 1), (2, 2, 2), (3, 2, 1), (4, 2, 2), (2, 1, 1)]
)
def test_devices_are_the_largest_divisor_of_replicas_up_to_the_cores(
    replicas: int, most: int, devices: int, tmp_path: pathlib.Path
) -> None:
    done = _run(_PREPARE.format(replicas) + _DEVICES, tmp_path, most)
    assert done.stdout.split() == [str(devices)] * 2
    assert "UserWarning" not in done.stderr


@two_cores
def test_the_number_of_devices_can_change_until_jax_is_used(tmp_path: pathlib.Path) -> None:
    done = _run(_PREPARE.format(1) + _PREPARE.format(2) + _DEVICES, tmp_path)
    assert done.stdout.split() == ["1", "2", "2"]
    assert "UserWarning" not in done.stderr


@two_cores
def test_a_used_kernel_keeps_its_device_and_warns_once_with_the_cure(
    tmp_path: pathlib.Path,
) -> None:
    """A diagnosis (1 replica), a search (2), and another search; the cache is used from then on."""
    compiled = "jax.jit(lambda x: 3 * x + 1)(jax.numpy.ones(5))\n"
    prepare = "".join(_PREPARE.format(replicas) for replicas in (1, 2, 2))
    done = _run(_USE + prepare + _DEVICES + compiled, tmp_path)
    assert done.stdout.split() == ["1", "1", "1", "1"]
    assert done.stderr.count("UserWarning") == 1
    assert (
        "UserWarning: JAX was used before: 1 device instead of 2, so a search is slower; to use "
        "all cores set jax.config.update('jax_num_cpu_devices', 2) before anything else, "
        "or start a fresh kernel" in done.stderr
    )
    assert list((tmp_path / "compiled").glob("*lambda*"))


@two_cores
def test_no_warning_where_the_devices_are_enough(tmp_path: pathlib.Path) -> None:
    """Devices that an earlier call or the user has set; more devices than needed are fine, too."""
    cure = "jax.config.update('jax_num_cpu_devices', 2)\n"
    for first in (_PREPARE.format(2), cure):
        done = _run(first + _USE + _PREPARE.format(2) + _PREPARE.format(1) + _DEVICES, tmp_path)
        assert done.stdout.split()[-3:] == ["2", "2", "2"]
        assert "UserWarning" not in done.stderr
