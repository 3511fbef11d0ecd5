"""Dependencies point one way: search_spaces <- latency_tables <- rewards <- nas <- experiments."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "ray", "tensorflow")


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("search_spaces", (*HEAVY, "numpy", "latency_tables", "rewards", "nas", "experiments")),
        ("latency_tables", (*HEAVY, "rewards", "nas", "experiments")),
        ("rewards", (*HEAVY, "nas", "experiments")),
        ("search_spaces, latency_tables, rewards", (*HEAVY, "nas", "experiments")),
    ],
)
def test_a_fresh_process_loads_only_what_lies_below(imports: str, absent: tuple[str, ...]) -> None:
    code = f"import {imports}, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert set(imports.split(", ")) <= set(loaded)
    assert not set(absent) & set(loaded)


@pytest.mark.parametrize("package", ["nas", "search_spaces", "rewards", "latency_tables", "experiments"])
def test_installed_packages_are_ours(package: str) -> None:
    """The names are common on PyPI: the one that is imported must be the one that `mnv4-nas` installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    here = pathlib.Path(spec.origin).resolve().parent
    owners = importlib.metadata.packages_distributions().get(package, [])
    assert set(owners) <= {"mnv4-nas"}
    assert here in {folder / package for folder in install_roots()}


def install_roots() -> set[pathlib.Path]:
    """Where the distribution's packages lie: its own files, or (editable) the checkout that it points to."""
    distribution = importlib.metadata.distribution("mnv4-nas")
    roots = {pathlib.Path(str(distribution.locate_file(""))).resolve()}
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        roots.add(pathlib.Path(direct["url"].removeprefix("file://")).resolve())
    return roots
