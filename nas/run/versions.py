"""What the bits of a result depend on besides its configuration: packages and the machine."""

from __future__ import annotations

import importlib.metadata
import platform

from nas.host import cores, processor
from nas.model.layers import native


def versions() -> dict[str, str]:
    """Versions of the packages that compute a result, {name: version}."""
    names = ("mnv4-nas", "jax", "flax", "optax", "numpy")
    packages = {name: importlib.metadata.version(name) for name in names}
    depthwise = "C++" if native.available() else "JAX"
    return {"python": platform.python_version(), **packages, "depthwise": depthwise}


def machine() -> dict[str, str]:
    """The machine: cores and instruction set."""
    return {
        "cores": str(cores.count()),
        "instructions": processor.instruction_set(),
    }
