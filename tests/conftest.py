"""Shared by all tests: the hypothesis profile, and the search spaces that the batteries run on."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import io
import os
import pathlib
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

# Compiling is what tests wait for; read when JAX is imported, also by processes that tests start.
# Without XLA's fusion emitters and parallel code generation small programs take 0.4 of the time.
os.environ |= {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
}

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import search_spaces
from search_spaces import ArchSpec, CoarseOptions, SearchSpace, yaml_io

gc.set_threshold(100_000, 50, 100)  # tracing makes many objects that live long
atexit.register(gc.freeze)  # nothing is searched for garbage at the end

hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=25, database=None
)
hypothesis.settings.load_profile("repeatable")


# Two processes that compile a program at once: one may read what the other is still writing.
_TORN = "ignore:Error reading persistent compilation cache entry"


_LARGEST_CACHE = 2**30  # bytes; then the next test run begins with an empty one


def pytest_configure(config: pytest.Config) -> None:
    """A torn entry of the compilation cache is compiled again; one that has grown is emptied."""
    config.addinivalue_line("filterwarnings", _TORN)
    if config.cache and "PYTEST_XDIST_WORKER" not in os.environ:
        folder = config.cache.mkdir("compiled")
        if sum(path.stat().st_size for path in folder.rglob("*")) > _LARGEST_CACHE:
            shutil.rmtree(folder)


def _small() -> ArchSpec:
    return search_spaces.base("small-32")


_SPACES: dict[str, Callable[[], SearchSpace]] = {
    "coarse-by-stage": lambda: search_spaces.coarse_space(_small()),
    "coarse-by-block": lambda: search_spaces.coarse_space(
        _small(), CoarseOptions(filters_by="block", expansions=(2.0, 3.0, 4.0), min_depth=2)
    ),
    "coarse-expansion-by-stage": lambda: search_spaces.coarse_space(
        _small(), CoarseOptions(expansions=(2.0, 4.0), expansion_by="stage", min_depth=None)
    ),
    "fine": lambda: search_spaces.fine_space(_small()),
    "hybrid": lambda: search_spaces.hybrid_space(_small()),
    "one-stage": lambda: search_spaces.one_stage_space(
        _small(), CoarseOptions(expansions=(2.0, 4.0))
    ),
}


@functools.cache
def _space(name: str) -> SearchSpace:
    return _SPACES[name]()


@pytest.fixture(scope="session")
def small_32() -> ArchSpec:
    """The shipped base `small-32`."""
    return _small()


@pytest.fixture(scope="session", params=sorted(_SPACES))
def space(request: pytest.FixtureRequest) -> SearchSpace:
    """Each kind of search space of `small-32`."""
    return _space(request.param)


@pytest.fixture(scope="session")
def vectors() -> Callable[[SearchSpace], st.SearchStrategy[tuple[int, ...]]]:
    """Strategy of the decision vectors of a space."""
    return lambda space: st.tuples(
        *(st.integers(0, decision.options - 1) for decision in space.decisions)
    )


@pytest.fixture(scope="session")
def tiny_space() -> SearchSpace:
    """216 vectors: a shared width, expansions, kernels, a depth, and two alternative blocks.

    The alternative blocks have opposite presence.
    """
    text = """
name: tiny
resolution: 9
blocks:
- {kind: conv, filters: {one_of: [8, 16, 24], name: width}, stride: 2}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width},
   expansion: {one_of: [2.0, 3.0], name: expansion}}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width},
   start_dw: {one_of: [0, 3, 5], name: kernel}, present: {one_of: [true, true, false], name: depth}}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width},
   present: {one_of: [true, false, false], name: depth}}
- {kind: uib, filters: {one_of: [8, 16, 24], name: width}, middle_dw: 5,
   present: {one_of: [true, false], name: alternative}}
- {kind: fused_ib, filters: {one_of: [8, 16, 24], name: width}, expansion: 2.0,
   present: {one_of: [false, true], name: alternative}}
- {kind: uib, filters: {one_of: [32, 16], name: end}, stride: 2}
- {kind: pool}
- {kind: classifier, classes: 3}
"""
    return SearchSpace(yaml_io.parse_model(text, ArchSpec, "tiny"))


TINY_BASE = """\
schema: 1
name: tiny
resolution: 8
blocks:
- {kind: conv, filters: 8, kernel: 3, stride: 2}
- {kind: uib, filters: 16, middle_dw: 3, expansion: 1.0}
- {kind: uib, filters: 16, middle_dw: 3, expansion: 1.0}
- {kind: pool}
- {kind: classifier, classes: 3}
"""

TINY_RECIPE = """\
schema: 1
name: tiny
targets: ["macs:0.01M"]
data: {{source: "npz:{folder}/tiny.npz", labels: hard}}
space:
  base: {folder}/base.yaml
  coarse: {{multipliers: [0.5, 1.0], expansions: [1.0]}}
  fine: {{start_dw: [0, 3], middle_dw: [3]}}
weights: {{optimizer: sgd, learning_rate: 0.1}}
search:
  steps: {{coarse: 60, fine: 12}}
  replicas: 2
  batch: 4
  validation_batch: 8
  checkpoint_every: 10
