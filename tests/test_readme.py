"""The README's Python block runs as it stands there, with a shorter network and fewer steps."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

README = pathlib.Path(__file__).parents[1] / "README.md"
STEPS = '"search.steps.coarse": 350'
FEWER = (
    '"search.steps.coarse": 3, "search.batch": 2, "search.validation_batch": 8, '
    '"derive.images": 8, "space.base": "short.yaml"'
)
SHORT = """\
schema: 1
name: short
resolution: 32
blocks:
- {kind: conv, filters: 32, kernel: 3, stride: 2}
- {kind: uib, filters: 128, start_dw: 3, middle_dw: 3, expansion: 4.0, stride: 2}
- {kind: uib, filters: 128, middle_dw: 3, expansion: 4.0}
- {kind: pool}
- {kind: classifier, classes: 10}
"""


def test_the_python_block_runs(search_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert STEPS in code and "evaluations=64" in code
    (tmp_path / "short.yaml").write_text(SHORT)
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
