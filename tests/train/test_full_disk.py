"""A disk that fills while a network is trained or exported: one line, and all can be resumed."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np

_PROGRAM = """
import contextlib, io, json, pathlib, resource, shutil, signal, sys
import nas.cli.train, nas.cli.export, nas.report.training
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes beyond the limit fail, as on a full disk
run, folder, limits = sys.argv[1], pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
settings = ["epochs=3", "batch=16", "checkpoint_every=4", "evaluate_every=5"]
changes = [word for text in settings for word in ("--set", text)]

def call(command, *arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            command.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stopped:
            code = stopped.code
    return code, err.getvalue()

def limited(limit, *call_of):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        return call(*call_of)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

train = lambda name: (nas.cli.train, run, "--workdir", folder / name, *changes)
exporting = lambda name: (nas.cli.export, folder / name, "--format", "stablehlo")
undisturbed = call(*train("whole"))
call(*exporting("whole"))  # what the export compiles is then in the cache, which is limited too
out = []
for limit in limits:
    one = limited(limit, *train("full"))
    names = [str(path.relative_to(folder)) for path in (folder / "full").rglob("*")]
    out.append([*one, names])
resumed = call(*train("full"))
export = limited(2000, *exporting("full"))
left = [path.name for path in (folder / "full" / "export").rglob("*")]
again = call(*exporting("full"))
results = {"trained": out, "export": [*export, left], "ends": [undisturbed, resumed, again]}
(folder / "results.json").write_text(json.dumps(results))
"""


def test_a_full_disk_is_one_line_and_the_next_run_resumes(
    finished_run: pathlib.Path, search_environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """The limits are reached by the record, a checkpoint, the best weights, and the report."""
    limits = [500, 6000, 12000, 25000]
    arguments = [sys.executable, "-c", _PROGRAM, str(finished_run), str(tmp_path), str(limits)]
    done = subprocess.run(
        arguments, env=search_environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    refused = ("config.yaml", "checkpoints/4", "best/weights.npz", "report.html")
    for name, (code, err, names) in zip(refused, results["trained"], strict=True):
        line = err[err.index("nas-train: error: ") :].splitlines()[0]
        # The threads of the checkpoint library print more where a limit, not the disk, stops them.
        assert code == 1 and "nas/cli" not in err
        assert f"nas-train: error: {tmp_path / 'full' / name}: cannot be written (File" in line
        assert "free disk space, then run it again" in line
        assert f"full/{name}" not in names
        assert not [path for path in names if pathlib.Path(path).name.startswith(".")]
    code, err, left = results["export"]
    assert code == 2 and "tiny-fine.stablehlo: cannot be written (File too large)" in err
    assert left == []
    assert [code for code, _ in results["ends"]] == [0, 0, 0]
    for name in ("best", "last"):
        paths = [tmp_path / folder / name / "weights.npz" for folder in ("whole", "full")]
        with np.load(paths[0]) as whole, np.load(paths[1]) as full:
            assert all((whole[key] == full[key]).all() for key in whole)
    for name in ("metrics.jsonl", "summary.csv", "confusion.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "full" / name).read_bytes()
