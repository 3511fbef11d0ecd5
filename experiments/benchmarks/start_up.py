"""Question: how long does a search take to start, with and without a cache, and to resume?

    python -m experiments.benchmarks.start_up

`nas-search` in a process of its own, 20 steps of the quickstart's coarse and fine stage: with an
empty cache, with the cache of that run, and stopped at step 10 and resumed. Answer:
`results/start-up*.csv` and experiments/RESULTS.md.
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
    """Run all cases, print their rows, and write the CSV file."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for stage in ("coarse", "fine"):
            for case, workdir in (
                ("cold", "a"),
                ("cached", "b"),
                ("stopped", "c"),
                ("resumed", "c"),
            ):
                times = _run(
                    stage, folder / workdir, folder / f"cache-{stage}", stop=case == "stopped"
                )
                row = {"stage": stage, "case": case, **times}
                rows.append(row)
                side_by_side.show(row)
    versions = side_by_side.versions()
    print(f"written: {side_by_side.write('start-up', rows, dtype='float32', versions=versions)}")


def _run(
    stage: str, workdir: pathlib.Path, cache: pathlib.Path, stop: bool = False
) -> dict[str, str]:
    task = json.dumps({"stage": stage, "workdir": str(workdir), "stop": stop, "start": time.time()})
    environment = {**os.environ, "MNV4_NAS_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, task],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _search(task: dict[str, Any]) -> None:
    """Process of one case: runs `nas-search`, and prints its times as JSON."""
    import jax

    from nas.cli import search
    from nas.engine import step

    times = {name: 0.0 for name in ("first_step_s", *_COMPILING.values())}
    programs = 0

    def note(event: str, duration_secs: float, **_: Any) -> None:
        nonlocal programs
        if event in _COMPILING:
            times[_COMPILING[event]] += duration_secs
            programs += _COMPILING[event] == "compile_s"

    jax.monitoring.register_event_duration_secs_listener(note)
    original = step.Search.step

    def first(self: step.Search, state: Any, batch: Any, root_key: Any) -> Any:
        result = jax.block_until_ready(original(self, state, batch, root_key))
        if not times["first_step_s"]:
            times["first_step_s"] = time.time() - task["start"]
        return result

    step.Search.step = first
    arguments = ["--stage", task["stage"], "--workdir", task["workdir"]]
    arguments += [
        "--set",
        f"search.steps.{task['stage']}={_STEPS}",
        "--set",
        "search.checkpoint_every=10",
    ]
    if task["stop"]:
        _stop_after(_STEPS // 2)
    try:
        search.main(arguments)
    except SystemExit as stopped:
        assert task["stop"] and stopped.code == 130, stopped
    times["whole_s"] = time.time() - task["start"]
    print(
        json.dumps(
            {**{name: f"{value:.1f}" for name, value in times.items()}, "programs": programs}
        )
    )


def _stop_after(steps: int) -> None:
    """Interrupt as Ctrl-C does, when the progress shows that step."""
    import signal

    from nas.host.progress import ProgressBar

    update = ProgressBar.update

    def update_and_stop(self: ProgressBar, step: int, text: str) -> None:
        update(self, step, text)
        if step == steps:
            signal.raise_signal(signal.SIGINT)

    ProgressBar.update = update_and_stop


if __name__ == "__main__":
    _search(json.loads(sys.argv[1])) if len(sys.argv) > 1 and sys.argv[1].startswith(
        "{"
    ) else main()
