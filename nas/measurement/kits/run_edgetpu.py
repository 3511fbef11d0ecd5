"""Measure every model of a folder with the TensorFlow Lite runtime of a board; write results.csv.

    python3 run_edgetpu.py [MODELS] [--delegate libedgetpu.so.1] [--runs 1000] [--repeats 5]
        [--output results.csv]

Requires Python 3.7 or newer with numpy and one of tflite_runtime, ai_edge_litert and tensorflow.
`--delegate none` runs on the CPU. If the script is interrupted, start it again to measure the
remaining models.
"""

import argparse
import csv
import importlib
import os
import pathlib
import statistics
import time

COLUMNS = ["file", "ms", "std_ms", "count"]


def main():
    """Parse the options, and measure the models without a result."""
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Measure every model of a folder.")
    parser.add_argument("models", nargs="?", default=str(here / "compiled"))
    parser.add_argument(
        "--delegate",
        default="libedgetpu.so.1",
        help="library of the accelerator; none: run on the CPU",
    )
    parser.add_argument("--runs", type=int, default=1000, help="runs per repeat")
    parser.add_argument(
        "--repeats", type=int, default=5, help="repeats; the result is the median of their means"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", default=str(here / "results.csv"))
    options = parser.parse_args()
    measured = finished(options.output)
    for path in sorted(pathlib.Path(options.models).glob("*.tflite")):
        file = path.name.replace("_edgetpu.tflite", ".tflite")
        if file not in measured:
            row = measure(load(str(path), options), options.runs, options.repeats)
            print(file, row[0], "ms", flush=True)
            append(options.output, [file] + row)


def load(path, options):
    """Interpreter of a model, with its inputs filled with random bytes.

    Args:
      path: File of the model.
      options: Options of the command.

    Returns:
      The interpreter.
    """
    import numpy

    tflite = runtime()
    delegates = [] if options.delegate == "none" else [tflite.load_delegate(options.delegate)]
    model = tflite.Interpreter(
        model_path=path, experimental_delegates=delegates, num_threads=options.threads
    )
    model.allocate_tensors()
    random = numpy.random.RandomState(0)
    for details in model.get_input_details():
        values = random.randint(-100, 100, size=details["shape"])
        model.set_tensor(details["index"], values.astype(details["dtype"]))
    return model


def runtime():
    """Module with `Interpreter` and `load_delegate`."""
    for name in (
        "tflite_runtime.interpreter",
        "ai_edge_litert.interpreter",
        "tensorflow.lite.python.interpreter",
    ):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
    raise SystemExit("run_edgetpu.py: requires tflite_runtime, ai_edge_litert or tensorflow")


def measure(model, runs, repeats):
    """Measure the latency of a model.

    Args:
      model: Interpreter.
      runs: Number of runs in a repeat.
      repeats: Number of repeats.

    Returns:
      [median over the repeats of their mean in ms, standard deviation of the runs of that repeat in
      ms, number of all runs].
    """
    for _ in range(min(runs, 50)):
        model.invoke()
    means = []
    for _ in range(repeats):
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            model.invoke()
            times.append((time.perf_counter() - start) * 1e3)
        means.append((statistics.mean(times), statistics.pstdev(times)))
    mean, deviation = sorted(means)[(len(means) - 1) // 2]
    return [f"{mean:.6g}", f"{deviation:.3g}", runs * repeats]


def finished(output):
    """Remove a line that a crash cut off, and list the measured models.

    Args:
      output: File of results, made if it does not exist.

    Returns:
      Set of the models' file names.
    """
    if not os.path.exists(output):
        append(output, COLUMNS)
    with open(output) as file:
        complete = [line for line in file if line.endswith("\n")]
    with open(output, "w") as file:
        file.writelines(complete)
    return {row["file"] for row in csv.DictReader(complete)}


def append(output, row):
    """Append a line; it is on the disk when this returns.

    Args:
      output: File of results.
      row: Cells.
    """
    with open(output, "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
