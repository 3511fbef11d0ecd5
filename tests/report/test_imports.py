"""Reports load at once: no module of `nas.report` needs JAX."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import nas.report

HEAVY = ("jax", "flax", "optax", "orbax", "matplotlib")


def test_no_report_loads_jax_or_draws_when_it_is_imported() -> None:
    modules = [f"nas.report.{module.name}" for module in pkgutil.iter_modules(nas.report.__path__)]
    assert "nas.report.search" in modules and "nas.report.layers" in modules
    program = (
        f"import json, sys, {', '.join(modules)}\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
