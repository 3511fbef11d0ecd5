"""Bench kits: folders of models and scripts to measure on another device, and their results."""

from __future__ import annotations

import csv
import datetime
import io
import os
import pathlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

from latency_tables import csv_files
from latency_tables.importers import Imported
from latency_tables.importers.base import NOT_STATED, table_name
from latency_tables.measurement import (
    MEASUREMENT_COLUMNS,
    Measurement,
    format_measurements,
    parse_measurements,
)
from search_spaces import OpCall, files

KitDevice = Literal["android", "edgetpu"]
"""Kind of device that a kit is for."""
MODELS = "models"
"""Folder of the models in a kit."""
MANIFEST = "models.csv"
"""File with the operations of each model in a kit."""
RESULTS: dict[KitDevice, str] = {"android": "results.txt", "edgetpu": "results.csv"}
"""{device: file that its script writes}."""

_FILES: dict[KitDevice, dict[str, str]] = {
    "android": {"run_android.sh": "run_android.sh", "README_android.md": "README.md"},
    "edgetpu": {
        "compile_edgetpu.sh": "compile_edgetpu.sh",
        "run_edgetpu.py": "run_edgetpu.py",
        "README_edgetpu.md": "README.md",
    },
}
"""{device: {name in `kits/`: name in the kit}}."""
_TIMES = ("ms", "std_ms", "count")
_COLUMNS = ("file", *(column for column in MEASUREMENT_COLUMNS if column not in ("name", *_TIMES)))
_RESULT_COLUMNS = ("file", *_TIMES)


