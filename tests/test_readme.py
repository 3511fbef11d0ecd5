"""The README's Python block runs as it stands there, with fewer steps."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

README = pathlib.Path(__file__).parents[1] / "README.md"
STEPS = '"search.steps.coarse": 350'
FEWER = (
    '"search.steps.coarse": 3, "search.batch": 2, "search.validation_batch": 8, "derive.images": 8'
)


def test_the_python_block_runs(search_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert STEPS in code and "evaluations=64" in code
    code = code.replace(STEPS, FEWER).replace("evaluations=64", "evaluations=8")
    code += """
assert other.architecture.found.cost["macs"].target == 5
assert len(result.candidates.reward) and len(result.metrics["reward"]) == 3
assert "coarse" in repr(result) and len(repr(result)) < 300
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=search_environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