derive: {{tolerance: 0.05, survivors: 4, images: 16}}
"""


@contextlib.contextmanager
def _once(folder: pathlib.Path) -> Iterator[bool]:
    """Make `folder` in one of the processes of a test run; the others wait for it.

    Yields:
      Whether this is the process that makes it.
    """
    done, failed = (folder.with_name(f"{folder.name}-{end}") for end in ("done", "failed"))
    try:
        folder.mkdir()
    except FileExistsError:
        while not done.exists():
            assert not failed.exists(), f"another process could not make {folder}"
            time.sleep(0.1)
        yield False
        return
    try:
        yield True
    except BaseException:
        failed.touch()
        raise
    done.touch()


@pytest.fixture
def machine_alone(shared_folder: pathlib.Path) -> Iterator[None]:
    """No other test that asks for this runs beside it.

    They start clusters, claim cores, count processes.
    """
    with (shared_folder / "alone").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def processes_with() -> Callable[[str], int]:
    """How many processes have "NAME=VALUE" in their environment (Linux)."""

    def count(mark: str) -> int:
        found = 0
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                found += mark.encode() in path.read_bytes().split(b"\0")
        return found

    return count


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One for all the processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cache_folder(pytestconfig: pytest.Config) -> pathlib.Path:
    """Compiled programs and libraries, one for all the processes of a test run, and for the next.

    `pytest --cache-clear` begins anew.
    """
    return pytestconfig.cache.mkdir("compiled")


@pytest.fixture(scope="session", autouse=True)
def compile_once(cache_folder: pathlib.Path) -> None:
    """All processes of a test run compile a program once, also those that tests start."""
    settings = {
        "jax_compilation_cache_dir": str(cache_folder / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    os.environ.update({name.upper(): str(value) for name, value in settings.items()})
    if jax := sys.modules.get("jax"):  # imported already: it has read its environment
        for name, value in settings.items():
            jax.config.update(name, value)


@pytest.fixture(scope="session")
def tiny_recipe(shared_folder: pathlib.Path) -> pathlib.Path:
    """A whole search: 8 px images of 3 classes (a colour each), a base of 3 blocks, a recipe."""
    folder = shared_folder / "tiny"
    with _once(folder) as first:
        if first:
            _write_tiny(folder)
    return folder / "recipe.yaml"


def _write_tiny(folder: pathlib.Path) -> None:
    (folder / "base.yaml").write_text(TINY_BASE)
    (folder / "recipe.yaml").write_text(TINY_RECIPE.format(folder=folder))
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 48), ("validation", 32), ("test", 8)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 128, (count, 8, 8, 3))
        images[np.arange(count), :, :, labels] += 60
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(folder / "tiny.npz", **arrays)


@pytest.fixture(scope="session")
def search_environment(cache_folder: pathlib.Path) -> dict[str, str]:
    """Environment of `nas-search` in a process of its own: one compilation cache for all."""
    return {**os.environ, "MNV4_NAS_CACHE": str(cache_folder), "PYTHONWARNINGS": f"error,{_TORN}"}


@pytest.fixture
def in_this_process(search_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches may run here: they do not set up JAX again, and use the cache of all tests."""
    from nas.host import backend

    monkeypatch.setattr(backend, "prepare", lambda replicas: None)
    monkeypatch.setenv("MNV4_NAS_CACHE", search_environment["MNV4_NAS_CACHE"])


@pytest.fixture(scope="session")
def finished_run(
    tiny_recipe: pathlib.Path, search_environment: dict[str, str], shared_folder: pathlib.Path
) -> pathlib.Path:
    """The workdir of both stages of `tiny_recipe`, never interrupted; tests do not change it."""
    workdir = shared_folder / "finished"
    command = [sys.executable, "-m", "nas.cli.search", "--config", str(tiny_recipe)]
    command += ["--workdir", str(workdir)]
    with _once(workdir) as first:
        if first:
            done = subprocess.run(
                command, env=search_environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr
            (workdir / "stdout.txt").write_text(done.stdout)
            (workdir / "stderr.txt").write_text(done.stderr)
    return workdir


@pytest.fixture(scope="session")
def separate_run(tiny_recipe: pathlib.Path, shared_folder: pathlib.Path) -> pathlib.Path:
    """The workdir of a one-stage search with a policy for each of two targets; not to be changed.

    It runs in this process, so with one device.
    """
    from nas.cli import search
    from nas.host import backend

    workdir = shared_folder / "separate"
    command = ["--stage", "one-stage", "--config", str(tiny_recipe), "--workdir", str(workdir)]
    command += ["--separate", "--device", "params:0.001M", "--device", "macs:0.012M"]
    with _once(workdir) as first:
        if first:
            with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
                patch.setattr(backend, "prepare", lambda replicas: None)
                with contextlib.redirect_stdout(out):
                    search.main([*command, "--set", "search.steps.one_stage=12"])
                assert out.getvalue().count("found tiny-one-stage: ") == 2
    return workdir


@pytest.fixture(scope="session")
def checked() -> Callable[..., Callable[..., Any]]:
    """checked(function, x=Float[Array, "b c"], returns=...): it checks these shapes at every call.

    The copy of the function has the annotations of jaxtyping in place of its own ones. Production
    code carries none, and so needs neither jaxtyping nor beartype.
    """
    import beartype
    import jaxtyping

    def check(function: types.FunctionType, **shapes: Any) -> Callable[..., Any]:
        copy = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        copy.__annotations__ = {
            "return" if name == "returns" else name: shape for name, shape in shapes.items()
        }
        return jaxtyping.jaxtyped(copy, typechecker=beartype.beartype)

    return check
