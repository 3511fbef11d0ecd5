"""Example files for Ray's cluster launcher and job server: valid for Ray, and a real job."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jsonschema
import pytest
import ray
import yaml

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "clusters"
CLUSTERS = ("cpu", "gpu", "tpu")
SCHEMA = json.loads(
    (pathlib.Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text()
)


@pytest.mark.parametrize("name", CLUSTERS)
def test_cluster(name: str) -> None:
    cluster = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    jsonschema.validate(cluster, SCHEMA)
    # Only the built package is copied.
    assert list(cluster["file_mounts"].values()) == ["dist"]
    starts = cluster["head_start_ray_commands"]
    assert any("--dashboard-host 127.0.0.1" in start for start in starts)
    assert all("0.0.0.0" not in start for start in starts)
    types = cluster.get("available_node_types", {})
    assert not types or cluster["head_node_type"] in types


def test_every_file_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*CLUSTERS, "runtime_env"}


def test_a_job_gets_no_files_of_the_folder_that_it_is_submitted_from() -> None:
    environment = yaml.safe_load((FOLDER / "runtime_env.yaml").read_text())
    assert list(environment) == ["env_vars"]
    assert all(isinstance(value, str) for value in environment["env_vars"].values())


@pytest.fixture
def head(tmp_path: pathlib.Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(address of a job server on 127.0.0.1, environment for its clients)."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    environment |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 64,
    }
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = [
        "ray",
        "start",
        "--head",
        "--port",
        ports[0],
        "--num-cpus",
        "3",
        "--dashboard-host",
        "127.0.0.1",
    ]
    start += ["--dashboard-port", ports[1], "--disable-usage-stats", "--block"]
    log = (tmp_path / "ray.log").open("w")
    # With --block it ends its own processes when it ends, and no other cluster's.
    process = subprocess.Popen(start, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(int(ports[1]), process)
        yield f"http://127.0.0.1:{ports[1]}", environment
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        # Remove the file that would lead "auto" to this cluster.
        started = pathlib.Path(tempfile.gettempdir(), "ray", "ray_current_cluster")
        if started.exists() and started.read_text().strip() == f"127.0.0.1:{ports[0]}":
            started.unlink()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise AssertionError("the job server did not start")


@pytest.mark.slow
@pytest.mark.usefixtures("machine_alone")
@pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None, reason="the extra `cluster` is not installed"
)
def test_a_search_as_a_job(
    head: tuple[str, dict[str, str]],
    tiny_recipe: pathlib.Path,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    address, environment = head
    variables = json.dumps({"env_vars": {"MNV4_NAS_CACHE": str(tmp_path / "cache")}})
    submit = ["ray", "job", "submit", "--address", address, "--runtime-env-json", variables, "--"]
    search = [
        "nas-search",
        "--stage",
        "coarse",
        "--config",
        str(tiny_recipe),
        "--workdir",
        str(tmp_path / "run"),
    ]
    command = [*submit, *search, "--ray", "auto", "--workers", "2"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 workers: 2 on " in done.stdout and "found tiny-coarse" in done.stdout
    # The workers, which compile, got the variable.
    assert (tmp_path / "cache" / "compiled").is_dir()
    for name in ("metrics.jsonl", "policy.jsonl", "candidates.csv"):
        assert (tmp_path / "run" / "coarse" / name).read_bytes() == (
            finished_run / "coarse" / name
        ).read_bytes()
