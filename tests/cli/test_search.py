"""`nas-search` as people use it: every mistake is one line and exit code 2."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from nas.cli import search
from nas.engine import runner
from nas.run.loop import NotFinite

pytestmark = pytest.mark.usefixtures("elsewhere")


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown configuration": (
        ["--config", "quickstrt"],
        ["'quickstrt'", "known: ", "did you mean 'quickstart'?"],
    ),
    "no such file": (["--config", "absent.yaml"], ["absent.yaml: no such file"]),
    "no such file, but a near one": (
        ["--config", "{folder}/recipes.yaml"],
        ["no such file; did you mean recipe.yaml"],
    ),
    "unknown stage": (
        ["--stage", "medium"],
        ["no stage called 'medium'; known: coarse, fine, hybrid, one-stage"],
    ),
    "unknown key": (
        ["--set", "search.stepz.coarse=5"],
        ["search.stepz: unknown key", "did you mean 'steps'"],
    ),
    "unknown section": (
        ["--set", "serach.batch=5"],
        ["serach: unknown key", "did you mean 'search'"],
    ),
    "key below a value": (["--set", "name.x=5"], ["--set 'name.x=5': 'name' is a value"]),
    "resource without a number": (
        ["--ray", "local", "--worker-resource", "TPU"],
        ["'TPU': expected NAME=N"],
    ),
    "less than no core": (
        ["--ray", "local", "--worker-cpus", "-1"],
        ["--worker-cpus: got -1, expected at least 0"],
    ),
    "needs without a cluster": (["--worker-gpus", "1"], ["--worker-resource go with --ray"]),
    "replicas not shared evenly": (
        ["--ray", "local", "--workers", "3"],
        ["--workers 3: they share", "replicas 2"],
    ),
    "no equals sign": (
        ["--set", "seed"],
        ["--set 'seed': expected key.path=value, e.g. --set search.steps.coarse=500"],
    ),
    "no key": (["--set", "=5"], ["--set '=5': expected key.path=value"]),
    "value that is no YAML": (["--set", "seed=[1"], ["--set 'seed=[1'", "not valid YAML"]),
    "value of another type": (["--set", "search.batch=many"], ["search.batch: got 'many'"]),
    "value out of range": (["--set", "policy.delay=1.5"], ["policy.delay: got 1.5"]),
    "warm-up longer than delay": (
        ["--set", "policy.warmup=0.5"],
        ["warmup: got 0.5, expected at most delay (0.25)"],
    ),
    "negative seed": (["--seed", "-1"], ["seed: got -1"]),
    "unknown device": (
        ["--device", "pixel-6-cpu:2ms"],
        ["no device called 'pixel-6-cpu'", "did you mean 'pixel6-cpu'"],
    ),
    "wrong unit": (["--device", "pixel6-cpu:200M"], ["pixel6-cpu costs are in ms, got 'M'"]),
    "a table for another input size": (
        ["--device", "{extra}/strict.yaml:0.3ms"],
        [
            "device 'strict': table x86-64-int8 has no rows for 14 operations",
            "fallback: interpolate",
        ],
    ),
    "two targets on one device": (
        ["--device", "macs:0.008M", "--device", "macs:0.009M"],
        ["--device: got macs:0.008M, macs:0.009M; give one target for each device"],
    ),
    "a file as workdir": (
        ["--workdir", "{folder}/recipe.yaml"],
        ["--workdir", "is a file; choose a folder"],
    ),
    "malformed target": (["--device", "pixel6-cpu"], ["'pixel6-cpu': expected device:value"]),
    "target out of reach": (
        ["--device", "macs:500M"],
        [
            "target macs:500M: no architecture of tiny-coarse reaches it",
            "costs in this space range from 0.006",
            " to 0.01",
        ],
    ),
    "targets that contradict each other": (
        ["--device", "macs:0.0105M", "--device", "params:0.0009M"],
        [
            "targets macs:0.0105M and params:0.0009M contradict each other: ",
            "an architecture of tiny-coarse that costs",
            "--separate",
        ],
    ),
    "target below reach": (
        ["--device", "macs:0.0001M"],
        ["no architecture of tiny-coarse reaches it"],
    ),
    "one separate target": (
        ["--separate"],
        ["--separate finds a network for each target: give two targets or more"],
    ),
    "unknown kind of data": (
        ["--data", "zip:x"],
        ["data source 'zip:x': expected builtin:... or npz:..."],
    ),
    "unknown builtin data": (
        ["--data", "builtin:fashion-cluter"],
        ["no builtin data set 'fashion-cluter'", "did you mean 'fashion-clutter'"],
    ),
    "no such data": (["--data", "npz:absent.npz"], ["npz:absent.npz: no such file"]),
    "data that are no npz": (
        ["--data", "npz:{folder}/recipe.yaml"],
        ["recipe.yaml: cannot be read"],
    ),
    "images of another size": (
        ["--data", "npz:{extra}/large.npz"],
        ["takes images of (8, 8, 3)", "large.npz has (9, 9, 3)"],
    ),
    "another number of classes": (
        ["--data", "npz:{extra}/four.npz"],
        ["has 3 classes, but npz:", "four.npz has 4", "--set space.classes=4"],
    ),
    "no teacher": (
        ["--set", "data.labels=soft"],
        ["no teacher probabilities", "data.labels: hard"],
    ),
    "unknown base": (
        ["--set", "space.base=small-33"],
        ["no network called 'small-33'", "'small-32'"],
    ),
    "no such base": (["--set", "space.base=absent.yaml"], ["absent.yaml: no such file"]),
    "damaged configuration": (
        ["--config", "{extra}/damaged.yaml"],
        ["damaged.yaml:3: not valid YAML"],
    ),
    "configuration that is a list": (
        ["--config", "{extra}/list.yaml"],
        ["list.yaml:1: expected keys and values"],
    ),
    "mistake in a file": (["--config", "{extra}/mistake.yaml"], ["mistake.yaml:3: seed: got 'x'"]),
    "fine without coarse": (
        ["--stage", "fine"],
        ["fine stage starts from the coarse result", "--stage coarse"],
    ),
    "hybrid without fine": (
        ["--stage", "hybrid"],
        ["hybrid stage starts from the fine result", "--stage fine"],
    ),
}


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Files with mistakes."""
    folder = tmp_path_factory.mktemp("extra")
    (folder / "damaged.yaml").write_text("name: a\ntargets: [\n")
    (folder / "list.yaml").write_text("- a\n")
    (folder / "mistake.yaml").write_text("name: a\ntargets: ['macs:1M']\nseed: x\n")
    (folder / "strict.yaml").write_text(
        "kind: table\nname: strict\ntable: x86-64-int8\nfallback: error\n"
        "source: a test\ndate: '2026'\n"
    )
    for name, size, classes in (("large", 9, 3), ("four", 8, 4)):
        arrays = {}
        for split in ("train", "validation", "test"):
            arrays[f"{split}_images"] = np.zeros((classes, size, size, 3), np.uint8)
            arrays[f"{split}_images"][0] = 9
            arrays[f"{split}_labels"] = np.arange(classes)
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


