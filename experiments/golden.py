"""Question: does a change of the code change a result?

    python -m experiments.golden --out after.json --against before.json

Runs coarse, fine, hybrid, one-stage and separate searches, two derivations, a diagnosis and two
distillations through their commands, short but complete. Writes one hash for each result:
architectures, candidates, metrics, policies, weights, trainings and records. Times and versions
are left out. Run it in a checkout of the old code (copy this file there if it lacks it), then in
the new one.

Results depend on the processor's instruction set, the number of cores and the version of JAX; the
file names them. Takes about 6 minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

CONFIG = """\
schema: 1
name: golden
seed: 3
targets: ["pixel6-cpu:0.12ms"]
data: {source: "builtin:fashion-clutter"}
space:
  base: small-32
  coarse: {multipliers: [0.5, 0.75, 1.0], expansions: [2.0, 3.0, 4.0]}
reward: {kind: absolute, exponent: -0.1}
weights: {optimizer: sgd, learning_rate: 0.2, warmup: 0.05, l2: 1.0e-5, clip_norm: 5.0}
search:
  steps: {coarse: 40, fine: 40, hybrid: 30, one_stage: 30}
  replicas: 2
  batch: 16
  validation_batch: 32
  checkpoint_every: 20
derive: {tolerance: 0.005, survivors: 6, images: 128}
"""
"""Configuration of the searches."""

_TIMES = ("seconds", "seconds_per_step", "versions", "images_per_second")


def main() -> None:
    """Run everything, write the hashes, and compare them if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file of the hashes")
    parser.add_argument("--against", type=pathlib.Path, help="JSON file of an earlier run")
    parser.add_argument(
        "--keep", type=pathlib.Path, help="folder of the runs (default: a temporary one)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        results = {"machine": machine(), "hashes": hashes(folder)}
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.against:
        before = json.loads(options.against.read_text(encoding="utf-8"))
        different = differences(before, results)
        print("\n".join(different) or f"all {len(results['hashes'])} are equal")
        raise SystemExit(1 if different else 0)


def machine() -> dict[str, Any]:
    """Properties of this machine that results depend on.

    Returns:
      {name: value}.
    """
    import jax

    flags = (
        pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if platform.system() == "Linux"
        else ""
    )
    best = next(
        (name for name in ("amx_tile", "avx512f", "avx2") if name in flags), platform.machine()
    )
    return {"instructions": best, "cores": len(os.sched_getaffinity(0)), "jax": jax.__version__}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Compare the hashes of two runs.

    Args:
      before: Content of the first run's file.
      after: Content of the second run's file.

    Returns:
      A line for each result of the first run that differs in the second one, or one that says that
      the machines differ.
    """
    if before["machine"] != after["machine"]:
        return [f"machines differ: {before['machine']}, here {after['machine']}"]
    return [
        f"{name}: differs"
        for name, value in before["hashes"].items()
        if value != after["hashes"].get(name)
    ]


def hashes(folder: pathlib.Path) -> dict[str, str]:
    """Run all commands in a folder.

    Args:
      folder: Folder of the runs; made if it does not exist.

    Returns:
      {result: hash}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "golden.yaml").write_text(CONFIG, encoding="utf-8")
    _photos(folder / "photos.npz")
    config = ["--config", str(folder / "golden.yaml")]
    two = ["--device", "pixel6-cpu:0.12ms", "--device", "macs:5M", "--separate"]
    run, each, one = (str(folder / name) for name in ("run", "each", "one"))
    _run("search", *config, "--workdir", run)
    _run("search", *config, "--stage", "hybrid", "--workdir", run)
    _run("search", *config, "--stage", "one-stage", "--workdir", one)
    _run("search", *config, *two, "--stage", "coarse", "--workdir", each)
    evolution = ["--evaluations", "24", "--out", str(folder / "derived")]
    _run(
        "search", "derive", "--workdir", run, "--stage", "coarse", "--device", "macs:5M", *evolution
    )
    quick = ["--steps", "20", "--batch", "16"]
    _run(
        "search", "diagnose", "--workdir", run, "--stage", "coarse", "--architectures", "5", *quick
    )
    finals = ["--by", "random", "--evaluations", "8", "--finalists", "2", "--seeds", "2", *quick]
    _run(
        "search",
        "derive",
        "--workdir",
        run,
        "--stage",
        "coarse",
        *finals,
        "--out",
        str(folder / "finals"),
    )
    source = ["--source", f"npz:{folder / 'photos.npz'}", "--shard-images", "100", "--size", "24"]
    _run("distil", *source, "--recipe", "d1", "--replicas", "2", "--out", str(folder / "d1"))
    _run("distil", *source, "--recipe", "d2", "--storage", "seeds", "--out", str(folder / "d2"))
    return {
        **_of_tree(folder, "architecture.yaml", _architecture),
        **_of_tree(folder, "candidates.csv", _bytes),
        **_of_tree(folder, "metrics.jsonl", _json_lines),
        **_of_tree(folder, "policy.jsonl", _json_lines),
        **_of_tree(folder, "architectures.csv", _bytes),
        **_of_tree(folder, "diagnosis.json", _diagnosis),
        **_of_tree(folder, "trained.csv", _trainings),
        **_of_tree(folder, "*.array_record", _bytes),
        **_weights(folder),
    }


