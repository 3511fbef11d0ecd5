"""Dependencies point one way, between the packages and between the rooms of `nas`."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import nas

HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "ray", "tensorflow")

PACKAGES = ("search_spaces", "latency_tables", "rewards", "nas", "experiments")
"""The import order of the packages: each imports only those before it."""

ROOMS = (
    "host",  # this machine and others: cores, processes, clusters, stores, progress
    "data",  # reading images
    "model",  # networks and supernets
    "searchers",  # what chooses architectures
    "run",  # what all runs share: configuration, folder, loop, checkpoints
    "tasks",  # what networks are trained for
    "exporters",  # networks as files for devices
    "measurement",  # timing them
    "training",  # stand-alone training
    "distillation",  # making distilled data sets
    "engine",  # the search: objective, step, stages, derivation, diagnosis
    "report",  # pages and texts for people
    "api",  # the Python door
    "cli",  # commands: parse, call, print
)
"""The import order of the rooms of `nas`: each imports only those before it."""

Import = tuple[pathlib.Path, str]


def imports_of(package: str) -> Iterator[Import]:
    """(file, module) of every first-party import of a package that runs, also inside functions."""
    origin = importlib.util.find_spec(package)
    assert origin and origin.submodule_search_locations
    folder = pathlib.Path(next(iter(origin.submodule_search_locations)))
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] in PACKAGES:
                    yield path.relative_to(folder), name


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downwards(package: str) -> None:
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    upward = [
        f"{path}: {name}" for path, name in imports_of(package) if name.split(".")[0] not in allowed
    ]
    assert upward == []


def test_rooms_import_downwards() -> None:
    upward = []
    for path, name in imports_of("nas"):
        parts = name.split(".")
        if len(path.parts) < 2 or parts[0] != "nas":
            continue
        room, other = path.parts[0], parts[1]
        if ROOMS.index(other) > ROOMS.index(room):
            upward.append(f"{path}: {name}")
    assert upward == []


def test_every_room_is_listed() -> None:
    folder = pathlib.Path(next(iter(nas.__path__)))
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert rooms == set(ROOMS)


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("search_spaces", (*HEAVY, "numpy", "latency_tables", "rewards", "nas", "experiments")),
        ("latency_tables", (*HEAVY, "rewards", "nas", "experiments")),
        ("rewards", (*HEAVY, "nas", "experiments")),
        ("search_spaces, latency_tables, rewards", (*HEAVY, "nas", "experiments")),
        ("nas", (*HEAVY, "numpy", "pydantic", "experiments")),
        ("nas.api.result, nas.report.search, nas.report.compare", (*HEAVY, "experiments")),
    ],
)
def test_a_fresh_process_loads_only_what_lies_below(imports: str, absent: tuple[str, ...]) -> None:
    code = f"import {imports}, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert set(imports.split(", ")) <= set(loaded)
    assert not set(absent) & set(loaded)


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_packages_are_ours(package: str) -> None:
    """The names are common on PyPI: the imported ones must be those that `mnv4-nas` installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    here = pathlib.Path(spec.origin).resolve().parent
    owners = importlib.metadata.packages_distributions().get(package, [])
    assert set(owners) <= {"mnv4-nas"}
    assert here in {folder / package for folder in install_roots()}


def install_roots() -> set[pathlib.Path]:
    """Where the distribution's packages lie: its own files, or (editable) its checkout."""
    distribution = importlib.metadata.distribution("mnv4-nas")
    roots = {pathlib.Path(str(distribution.locate_file(""))).resolve()}
    direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    if direct.get("dir_info", {}).get("editable"):
        roots.add(pathlib.Path(direct["url"].removeprefix("file://")).resolve())
    return roots
