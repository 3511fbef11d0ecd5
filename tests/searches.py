"""Small searches that several test files build, and the comparison of two results bit for bit."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

import latency_tables
from latency_tables import CostModel, Target
from nas.engine.objective import Objective
from nas.engine.state import StepConfig
from nas.engine.step import Search
from nas.tasks.classification import Classification
from rewards import REWARDS
from search_spaces import ArchSpec, SearchSpace, yaml_io


def space_of(text: str) -> SearchSpace:
    """A search space from the YAML text of its spec."""
    return SearchSpace(yaml_io.parse_model(text, ArchSpec, "a test"))


def objective_of(
    space: SearchSpace,
    values: Sequence[float] | None = None,
    devices: Sequence[str] = ("macs",),
    *,
    reward: str = "absolute",
    exponent: float | tuple[float, ...] = -0.1,
    tolerance: float = 0.005,
) -> Objective:
    """An objective; without values the targets are the lowest costs of the space."""
    costs = CostModel.build(space, [latency_tables.device(name) for name in devices])
    if values is None:
        values = [costs.range(index)[0] for index in range(len(devices))]
    targets = tuple(map(Target, costs.devices, map(float, values)))
    return Objective(costs, targets, REWARDS[reward], exponent, tolerance)


def search_of(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    label_smoothing: float = 0.0,
    **settings: Any,
) -> Search:
    """A search of an objective's space, with soft labels."""
    space = objective.space
    task = Classification(space.spec.classes, True, label_smoothing)
    return Search(space, StepConfig(**settings), optimizer, objective, task)


def assert_same_bits(a: Any, b: Any) -> None:
    """Two trees hold the same arrays, bit for bit."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def command_on_two_devices(module: str, argument: str) -> list[str]:
    """Command that runs `main(argument)` of a module of these tests, on two CPU devices.

    The tests are no package that Python would find: another one may be called so too.
    """
    code = (
        "import importlib, os, sys, types\n"
        "os.environ['JAX_NUM_CPU_DEVICES'] = '2'\n"
        "sys.modules['tests'] = tests = types.ModuleType('tests')\n"
        f"tests.__path__ = [{str(pathlib.Path(__file__).parent)!r}]\n"
        f"importlib.import_module({module!r}).main({argument!r})"
    )
    return [sys.executable, "-c", code]
