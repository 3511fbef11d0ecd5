"""A notebook's session, all of it from `import nas`, in a kernel that has used JAX before."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from nas.host import cores

CELLS = """
import json, sys, warnings
import jax
jax.numpy.zeros(1).block_until_ready()

import nas

config, folder = sys.argv[1:]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = nas.search(config, stage="coarse", workdir=folder + "/run")
again = nas.search(config, stage="coarse", workdir=folder + "/run")
fine = nas.search(result, stage="fine")
other = result.derive(targets=["macs:0.0095M"], by="random", evaluations=2, out=folder + "/other")
candidates = result.candidates
print(json.dumps({
    "warnings": [str(line.message) for line in caught],
    "same": again.architecture == result.architecture,
    "name": result.architecture.name,
    "fine": fine.stage,
    "target": other.architecture.found.cost["macs"].target,
    "candidates": [len(candidates), candidates.vectors.shape, len(candidates.costs["macs"])],
    "best": candidates.architecture(0).name,
    "metrics": [result.metrics["reward"].shape[0], result.metrics["step"].tolist()[-1]],
    "reprs": [repr(result), repr(candidates), repr(result.architecture), repr(result.space)],
    "html": result._repr_html_() + result.space._repr_html_(),
    "ms": nas.estimate(other.architecture, "pixel6-cpu").ms,
    "report": str(result.report()),
}))
"""


def test_search_derive_and_read(
    tiny_recipe: pathlib.Path,
    search_environment: dict[str, str],
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    """With the devices that the command has: the same search, bit for bit."""
    command = [sys.executable, "-c", CELLS, str(tiny_recipe), str(tmp_path)]
    devices = str(min(cores.count(), 2))
    environment = {**search_environment, "PYTHONWARNINGS": "default"}
    environment |= {"JAX_NUM_CPU_DEVICES": devices}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["same"] and seen["name"] == "tiny-coarse" and seen["fine"] == "fine"
    assert seen["target"] == 0.0095
    count, shape, costs = seen["candidates"]
    assert count == shape[0] == costs and shape[1] == 2 and seen["best"]
    assert seen["metrics"] == [60, 59] and seen["warnings"] == []
    for stage in ("coarse", "fine"):
        metrics = (finished_run / stage / "metrics.jsonl").read_bytes()
        assert (tmp_path / "run" / stage / "metrics.jsonl").read_bytes() == metrics
    assert all(len(text) < 300 and "\n" not in text for text in seen["reprs"])
    assert "<table" in seen["html"] and "<script" not in seen["html"]
    assert seen["ms"] > 0 and pathlib.Path(seen["report"]).exists()
