"""Kits can be written, run (with a fake phone and compiler, and the real runtime) and read back."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from latency_tables.measurement import Measurement, single_rows
from latency_tables.table import Row
from nas.measurement import bench_kit
from search_spaces import OpCall, Shape

CONV = OpCall("conv2d", Shape(8, 8, 3), 16, 3, 2, "relu", norm=True)
MATMUL = OpCall("matmul", Shape(4, 4, 8), 16, other=Shape(2, 2, 4), depth=4)
OPS = {"conv": (CONV,), "scores": (MATMUL,), "net": (CONV, MATMUL, CONV)}
MODELS = {name: f"model {name}".encode() for name in OPS}
FOLDED = {name: tuple(op.folded for op in ops) for name, ops in OPS.items()}
needs_sh = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def android(tmp_path: pathlib.Path) -> pathlib.Path:
    """A kit for Android."""
    bench_kit.write_kit(MODELS, OPS, tmp_path / "kit", "android")
    return tmp_path / "kit"


@pytest.fixture
def edgetpu(tmp_path: pathlib.Path) -> pathlib.Path:
    """A kit for an Edge TPU."""
    bench_kit.write_kit(MODELS, OPS, tmp_path / "kit", "edgetpu")
    return tmp_path / "kit"


def _names(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


MODEL_FILES = ["models/conv.tflite", "models/net.tflite", "models/scores.tflite"]


def test_contents(android: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert _names(android) == ["README.md", "models.csv", *MODEL_FILES, "run_android.sh"]
    assert (android / "models" / "net.tflite").read_bytes() == b"model net"
    assert (android / "models.csv").read_text().splitlines() == [
        "file,kind,height,width,channels,out_channels,kernel,stride,groups,activation,"
        "other_height,other_width,other_channels,depth",
        "conv.tflite,conv2d,8,8,3,16,3,2,1,relu,,,,0",
        "scores.tflite,matmul,4,4,8,16,1,1,1,none,2,2,4,4",
        "net.tflite,conv2d,8,8,3,16,3,2,1,relu,,,,0",
        ",matmul,4,4,8,16,1,1,1,none,2,2,4,4",
        ",conv2d,8,8,3,16,3,2,1,relu,,,,0",
    ]
    bench_kit.write_kit(MODELS, OPS, tmp_path / "other", "edgetpu")
    expected = ["README.md", "compile_edgetpu.sh", "models.csv", *MODEL_FILES, "run_edgetpu.py"]
    assert _names(tmp_path / "other") == expected


@needs_sh
@pytest.mark.parametrize("name", ["run_android.sh", "compile_edgetpu.sh"])
def test_scripts_are_shell(name: str) -> None:
    script = pathlib.Path(bench_kit.__file__).parent / "kits" / name
    for shell in ("bash", "sh"):
        subprocess.run([shell, "-n", str(script)], check=True)


# Output of `benchmark_model`, shortened; {us} is the mean.
PRINTED = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: The input model file size (MB): 0.01
INFO: Initialized session in 1.234ms.
INFO: Running benchmark for at least 50 iterations and at least 0.5 seconds but terminate if \
exceeding 600 seconds.
INFO: count=50 first=99 curr=9 min=9 max=99 avg=12.5 std=30 p5=9 median=9 p95=9
INFO: Running benchmark for at least 1000 iterations and at least 0 seconds but terminate if \
exceeding 600 seconds.
INFO: {counts}
INFO: Inference timings in us: Init: 1234, First inference: 99, \
Warmup (avg): 12.5, Inference (avg): {us}
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE.
INFO: Memory footprint delta from the start of the tool (MB): init=1.2 overall=3.4
"""


def _repeat(number: int, us: str, counts: str) -> str:
    return f"# repeat {number}\n{PRINTED.format(us=us, counts=counts)}"


def _printed(name: str, *means: float) -> str:
    """Section of a model in results.txt; the deviation of a repeat is a tenth of its mean."""
    repeats = [
        _repeat(n, f"{us:g}", f"count=1000 first=9 curr=9 min=8 max=10 avg={us:g} std={us / 10:g}")
        for n, us in enumerate(means, start=1)
    ]
    return f"# begin {name}.tflite\n{''.join(repeats)}# end {name}.tflite\n"


