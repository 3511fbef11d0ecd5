"""Finding, building and refusing the C++ library; its results are in test_convolutions.py."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess
import sys

import pytest

ASK = "from nas.model.layers import native; print(native.available())"
PYTHON = [sys.executable, "-c", ASK]
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


def _ask(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        PYTHON, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_can_be_switched_off() -> None:
    assert _ask(MNV4_NAS_NATIVE="0").stdout == "False\n"


def test_without_a_compiler_there_is_none_and_no_complaint(tmp_path: pathlib.Path) -> None:
    done = _ask(PATH=str(tmp_path), CXX="", MNV4_NAS_CACHE=str(tmp_path))
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_failing_compiler_is_a_warning_with_its_words(tmp_path: pathlib.Path) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text(
        "#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'unknown flag -march' >&2\nexit 1\n"
    )
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    done = _ask(CXX=str(compiler), MNV4_NAS_CACHE=str(tmp_path))
    assert done.stdout == "False\n"
    assert all(
        word in done.stderr for word in ("broken", "unknown flag -march", "MNV4_NAS_NATIVE=0")
    )
    assert not list((tmp_path / "native").iterdir())


@needs_compiler
def test_is_built_once_and_only_read_afterwards(search_environment: dict[str, str]) -> None:
    assert _ask(**search_environment).stdout == "True\n"
    (library,) = (pathlib.Path(search_environment["MNV4_NAS_CACHE"]) / "native").iterdir()
    made = library.stat().st_mtime_ns
    assert _ask(**search_environment).stdout == "True\n"
    assert library.stat().st_mtime_ns == made


@needs_compiler
def test_the_number_of_threads_changes_no_bit(search_environment: dict[str, str]) -> None:
    program = """
import hashlib, jax, numpy as np
from nas.model.layers import native
available = native.available()
rng = np.random.default_rng(0)
shapes = (19, 9, 7, 20), (5, 5, 20), (19, 5, 4, 20)
x, kernel, dy = (rng.normal(size=shape).astype("float32") for shape in shapes)
y, pull = jax.vjp(lambda x, kernel: native.depthwise(x, kernel, stride=2), x, kernel)
data = b"".join(np.asarray(array).tobytes() for array in (y, *pull(dy)))
print(available, hashlib.sha256(data).hexdigest())
"""
    run = [sys.executable, "-c", program]
    digests = {
        subprocess.run(
            run,
            env={**search_environment, "NPROC": n},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for n in ("1", "3")
    }
    assert len(digests) == 1 and digests.pop().startswith("True")