@pytest.mark.parametrize(("arguments", "parts"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(
    search_fails: Callable[..., str],
    tmp_path: pathlib.Path,
    tiny_recipe: pathlib.Path,
    extra: pathlib.Path,
    arguments: list[str],
    parts: list[str],
) -> None:
    given = [text.format(folder=tiny_recipe.parent, extra=extra) for text in arguments]
    config = [] if "--config" in given else ["--config", str(tiny_recipe)]
    line = search_fails(*config, *given)
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize(
    "arguments",
    [["--frobnicate"], ["--seed", "x"], ["--workers", "2"], ["--plan", "h100:1"]],
    ids=" ".join,
)
def test_unknown_options(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        search.main(arguments)
    assert caught.value.code == 2 and "nas-search: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--dry-run"], ["matrix", "tries.yaml"]),
        (["--set", "seed=3"], ["derive", "--out", "other"]),
        (["--workdir", "runs/a"], ["diagnose"]),
        (["--stage", "fine"], ["derive", "--out", "other"]),
    ],
)
def test_options_before_a_command_are_not_lost(
    capsys: pytest.CaptureFixture[str], before: list[str], after: list[str]
) -> None:
    with pytest.raises(SystemExit):
        search.main([*before, *after])
    assert f"error: {before[0]} before `{after[0]}` does nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "stopped and saved in runs/tiny/coarse; to resume: nas-search"),
        (
            NotFinite("the loss is nan at step 3"),
            1,
            "error: the loss is nan at step 3; the last good checkpoint is kept in "
            "runs/tiny/coarse/checkpoints; try a smaller weights.learning_rate in another "
            "--workdir",
        ),
    ],
)
def test_ctrl_c_and_divergence_end_with_their_codes(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tiny_recipe: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(runner, "run", stop)
    with pytest.raises(SystemExit) as caught:
        search.main(["--stage", "coarse", "--config", str(tiny_recipe)])
    assert caught.value.code == code and message in capsys.readouterr().err