def test_results_of_a_phone(android: pathlib.Path) -> None:
    """Median of the repeats' means, deviation of that repeat, number of all runs.

    A repeat of equal runs has no deviation.
    """
    same = _repeat(1, "1.5e+06", "count=7 curr=1500000 (all same)")
    equal = f"# begin scores.tflite\n{same}# end scores.tflite\n"
    interrupted = f"# begin net.tflite\n{_repeat(1, '1', 'count=1000 avg=1 std=1')}"
    text = (
        "# device: Some Phone\n"
        + _printed("conv", 30, 10, 20)
        + equal
        + interrupted
        + _printed("net", 5)
    )
    (android / "results.txt").write_text(text)
    measured = bench_kit.read_kit(android)
    assert measured == (
        Measurement("conv", FOLDED["conv"], 0.02, 0.002, 3000),
        Measurement("scores", FOLDED["scores"], 1500.0, 0.0, 7),
        Measurement("net", FOLDED["net"], 0.005, 0.0005, 1000),
    )
    assert single_rows(measured) == (
        Row(CONV.folded, 0.02, 0.002, 3000),
        Row(MATMUL, 1500.0, 0.0, 7),
    )


def test_partial_results(android: pathlib.Path) -> None:
    (android / "results.txt").write_text(_printed("net", 5) + "# begin conv.tflite\n")
    with pytest.raises(
        ValueError, match=r"results\.txt: lacks 2 of 3 models, first conv\.tflite; start the script"
    ):
        bench_kit.read_kit(android)
    assert [one.name for one in bench_kit.read_kit(android, partial=True)] == ["net"]