def write_kit(
    models: Mapping[str, bytes],
    ops: Mapping[str, Sequence[OpCall]],
    folder: str | os.PathLike[str],
    device: KitDevice,
) -> None:
    """Write a kit: models, `models.csv` with their operations, scripts, and a README.

    Args:
      models: {name: TFLite model}; an Edge TPU runs INT8 models only.
      ops: {name: operations of that model}: one for a single operation, several for a block or a
        network.
      folder: New or empty folder.
      device: Kind of device.

    Raises:
      ValueError: The device is unknown, a name cannot be that of a file, a model has no operations,
        or the folder is not empty.
    """
    folder = pathlib.Path(folder)
    if device not in get_args(KitDevice):
        raise ValueError(
            f"`device`: got {device!r}, expected one of {', '.join(get_args(KitDevice))}"
        )
    if not models:
        raise ValueError("`models`: got none; expected at least one")
    if unmatched := sorted(set(models) ^ set(ops)):
        raise ValueError(
            "`models` and `ops` must have the same names; "
            f"got {', '.join(unmatched)} in one of them only"
        )
    for name in models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(
                f"`models`: got the name {name!r}, expected letters, digits, '.', '_' and '-'"
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is not empty; write the kit to a new folder")
    for name, model in models.items():
        files.write_atomically(folder / MODELS / f"{name}.tflite", model)
    manifest = _format({f"{name}.tflite": ops[name] for name in models})
    files.write_atomically(folder / MANIFEST, manifest)
    for source, name in _FILES[device].items():
        text = (pathlib.Path(__file__).parent / "kits" / source).read_text(encoding="utf-8")
        files.write_atomically(folder / name, text)


def read_kit(
    folder: str | os.PathLike[str],
    results: str | os.PathLike[str] | None = None,
    *,
    partial: bool = False,
) -> tuple[Measurement, ...]:
    """Read the results of a kit; `latency_tables.measurement.single_rows` makes table rows.

    Args:
      folder: Folder of the kit.
      results: File that its script wrote; by default the one in the kit.
      partial: Whether models without a result are left out; otherwise they are an error.

    Returns:
      A measurement for each model with a result.

    Raises:
      ValueError: One line with file, line and cause.
    """
    folder = pathlib.Path(folder)
    path = pathlib.Path(results) if results is not None else _only_results(folder)
    text = csv_files.read_text(path)
    is_csv = text.partition("\n")[0] == ",".join(_RESULT_COLUMNS)
    times = dict(_results_csv(text, path) if is_csv else _results_text(text, path))
    rows = _read_manifest(folder / MANIFEST)
    names = list(dict.fromkeys(file for file, _ in rows))
    if unknown := sorted(set(times) - set(names)):
        raise ValueError(
            f"{path}: has results of {unknown[0]}, which is not in {folder / MANIFEST}; "
            "are they from another kit?"
        )
    missing = [name for name in names if name not in times]
    if missing and (not partial or not times):
        raise ValueError(
            f"{path}: lacks {len(missing)} of {len(names)} models, first {missing[0]}; "
            "start the script again, which resumes, or ask for a partial result"
        )
    return parse_measurements(_join(rows, times), str(folder / MANIFEST))


def imported(folder: str | os.PathLike[str], *, partial: bool = False) -> Imported:
    """Read the results of a kit in the form of an importer; the user must add device and processor.

    Args:
      folder: Folder of the kit.
      partial: See `read_kit`.

    Returns:
      Measurements and fields of a manifest.

    Raises:
      ValueError: As `read_kit`.
    """
    folder = pathlib.Path(folder)
    results = _only_results(folder)
    android = results.name == RESULTS["android"]
    fields = {
        "name": table_name(folder.resolve().name, "int8"),
        "runtime": "TensorFlow Lite benchmark_model, version " + NOT_STATED
        if android
        else "Edge TPU runtime",
        "delegate": "XNNPACK" if android else "Edge TPU",
        "date": datetime.date.fromtimestamp(results.stat().st_mtime).isoformat(),
        "licence": NOT_STATED,
        "protocol": "the kit's script",
        "source": "measured with a kit of nas-latency",
        "dtype": "int8",
        "how": "measured",
        "threads": 1,
    }
    note = "every model is one operation or one network"
    return Imported(read_kit(folder, partial=partial), fields, note, {})


def _format(ops: Mapping[str, Sequence[OpCall]]) -> str:
    """`models.csv`: one line per operation; `file` is empty except in a model's first line."""
    records = (Measurement(file, tuple(model_ops), 1.0) for file, model_ops in ops.items())
    text = format_measurements(records)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in csv.DictReader(io.StringIO(text)):
        writer.writerow([row["name"], *(row[column] for column in _COLUMNS[1:])])
    return out.getvalue()


def _read_manifest(path: pathlib.Path) -> list[tuple[str, Mapping[str, str]]]:
    """(file, cells) of every line of `models.csv`."""
    rows: list[tuple[str, Mapping[str, str]]] = []
    for row in csv_files.read(path, _COLUMNS):
        if not row["file"] and not rows:
            raise ValueError(f"{row.where}: file: got '', expected the file of the first model")
        rows.append((row["file"] or rows[-1][0], row.cells))
    return rows


def _join(
    rows: Sequence[tuple[str, Mapping[str, str]]], times: Mapping[str, dict[str, str]]
) -> str:
    """Measurements of the models that have times, as CSV text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(MEASUREMENT_COLUMNS)
    for file, cells in rows:
        if file in times:
            values = {**cells, "name": cells["file"].removesuffix(".tflite")}
            values |= times[file] if cells["file"] else dict.fromkeys(_TIMES, "")
            writer.writerow(values[column] for column in MEASUREMENT_COLUMNS)
    return out.getvalue()


def _results_csv(text: str, path: pathlib.Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file, times) from the results of `run_edgetpu.py`, without a last line that was cut off."""
    complete = text[: text.rfind("\n") + 1]
    if complete.count("\n") < 2:
        return
    seen: set[str] = set()
    for row in csv_files.parse(complete, str(path), _RESULT_COLUMNS):
        if row["file"] in seen:
            raise ValueError(f"{row.where}: {row['file']} is there twice; leave one out")
        seen.add(row["file"])
        row.positive("ms", "")
        row.nonnegative("std_ms", "")
        row.positive("count", "")
        yield row["file"], {column: row[column] for column in _TIMES}


_RUNS = re.compile(r"\bcount=([0-9]+)\b(?:.*\bstd=(\S+))?")
_MEAN = re.compile(r"\bInference \(avg\): ([^\s,]+)")


def _results_text(text: str, path: pathlib.Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file, times) from the results of `run_android.sh`: output of `benchmark_model`, in us.

    Each repeat has counts of the warm-up, counts of the real runs, and a summary with their mean. A
    model without an end was interrupted and does not count.
    """
    file = ""
    file_line = 0
    repeats: list[tuple[float, float, int]] = []
    std, count = 0.0, 1
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}:{number}"
        if line.startswith("# begin "):
            file = line.removeprefix("# begin ").strip()
            file_line = number
            repeats = []
        elif line.startswith("# repeat "):
            std, count = 0.0, 1
        elif line.startswith("# end "):
            ended = line.removeprefix("# end ").strip()
            if ended != file:
                raise ValueError(
                    f"{where}: got the end of {ended}, but {file or 'no model'} has begun"
                )
            if not repeats:
                raise ValueError(
                    f"{path}:{file_line}: {file} has no times; "
                    "see the output of benchmark_model there"
                )
            yield file, _median(repeats)
            file = ""
        elif file and (match := _MEAN.search(line)):
            mean = csv_files.positive(match[1], where, "Inference (avg)", "")
            repeats.append((mean, std, count))
        elif file and (match := _RUNS.search(line)):
            # There is no std where all runs took the same time.
            std = csv_files.nonnegative(match[2] or "0", where, "std", "")
            count = int(match[1])


def _median(repeats: Sequence[tuple[float, float, int]]) -> dict[str, str]:
    """Median mean, deviation of the repeat that has it, and number of all runs.

    Args:
      repeats: (mean, standard deviation, runs) of each repeat, in microseconds.

    Returns:
      Cells of a measurement, in ms.
    """
    middle = sorted(repeats)[(len(repeats) - 1) // 2]
    ms = statistics.median(mean for mean, _, _ in repeats) / 1e3
    return {
        "ms": f"{ms:.6g}",
        "std_ms": f"{middle[1] / 1e3:.3g}",
        "count": str(sum(count for *_, count in repeats)),
    }


def _only_results(folder: pathlib.Path) -> pathlib.Path:
    paths = [folder / name for name in RESULTS.values() if (folder / name).exists()]
    if len(paths) != 1:
        expected = " or ".join(RESULTS.values())
        raise ValueError(
            f"{folder}: has {len(paths)} files of results, expected {expected}; "
            "run the kit's script first"
        )
    return paths[0]
