"""The public names of `nas`."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import nas


def test_tab_completion_shows_the_public_names() -> None:
    assert dir(nas) == sorted(nas.__all__) == nas.__all__


@pytest.mark.parametrize("name", nas.__all__)
def test_every_name_resolves_and_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(nas, name))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serch'"):
        _ = nas.serch


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import json, sys, nas; dir(nas); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "numpy", "flax", "pydantic", "yaml"} & {*json.loads(done.stdout)}


def test_functions_stay_functions_after_the_engine_was_imported() -> None:
    """No room of the package has the name of a function: importing it would hide the function."""
    code = """
import importlib, json, pkgutil, nas
rooms = [module.name for module in pkgutil.iter_modules(nas.__path__)]
print(json.dumps(sorted({*rooms} & {*nas.__all__, "train", "export"})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