WRONG = [
    (
        "# begin conv.tflite\nsegmentation fault\n# end conv.tflite\n",
        ":1: conv.tflite has no times; see the output of benchmark_model there",
    ),
    (
        "# begin conv.tflite\n# end net.tflite\n",
        ":2: got the end of net.tflite, but conv.tflite has begun",
    ),
    ("# end net.tflite\n", ":1: got the end of net.tflite, but no model has begun"),
    (_printed("conv", float("nan")), ":10: std: got 'nan', expected a number, 0 or more"),
    (
        _printed("other", 5),
        ": has results of other.tflite, which is not in .*models.csv; are they from another kit",
    ),
    ("", ": lacks 3 of 3 models"),
    ("file,ms,std_ms,count\nconv.tflite,1,0\n", ":2: expected 4 values"),
    ("file,ms,std_ms,count\nconv.tflite,0,0,5\n", ":2: ms: got '0', expected a positive number"),
    ("file,ms,std_ms,count\nconv.tflite,1,0,0\n", ":2: count: got '0', expected a positive number"),
    (
        "file,ms,std_ms,count\n" + 2 * "conv.tflite,1,0,5\n",
        ":3: conv.tflite is there twice; leave one out",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_results_are_refused(android: pathlib.Path, text: str, message: str) -> None:
    path = android / "mine.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        bench_kit.read_kit(android, path, partial=not text)


def test_other_mistakes(android: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        ValueError, match="`device`: got 'toaster', expected one of android, edgetpu"
    ):
        bench_kit.write_kit(MODELS, OPS, tmp_path / "new", "toaster")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="the same names; got net in one of them only"):
        bench_kit.write_kit(
            MODELS, {"conv": OPS["conv"], "scores": OPS["scores"]}, tmp_path / "new", "android"
        )
    with pytest.raises(ValueError, match=r"got the name '\.\./x', expected letters, digits"):
        bench_kit.write_kit({"../x": b""}, {"../x": (CONV,)}, tmp_path / "new", "android")
    with pytest.raises(ValueError, match="is not empty; write the kit to a new folder"):
        bench_kit.write_kit(MODELS, OPS, android, "android")
    with pytest.raises(
        ValueError,
        match="has 0 files of results, expected results.txt or results.csv; run the kit's",
    ):
        bench_kit.read_kit(android)
    (android / "results.txt").write_text(
        _printed("conv", 1) + _printed("net", 1) + _printed("scores", 1)
    )
    manifest = android / "models.csv"
    for old, new, message in [
        ("conv2d", "conv9d", ":2: kind: got 'conv9d'"),
        ("conv.tflite", "", ":2: file: got '', expected the file of the first model"),
        ("kind", "sort", ":1: got columns file, sort"),
    ]:
        whole = manifest.read_text()
        manifest.write_text(whole.replace(old, new, 1))
        with pytest.raises(ValueError, match=re.escape(str(manifest)) + message):
            bench_kit.read_kit(android)
        manifest.write_text(whole)


# A fake phone: stores pushed files in $PHONE and "benchmarks" them; fails for the model in $BROKEN.
ADB = """\
#!/bin/sh
case $1 in
push) cp "$2" "$PHONE/$(basename "$3")" ;;
shell)
  case $2 in
  getprop*) echo "Some Phone" ;;
  *benchmark_model\\ --graph*)
    echo "$2" >>"$PHONE/commands"
    file=$(echo "$2" | sed 's|.*--graph=[^ ]*/\\([^ /]*\\) .*|\\1|')
    [ -f "$PHONE/$file" ] && [ "$file" != "$BROKEN" ] || { echo "ERROR: no $file"; exit 1; }
    cat "$PHONE/printed" ;;
  rm*) rm "$PHONE/$(basename "$2")" ;;
  esac ;;
esac
"""


@needs_sh
def test_the_script_for_android(android: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A model that fails is named and stays unfinished; a second start measures only that one."""
    phone, tools = tmp_path / "phone", tmp_path / "tools"
    phone.mkdir()
    tools.mkdir()
    (tools / "adb").write_text(ADB)
    (tools / "adb").chmod(0o755)
    (tmp_path / "benchmark_model").write_text("")
    (phone / "printed").write_text(
        PRINTED.format(us=20, counts="count=7 avg=20 std=2").replace("\n", "\r\n")
    )
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PHONE": str(phone),
        "REPEATS": "2",
    }

    def run(broken: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(android / "run_android.sh"), str(tmp_path / "benchmark_model"), "f0"]
        (phone / "commands").write_text("")
        return subprocess.run(
            command,
            env={**environment, "BROKEN": broken},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    assert "failed: net.tflite" in run("net.tflite").stderr
    assert [one.name for one in bench_kit.read_kit(android, partial=True)] == ["conv", "scores"]
    done = run("")
    assert done.stdout.splitlines()[0] == "net.tflite" and not done.stderr
    commands = (phone / "commands").read_text()
    assert commands.count("net.tflite") == commands.count("--graph") == 2
    assert re.search(
        r"taskset f0 \S+/benchmark_model .*--num_threads=1 .*--num_runs=1000 ",
        " ".join(commands.split()),
    )
    assert bench_kit.read_kit(android) == tuple(
        Measurement(name, FOLDED[name], 0.02, 0.002, 14) for name in ("conv", "scores", "net")
    )
    assert sorted(path.name for path in phone.iterdir()) == [
        "benchmark_model",
        "commands",
        "printed",
    ]


COMPILER = """\
#!/bin/sh
# edgetpu_compiler -s -o FOLDER MODEL
case $4 in *scores*) echo "not supported"; exit 1 ;; esac
cp "$4" "$3/$(basename "$4" .tflite)_edgetpu.tflite"
"""


@needs_sh
@pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)
def test_the_scripts_for_an_edge_tpu(tmp_path: pathlib.Path) -> None:
    """Compiled (that is: copied), run on the CPU, interrupted, resumed, read."""
    from nas.measurement.models import operation_model

    kit, tools = tmp_path / "kit", tmp_path / "tools"
    model = operation_model(CONV, "int8")
    bench_kit.write_kit(dict.fromkeys(OPS, model), OPS, kit, "edgetpu")
    tools.mkdir()
    (tools / "edgetpu_compiler").write_text(COMPILER)
    (tools / "edgetpu_compiler").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", str(kit / "compile_edgetpu.sh")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "rejected (see compiled/NAME.txt): scores\n"
    runner = [
        sys.executable,
        str(kit / "run_edgetpu.py"),
        "--delegate",
        "none",
        "--runs",
        "3",
        "--repeats",
        "3",
    ]
    subprocess.run(runner, check=True, capture_output=True, timeout=60)
    results = kit / "results.csv"
    first = results.read_text()
    # As if the script had been killed while it wrote the last line.
    results.write_text(first[:-4])
    done = subprocess.run(runner, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[0] == "net.tflite"
    assert results.read_text().splitlines()[:2] == first.splitlines()[:2]
    measured = bench_kit.read_kit(kit, partial=True)
    assert [(one.name, one.ops, one.count) for one in measured] == [
        ("conv", FOLDED["conv"], 9),
        ("net", FOLDED["net"], 9),
    ]
    assert all(one.ms > 0 for one in measured)


def test_results_of_a_board(edgetpu: pathlib.Path) -> None:
    """A last line that was cut off does not count."""
    (edgetpu / "results.csv").write_text(
        "file,ms,std_ms,count\nnet.tflite,1.25,0.01,5000\nconv.tflite,0.5,0,50"
    )
    assert bench_kit.read_kit(edgetpu, partial=True) == (
        Measurement("net", FOLDED["net"], 1.25, 0.01, 5000),
    )