def _run(command: str, *arguments: str) -> None:
    print("nas", command, *arguments, flush=True)
    subprocess.run(
        [sys.executable, "-m", f"nas.cli.{command}", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _photos(path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 160), ("validation", 40), ("test", 40)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 30, 34, 3)).astype(np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 4
    np.savez(path, **arrays)


def _of_tree(folder: pathlib.Path, pattern: str, content: Any) -> dict[str, str]:
    found = sorted(folder.rglob(pattern))
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(content(path)).hexdigest()[:16]
        for path in found
    }


def _bytes(path: pathlib.Path) -> bytes:
    return path.read_bytes()


def _architecture(path: pathlib.Path) -> bytes:
    import search_spaces

    spec = search_spaces.load(path)
    found = spec.model_dump(mode="json")["found"]
    # `metrics` was called `quality` before.
    metrics = found.get("quality", found.get("metrics"))
    provenance = {"stage": found["stage"], "seed": found["seed"], "quality": metrics}
    provenance |= {name: found[name] for name in ("cost", "decisions")}
    blocks = [block.model_dump(mode="json") for block in spec.blocks]
    return json.dumps([blocks, provenance]).encode()


def _diagnosis(path: pathlib.Path) -> bytes:
    """The numbers of a diagnosis, without the sentence about them."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({name: value for name, value in data.items() if name != "verdict"}).encode()


def _json_lines(path: pathlib.Path) -> bytes:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return json.dumps([{k: v for k, v in row.items() if k not in _TIMES} for row in rows]).encode()


def _trainings(path: pathlib.Path) -> bytes:
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return "\n".join(
        sorted(f"{row['vector']} {row['seed']} {row['accuracy']}" for row in rows)
    ).encode()


def _weights(folder: pathlib.Path) -> dict[str, str]:
    """Hashes of the weights and of the policy in the newest checkpoint of each search."""
    from orbax.checkpoint import v1 as ocp

    found = {}
    for checkpoints in sorted(folder.rglob("checkpoints")):
        newest = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
        with ocp.training.Checkpointer(str(checkpoints)) as checkpointer:
            arrays = checkpointer.load(newest)
        for part in ("params", "policy"):
            digest = hashlib.sha256()
            for name in sorted(name for name in arrays if name.startswith(f".{part}")):
                digest.update(name.encode() + np.asarray(arrays[name]).tobytes())
            found[f"{checkpoints.parent.relative_to(folder).as_posix()}: {part}"] = (
                digest.hexdigest()[:16]
            )
    return found


if __name__ == "__main__":
    main()
