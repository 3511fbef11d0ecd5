"""Question: how long does a search take to its first step, cold and from the cache, and to go on after Ctrl-C?

    python -m experiments.benchmarks.start_up

`nas-search` itself in a process of its own, 20 steps of the quickstart's coarse and fine stage: with an empty cache,
with the cache of that run, and stopped at step 10 and started again. Answer: see `results/start-up*.csv` and
experiments/RESULTS.md.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from experiments.benchmarks import side_by_side

_STEPS = 20
_COMPILING = {
    "/jax/core/compile/jaxpr_trace_duration": "trace_s",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower_s",
    "/jax/core/compile/backend_compile_duration": "compile_s",
}


def main() -> None:
    """Run all cases, print them, write the CSV."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for stage in ("coarse", "fine"):
            for case, workdir in (("cold", "a"), ("cached", "b"), ("stopped", "c"), ("resumed", "c")):
                seen = _run(stage, folder / workdir, folder / f"cache-{stage}", stop=case == "stopped")
                row = {"stage": stage, "case": case, **seen}
                rows.append(row)
                side_by_side.show(row)
    versions = side_by_side.versions()
    print(f"written: {side_by_side.write('start-up', rows, dtype='float32', versions=versions)}")


def _run(stage: str, workdir: pathlib.Path, cache: pathlib.Path, stop: bool = False) -> dict[str, str]:
    task = json.dumps({"stage": stage, "workdir": str(workdir), "stop": stop, "begun": time.time()})
    environment = {**os.environ, "MNV4_NAS_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, task], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _search(task: dict[str, Any]) -> None:
    """The process of one case: runs `nas-search`, and prints what it saw as JSON."""
    import jax

    from nas.cli import search
    from nas.search import steps

    seen = {name: 0.0 for name in ("first_step_s", *_COMPILING.values())}
    programs = 0

    def note(event: str, duration_secs: float, **_: Any) -> None:
        nonlocal programs
        if event in _COMPILING:
            seen[_COMPILING[event]] += duration_secs
            programs += _COMPILING[event] == "compile_s"

    jax.monitoring.register_event_duration_secs_listener(note)
    step = steps.Search.step

    def first(self: steps.Search, state: Any, batch: Any, root: Any) -> Any:
        result = jax.block_until_ready(step(self, state, batch, root))
        if not seen["first_step_s"]:
            seen["first_step_s"] = time.time() - task["begun"]
        return result

    steps.Search.step = first
    arguments = ["--stage", task["stage"], "--workdir", task["workdir"]]
    arguments += ["--set", f"search.steps.{task['stage']}={_STEPS}", "--set", "search.checkpoint_every=10"]
    if task["stop"]:
        _stop_after(_STEPS // 2)
    try:
        search.main(arguments)
    except SystemExit as stopped:
        assert task["stop"] and stopped.code == 130, stopped
    seen["whole_s"] = time.time() - task["begun"]
    print(json.dumps({**{name: f"{value:.1f}" for name, value in seen.items()}, "programs": programs}))


def _stop_after(steps: int) -> None:
    """As if someone pressed Ctrl-C when the line of progress shows that step."""
    import signal

    from nas.run.log import LiveLine

    show = LiveLine.show

    def shown(self: LiveLine, step: int, text: str) -> None:
        show(self, step, text)
        if step == steps:
            signal.raise_signal(signal.SIGINT)

    LiveLine.show = shown


if __name__ == "__main__":
    _search(json.loads(sys.argv[1])) if len(sys.argv) > 1 and sys.argv[1].startswith("{") else main()
